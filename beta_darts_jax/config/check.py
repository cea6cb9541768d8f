"""What is allowed for every value of a config, and what is said where something else is given."""

import difflib
import math
import re

from ml_collections import ConfigDict

from beta_darts_jax.config.schema import DEFAULTS, VARIED, is_asked_for, leaves, reference
from beta_darts_jax.errors import InputError
from beta_darts_jax.method.hypergradients import HYPERGRADIENTS, SOLVERS
from beta_darts_jax.method.regularizers import REGULARIZERS, SCHEDULES
from beta_darts_jax.method.relaxations import PERTURBATIONS, SAMPLINGS
from beta_darts_jax.spaces.space import SPACES

# numbers that must be above 0; the others may be 0
_POSITIVE = (
  'supernet.channels',
  'supernet.cells_per_stage',
  'search.epochs',
  'search.batch_size',
  'search.steps_per_dispatch',
  'search.clip_norm',
  'hypergradient.distance',
  'hypergradient.terms',
  'hypergradient.rate',
  'relaxation.temperature',
  'relaxation.temperature_min',
  'relaxation.partial_channels',
  'early_stopping.eigenvalue_window',
  'derivation.images',
  'diagnostics.images',
  'population.seeds',
  'benchmark.kendall_images',
  'retrain.channels',
  'retrain.cells_per_stage',
  'retrain.batch_size',
  'retrain.layers',
  'supernet.layers',
  'network.channels',
  'network.layers',
  'network.cells_per_stage',
  'train.epochs',
  'train.batch_size',
  'train.steps_per_dispatch',
)
CHOICES = {
  'data.part': ('all', 'first half', 'second half'),
  'supernet.dtype': ('float32', 'bfloat16'),
  'network.dtype': ('float32', 'bfloat16'),
  'search.beta_decay_schedule': tuple(SCHEDULES),
  'search.l2_schedule': tuple(SCHEDULES),
  'search.alignment_schedule': tuple(SCHEDULES),
  'hypergradient.method': tuple(HYPERGRADIENTS),
  'hypergradient.solver': tuple(SOLVERS),
  'relaxation.sampling': tuple(SAMPLINGS),
  'relaxation.perturbation': tuple(PERTURBATIONS),
  'derivation.epoch': ('last', 'best'),
  'derivation.method': ('argmax', 'perturbation'),
  'network.stem': ('cifar', 'imagenet', 'nas_bench_201'),
  'train.schedule': ('cosine_epochs', 'cosine_steps', 'linear_tail'),
  'parallel.cluster': ('auto', 'none'),
  'parallel.strategy': ('auto', 'map', 'vmap'),
  'retrain.schedule': ('cosine_epochs', 'cosine_steps', 'linear_tail'),
}
# half-open intervals [0, end); other whole numbers are below 2³¹
_BELOW = {
  'train.label_smoothing': 1,
  'train.drop_path_rate': 1,
  'train.ema_decay': 1,
  'retrain.drop_path_rate': 1,
  'early_stopping.eigenvalue_ratio': 1,
  'parallel.cpu_devices': 129,  # each takes threads and memory, as do the following
  'data.image_size': 4097,
  'supernet.channels': 4097,
  'supernet.cells_per_stage': 257,
  'supernet.layers': 257,
  'network.channels': 4097,
  'network.layers': 257,
  'network.cells_per_stage': 257,
  'space.nodes': 33,
  'population.seeds': 10_001,
  'search.seed': 2**32,
  'train.seed': 2**32,
}


