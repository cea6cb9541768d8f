"""The named methods of the configs of the spaces, and what these files do in the same way."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from beta_darts_jax.errors import InputError

Values = Mapping[str, Any]  # key of the config → value


class Method(NamedTuple):
  """A named method.

  Attributes:
    meaning: what it changes, in words.
    values: the values that it changes in every space. λ is 0, too, unless the name of the method starts with beta_.
  """

  meaning: str
  values: Mapping[str, Any] = {}


MORE_WEIGHT_DECAY = 81e-4  # of RobustDARTS (Zela et al., ICLR 2020)
_L2, _RS = {'search.weight_decay': MORE_WEIGHT_DECAY}, {'relaxation.perturbation': 'random'}
METHODS = {
  'beta_darts': Method('Beta-Decay'),
  'beta_darts_plus_plus': Method('Beta-Decay and flooding', {'search.flood_level': 0.3}),
  'beta_rdarts_l2': Method('Beta-Decay and more weight decay', _L2),
  'beta_sdarts_rs': Method('Beta-Decay and random perturbation of β in the weight step', _RS),
  'darts': Method('no Beta-Decay, first order'),
  'darts_second_order': Method('no Beta-Decay, exact second order', {'hypergradient.method': 'second_order'}),
  'rdarts_l2': Method('more weight decay', _L2),
  'sdarts_rs': Method('random perturbation of β in the weight step', _RS),
  'sdarts_adv': Method('adversarial perturbation of β in the weight step', {'relaxation.perturbation': 'adversarial'}),
  'pc_darts': Method(
    'a part of the channels, and edge weights',
    {'relaxation.partial_channels': 4, 'relaxation.edge_normalization': True},
  ),
  'gdas': Method('one sampled operation per edge', {'relaxation.sampling': 'gumbel', 'search.order': 'weights_first'}),
  'proxyless': Method(
    'two sampled operations per edge for α, one for the weights',
    {
      'relaxation.sampling': 'two_paths',
      'search.alpha_optimizer': 'alpha_adam_two_paths',
      'search.alpha_learning_rate': 1e-3,
      'search.alpha_betas': (0.0, 0.999),
      'search.alpha_weight_decay': 0.0,
      'search.order': 'weights_first',
    },
  ),
  'snas': Method('a soft sample of all operations', {'relaxation.sampling': 'soft_gumbel'}),
  'drnas': Method('β from a Dirichlet distribution', {'relaxation.sampling': 'pathwise_dirichlet'}),
  'darts_minus': Method('an auxiliary skip connection whose weight falls to 0', {'relaxation.auxiliary_skip': True}),
  'lambda_darts': Method(
    'alignment of the gradients of the cells',
    {
      'search.regularizers': ('lambda_darts',),
      'search.alignment_weight': 0.125,
      'search.alignment_schedule': 'linear_to_last',
      'search.order': 'weights_first',
    },
  ),
  'fair_darts': Method(
    'β = sigmoid(α) and the zero-one loss',
    {'relaxation.sampling': 'sigmoid', 'search.regularizers': ('zero_one',), 'search.zero_one_weight': 10.0},
  ),
  'darts_pt': Method(
    'selection of the cell by perturbation',
    {'derivation.method': 'perturbation', 'derivation.train_alpha': True},
  ),
  'oles': Method(
    'the weights of an operation stop when their two gradients disagree',
    {'search.weight_optimizer': 'weight_sgd_oles'},
  ),
}
DARTS_PT_OWN: Values = {
  'derivation.tune_epochs': 5, 'derivation.learning_rate': 0.0025, 'derivation.reset_optimizer': True,
  'derivation.images': 0, 'derivation.augment': True,
}  # fmt: skip
WITHOUT_OWN = {  # why a method has no own protocol in the spaces with cells
  'drnas': 'its supernet grows and loses operations during the search, which is not implemented',
  **dict.fromkeys(('darts', 'darts_second_order', 'rdarts_l2', 'proxyless', 'snas'), 'its protocol is not taken over'),
  **dict.fromkeys((name for name in METHODS if name.startswith('beta_')), 'the common protocol is that of β-DARTS'),
}


class Choice(NamedTuple):
  """What the argument of a config file asks for."""

  dataset: str
  method: str
  is_proxy: bool
  is_own: bool


def choose(
  file: str,
  argument: str,
  datasets: Iterable[str],
  own: Mapping[str, Values],
  without_own: Mapping[str, str],
  excluded: Mapping[str, str] = MappingProxyType({}),
) -> Choice:
  """Reads `DATASET[,proxy][,METHOD]` or `DATASET,METHOD,own`.

  Args:
    file: name of the config file.
    argument: the text after its colon.
    datasets: allowed names.
    own: {method: the values that `own` changes}.
    without_own: {method: why its own protocol is missing}.
    excluded: {method: why the space of the file does not have it}.

  Raises:
    InputError: the argument has another form, or an unknown name.
  """
  choice = _parse(argument)
  methods = [name for name in METHODS if name not in excluded]
  if choice.dataset in datasets and choice.method in (own if choice.is_own else methods):
    return choice
  forms = 'DATASET[,proxy][,METHOD]' + (' or DATASET,METHOD,own' if own else '')
  of_own = f'; own is one of {", ".join(own)}' if own else ''
  reasons = {**(without_own if choice.is_own else {}), **excluded}
  reason = f' ({choice.method}: {reasons[choice.method]})' if choice.method in reasons else ''
  raise InputError(
    f'{file}:{argument}: expected {forms} with DATASET one of {", ".join(datasets)} and METHOD one of '
    f'{", ".join(methods)}{of_own}{reason}.{_similar_words(argument, [*datasets, *METHODS, "proxy", "own"])}'
  )


def _parse(argument: str) -> Choice:
  """Reads the form of the argument. What has no known form becomes the name of a method."""
  dataset, *words = argument.split(',')
  match words:
    case [method, 'own']:
      return Choice(dataset, method, is_proxy=False, is_own=True)
    case ['proxy', *names]:
      return Choice(dataset, ','.join(names) or 'beta_darts', is_proxy=True, is_own=False)
  return Choice(dataset, ','.join(words) or 'beta_darts', is_proxy=False, is_own=False)


def _similar_words(argument: str, known: list[str]) -> str:
  """Returns the sentence that suggests known words for the unknown ones; '' if none is similar."""
  unknown = [word for word in argument.split(',') if word not in known]
  similar = [match for word in unknown for match in get_close_matches(word, known, n=1)]
  return f' Did you mean {", ".join(similar)}?' if similar else ''


def apply_method(config: ConfigDict, choice: Choice, here: Mapping[str, Values], own: Mapping[str, Values]) -> None:
  """Sets the data set and the values of the method.

  Args:
    config: the config of the space, with its name.
    choice: data set, method and protocol.
    here: {method: its values in this space alone}.
    own: {method: the values of its own protocol}.
  """
  config.name += '' if choice.method == 'beta_darts' else f'_{choice.method}'
  config.data.source = {'svhn': 'svhn_cropped'}.get(choice.dataset, choice.dataset)
  config.data.flip = choice.dataset != 'svhn'  # a mirrored digit is another digit
  if not choice.method.startswith('beta_'):
    config.search.beta_decay_weight = 0.0
  config.update_from_flattened_dict({**METHODS[choice.method].values, **here.get(choice.method, {})})
  if choice.is_own:
    config.name += '_own'
    config.update_from_flattened_dict(own[choice.method])


def shrink(config: ConfigDict) -> None:
  """Sets what the proxies have in common: eight channels and ten epochs of images of 16×16."""
  search = config.search
  config.name += '_proxy'
  config.data.image_size, config.data.crop_padding = 16, 2
  config.supernet.channels = 8
  search.alpha_warmup_epochs = search.alpha_warmup_epochs * 10 // search.epochs
  search.epochs = 10