def check(config: ConfigDict) -> ConfigDict:
  """Returns `config` locked if every value is allowed; all keys of its task's defaults and no other.

  Raises:
    InputError: names the key, what was given and what is allowed.
  """
  _check_tree(config, reference(config), '', config.get('task', 'search'))
  for name, value in leaves(config):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
      positive = name in _POSITIVE
      if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise InputError(f'config.{name}={value!r}: allowed is a number {"> 0" if positive else "≥ 0"}')
      end = _BELOW.get(name, 2**31 if isinstance(value, int) else math.inf)
      if value >= end:
        raise InputError(f'config.{name}={value!r}: allowed is a number below {end}')
    if value not in CHOICES.get(name, (value,)):
      raise InputError(f'config.{name}={value!r}: allowed are {", ".join(CHOICES[name])}')
  if not re.fullmatch(r'[\w.-]+', config.name):
    raise InputError(f'config.name={config.name!r}: allowed are letters, digits, _, - and . (it names a folder)')
  if config.task == 'search':
    if not all(isinstance(name, str) for name in config.space.operations):
      raise InputError(f'config.space.operations={config.space.operations!r}: allowed is a tuple of texts')
    _check_method(config)
    _check_population(config)
  if config.task == 'search' and not all(0 <= beta < 1 for beta in config.search.alpha_betas):
    raise InputError(f'config.search.alpha_betas={config.search.alpha_betas}: allowed are two numbers in [0, 1)')
  step_range(config.profile)
  if not 0 < config.data.fraction <= 1:
    raise InputError(f'config.data.fraction={config.data.fraction}: allowed is a number in (0, 1]')
  if config.task == 'retrain' and not 0 < config.data.crop_scale[0] <= config.data.crop_scale[1] <= 1:
    raise InputError(f'config.data.crop_scale={config.data.crop_scale}: allowed are two rising numbers in (0, 1]')
  if config.task == 'retrain' and not all(0 <= strength <= 1 for strength in config.data.color_jitter):
    raise InputError(f'config.data.color_jitter={config.data.color_jitter}: allowed are four numbers in [0, 1]')
  if config.task == 'retrain' and config.train.schedule == 'linear_tail' and config.train.epochs <= 5:
    raise InputError(f'config.train.epochs={config.train.epochs}: linear_tail allows 6 or more')
  return config.lock()


def step_range(text: str) -> tuple[int, ...]:
  """'START:STOP' → (START, STOP), rising step numbers; '' → (). Raises InputError."""
  match = re.fullmatch(r'(\d+):(\d+)', text)
  steps = tuple(map(int, match.groups())) if match else ()
  if text and not (steps and steps[0] < steps[1]):
    raise InputError(f"config.profile={text!r}: allowed is '', or START:STOP with two rising numbers of steps")
  return steps


def check_profile(text: str, steps: int) -> None:
  """Raises InputError where a trace of steps `text` ends after the run's last step."""
  if max(step_range(text), default=0) > steps:
    raise InputError(f'config.profile={text!r}: allowed are steps up to {steps}, all that the run has')


def _check_method(config):
  """What the parts of the method ask of each other."""
  names = config.search.regularizers
  if not all(isinstance(name, str) and name in REGULARIZERS for name in names) or len(set(names)) < len(names):
    raise InputError(f'config.search.regularizers={names!r}: allowed are different ones of {", ".join(REGULARIZERS)}')
  for weight in sorted({regularizer.weight for regularizer in REGULARIZERS.values()}):
    allowed = [name for name, regularizer in REGULARIZERS.items() if regularizer.weight == weight]
    given = config.population[weight] or (weight != 'beta_decay_weight' and config.search[weight])
    if given and not set(names) & set(allowed):
      raise InputError(
        f'config.{"population" if config.population[weight] else "search"}.{weight}={given}: allowed with '
        f'{" or ".join(allowed)} in config.search.regularizers'
      )
    if weight != 'beta_decay_weight' and set(names) & set(allowed) and not given:
      raise InputError(f'config.search.{weight}=0: allowed is a number > 0 with {" or ".join(allowed)}')
  epochs, warmup = config.search.epochs, config.search.alpha_warmup_epochs
  if warmup >= epochs:
    raise InputError(f'config.search.alpha_warmup_epochs={warmup}: allowed is less than config.search.epochs={epochs}')
  last = config.search.alpha_epochs
  if last and not warmup < last <= epochs:
    raise InputError(
      f'config.search.alpha_epochs={last}: allowed is 0, or more than config.search.alpha_warmup_epochs={warmup} up to '
      f'config.search.epochs={epochs}'
    )
  factors = config.search.alpha_rate_factors
  if factors and (len(factors) != epochs or not all(factor >= 0 for factor in factors)):
    raise InputError(
      f'config.search.alpha_rate_factors={factors}: allowed is (), or a number >= 0 for each of '
      f'config.search.epochs={epochs}'
    )
  parts, channels = config.relaxation.partial_channels, config.supernet.channels
  if channels % parts or (parts > 1 and config.space.name != 'nas_bench_201' and channels // parts < 2):
    raise InputError(
      f'config.relaxation.partial_channels={parts}: allowed are divisors of config.supernet.channels={channels}'
      + ('' if config.space.name == 'nas_bench_201' else ' that leave two or more')
    )
  if config.relaxation.auxiliary_skip and config.space.auxiliary_skip:
    raise InputError('config.relaxation.auxiliary_skip=True: allowed with config.space.auxiliary_skip=False')
  stopping, derivation = config.early_stopping, config.derivation
  if stopping.eigenvalue_ratio and not config.diagnostics.every_epochs:
    raise InputError(
      f'config.early_stopping.eigenvalue_ratio={stopping.eigenvalue_ratio}: allowed with diagnostics.every_epochs > 0'
    )
  every = config.diagnostics.every_epochs
  if stopping.eigenvalue_ratio and epochs // every < 2 * stopping.eigenvalue_window:
    raise InputError(
      f'config.early_stopping.eigenvalue_window={stopping.eigenvalue_window}: allowed is up to half of the '
      f'{epochs // every} epochs with diagnostics'
    )
  if every > epochs:
    raise InputError(f'config.diagnostics.every_epochs={every}: allowed is up to config.search.epochs={epochs}')
  if config.diagnostics.kendall_cells and not every:
    raise InputError(
      f'config.diagnostics.kendall_cells={config.diagnostics.kendall_cells}: allowed with diagnostics.every_epochs > 0'
    )
  if derivation.method == 'perturbation' and (
    derivation.epoch == 'best' or stopping.eigenvalue_ratio or (stopping.skips and is_asked_for(config.population))
  ):
    raise InputError(
      "config.derivation.method='perturbation': allowed with derivation.epoch='last', without early stopping on "
      'eigenvalues, and of a population without early stopping'
    )


def _check_population(config):
  for name in VARIED:
    for value in config.population[name]:
      if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise InputError(f'config.population.{name}={config.population[name]!r}: allowed is a tuple of numbers ≥ 0')
    if len(set(config.population[name])) < len(config.population[name]):
      raise InputError(f'config.population.{name}={config.population[name]!r}: allowed are values that differ')
  if 0 in config.population.clip_norm:
    raise InputError(f'config.population.clip_norm={config.population.clip_norm}: allowed is a tuple of numbers > 0')
  if config.search.seed + config.population.seeds > 2**32:
    raise InputError(f'config.population.seeds={config.population.seeds}: allowed are seeds below {2**32}')
  if config.retrain.epochs and is_asked_for(config.population):
    raise InputError(
      f'config.retrain.epochs={config.retrain.epochs}: allowed is 0 with a population, whose members/K can be retrained'
    )


def _check_tree(config, reference, prefix, task):
  for name in sorted(set(config.keys()) - set(reference.keys())):
    raise InputError(unknown(f'{prefix}{name}', task))
  for name in sorted(set(reference.keys()) - set(config.keys())):
    raise InputError(f'config.{prefix}{name} is missing: start from beta_darts_jax.config.default()')
  for name, expected in reference.items():
    value = config[name]
    if isinstance(expected, ConfigDict) and isinstance(value, ConfigDict):
      _check_tree(value, expected, f'{prefix}{name}.', task)
    elif not _same_type(value, expected):
      raise InputError(f'config.{prefix}{name}={value!r}: allowed is {describe(expected)}')


_READ_IF = (  # keys, and what they are read with
  (('hypergradient.distance',), 'hypergradient.method', ('finite_difference',)),
  (
    tuple(f'hypergradient.{name}' for name in ('solver', 'terms', 'rate', 'damping')),
    'hypergradient.method',
    ('implicit',),
  ),
  (('hypergradient.rate',), 'hypergradient.solver', ('neumann',)),
  (('relaxation.temperature', 'relaxation.temperature_min'), 'relaxation.sampling', ('gumbel',)),
  (('relaxation.epsilon', 'relaxation.epsilon_max'), 'relaxation.perturbation', ('random', 'adversarial')),
  (
    tuple(f'derivation.{name}' for name in ('tune_epochs', 'learning_rate', 'images')),
    'derivation.method',
    ('perturbation',),
  ),
  (
    ('supernet.layers', 'retrain.layers'),
    'space.name',
    tuple(name for name, space in SPACES.items() if space.skeleton == 'darts'),
  ),
  (('supernet.cells_per_stage', 'retrain.cells_per_stage'), 'space.name', ('nas_bench_201',)),
  (('network.layers',), 'network.stem', ('cifar', 'imagenet')),
  (('network.cells_per_stage',), 'network.stem', ('nas_bench_201',)),
)


def without_effect(config: ConfigDict) -> list[str]:
  """What is to be said of values that are not the defaults and that nothing reads, beside the others."""
  values, defaults = dict(leaves(config)), dict(leaves(reference(config)))
  said: dict[str, str] = {}
  for names, other, allowed in _READ_IF:
    for name in names:
      if name in values and values[name] != defaults[name] and values[other] not in allowed:
        message = f'config.{name}={values[name]!r} has no effect: it is read with config.{other}={" or ".join(allowed)}'
        said.setdefault(name, message)
  return [*said.values()]


def unknown(key: str, task: str) -> str:
  """What is said of a dotted `key` that the configs of `task` do not have."""
  group, prefix, last = DEFAULTS[task](), 'config.', key.split('.')[-1]
  varied = {f'population.{name}' for name in VARIED}  # which take tuples
  meant = [f'config.{name}' for name, _ in leaves(group) if name.split('.')[-1] == last and name not in varied]
  for part in key.split('.'):
    if part not in group:
      near = difflib.get_close_matches(part, group.keys(), n=1)
      meant = [prefix + name for name in near if not (meant and isinstance(group[name], ConfigDict))] + meant
      break
    group, prefix = group[part], f'{prefix}{part}.'
  elsewhere = [f'it is of the task {other}; ' for other in DEFAULTS if key in dict(leaves(DEFAULTS[other]()))]
  hint = ''.join(elsewhere) + (f'did you mean {" or ".join(meant)}? ' if meant else '')
  return f'unknown config.{key}: {hint}allowed are {", ".join(sorted(group.keys()))}'


def _same_type(value, expected):
  if isinstance(expected, tuple) and all(isinstance(part, str) for part in expected):  # as many as one likes
    return isinstance(value, tuple)
  if isinstance(expected, tuple):
    same_length = isinstance(value, tuple) and len(value) == len(expected)
    return same_length and all(map(_same_type, value, expected))
  if isinstance(expected, float):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
  return type(value) is type(expected)


def describe(expected) -> str:
  """What a value of the type of `expected` is called in messages."""
  if isinstance(expected, ConfigDict):
    return f'a group of {", ".join(sorted(expected.keys()))}'
  if isinstance(expected, tuple) and all(isinstance(part, str) for part in expected):
    return 'a tuple'
  if isinstance(expected, tuple):
    return f'a tuple of {len(expected)}: ({", ".join(describe(e) for e in expected)})'
  names = {'bool': 'True or False', 'int': 'an integer', 'float': 'a number', 'str': 'a text'}
  return names[type(expected).__name__]
