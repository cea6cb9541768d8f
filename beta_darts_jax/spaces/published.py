"""Cells of published papers, most of them written as in the genotypes.py of DARTS: (operation, source node)."""

import difflib
import re

from beta_darts_jax.spaces.forms import abbreviate
from beta_darts_jax.spaces.genotype import Genotype

_TEXTS = {
  # NASNet-A: Zoph et al., CVPR 2018
  'NASNET': """Genotype(
    normal=[
      ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),
      ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0),
      ('sep_conv_3x3', 1), ('skip_connect', 1),
    ], normal_concat=range(2, 7),
    reduce=[
      ('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0),
      ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2),
      ('sep_conv_3x3', 2), ('max_pool_3x3', 1),
    ], reduce_concat=range(4, 7))""",
  # AmoebaNet-A: Real et al., AAAI 2019
  'AMOEBANET': """Genotype(
    normal=[
      ('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),
      ('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1),
      ('skip_connect', 0), ('avg_pool_3x3', 1),
    ], normal_concat=range(4, 7),
    reduce=[
      ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2),
      ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1),
      ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5),
    ], reduce_concat=[3, 4, 6])""",
  # DARTS, first order: Liu et al., ICLR 2019
  'DARTS_V1': """Genotype(
    normal=[
      ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
      ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
      ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0),
    ], reduce_concat=range(2, 6))""",
  # DARTS, second order: Liu et al., ICLR 2019
  'DARTS_V2': """Genotype(
    normal=[
      ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
      ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
      ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1),
    ], reduce_concat=range(2, 6))""",
  # SNAS, mild constraint: Xie et al., ICLR 2019
  'SNAS': """Genotype(
    normal=[
      ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 1),
      ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2),
      ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('dil_conv_5x5', 2),
    ], reduce_concat=range(2, 6))""",
  # P-DARTS: Chen et al., ICCV 2019
  'P_DARTS': """Genotype(
    normal=[
      ('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1),
      ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4),
    ], normal_concat=range(2, 6),
    reduce=[
      ('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2),
      ('max_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3),
    ], reduce_concat=range(2, 6))""",
  # PC-DARTS, searched on CIFAR-10: Xu et al., ICLR 2020
  'PC_DARTS_CIFAR': """Genotype(
    normal=[
      ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1),
      ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2),
      ('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2),
    ], reduce_concat=range(2, 6))""",
  # PC-DARTS, searched on ImageNet: Xu et al., ICLR 2020
  'PC_DARTS_IMAGENET': """Genotype(
    normal=[
      ('skip_connect', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('skip_connect', 1),
      ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('dil_conv_5x5', 4),
    ], normal_concat=range(2, 6),
    reduce=[
      ('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), ('max_pool_3x3', 1),
      ('sep_conv_3x3', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 3),
    ], reduce_concat=range(2, 6))""",
  # DrNAS, searched on CIFAR-10: Chen et al., ICLR 2021
  'DRNAS_CIFAR10': """Genotype(
    normal=[
      ('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2),
      ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2), ('dil_conv_5x5', 3),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_5x5', 2), ('sep_conv_5x5', 1),
      ('sep_conv_5x5', 1), ('dil_conv_5x5', 3), ('skip_connect', 4), ('sep_conv_5x5', 1),
    ], reduce_concat=range(2, 6))""",
  # DrNAS, searched on ImageNet: Chen et al., ICLR 2021
  'DRNAS_IMAGENET': """Genotype(
    normal=[
      ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
      ('sep_conv_3x3', 0), ('dil_conv_3x3', 3), ('skip_connect', 0), ('sep_conv_3x3', 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2),
      ('sep_conv_3x3', 0), ('sep_conv_3x3', 2), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1),
    ], reduce_concat=range(2, 6))""",
  # SmoothDARTS with random smoothing: Chen and Hsieh, ICML 2020
  'SDARTS_RS': """Genotype(
    normal=[
      ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('skip_connect', 0),
      ('sep_conv_3x3', 3), ('skip_connect', 1), ('sep_conv_3x3', 1), ('dil_conv_3x3', 2),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
      ('dil_conv_5x5', 3), ('max_pool_3x3', 0), ('sep_conv_3x3', 2), ('sep_conv_5x5', 3),
    ], reduce_concat=range(2, 6))""",
  # SmoothDARTS with adversarial perturbation: Chen and Hsieh, ICML 2020
  'SDARTS_ADV': """Genotype(
    normal=[
      ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0),
      ('sep_conv_5x5', 0), ('dil_conv_3x3', 3), ('dil_conv_3x3', 4), ('skip_connect', 0),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
      ('skip_connect', 3), ('skip_connect', 2), ('skip_connect', 2), ('sep_conv_5x5', 4),
    ], reduce_concat=range(2, 6))""",
  # GDAS: Dong and Yang, CVPR 2019
  'GDAS': """Genotype(
    normal=[
      ('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('sep_conv_5x5', 2),
      ('sep_conv_3x3', 3), ('skip_connect', 0), ('sep_conv_5x5', 4), ('sep_conv_3x3', 3),
    ], normal_concat=range(2, 6),
    reduce=[
      ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('sep_conv_5x5', 2), ('sep_conv_5x5', 1),
      ('dil_conv_5x5', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_5x5', 1),
    ], reduce_concat=range(2, 6))""",
  # DARTS-, the best of five searches on CIFAR-10: Chu et al., ICLR 2021
  'DARTS_MINUS': """Genotype(
    normal=[
      ('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('dil_conv_3x3', 2),
      ('skip_connect', 1), ('sep_conv_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 0),
    ], normal_concat=range(2, 6),
    reduce=[
      ('sep_conv_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
      ('skip_connect', 2), ('skip_connect', 3), ('skip_connect', 2), ('skip_connect', 3),
    ], reduce_concat=range(2, 6))""",
  # Λ-DARTS on CIFAR-10, four searches (lambdadarts_corr_0 … 3 of the authors): Movahedi et al., ICLR 2023
  'LAMBDA_DARTS_0': """Genotype(
    normal=[
      ('sep_conv_5x5', 0), ('skip_connect', 1), ('sep_conv_3x3', 2), ('sep_conv_5x5', 1),
      ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('dil_conv_3x3', 2), ('max_pool_3x3', 0),
    ], normal_concat=range(2, 6),
    reduce=[
      ('skip_connect', 1), ('skip_connect', 0), ('max_pool_3x3', 0), ('dil_conv_3x3', 2),
      ('dil_conv_5x5', 3), ('dil_conv_5x5', 1), ('skip_connect', 1), ('sep_conv_5x5', 2),
    ], reduce_concat=range(2, 6))""",
  'LAMBDA_DARTS_1': """Genotype(
    normal=[
      ('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),
      ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1),
      ('max_pool_3x3', 0), ('dil_conv_5x5', 3), ('dil_conv_5x5', 4), ('dil_conv_5x5', 3),
    ], reduce_concat=range(2, 6))""",
  'LAMBDA_DARTS_2': """Genotype(
    normal=[
      ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0),
      ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 4), ('dil_conv_3x3', 3),
    ], normal_concat=range(2, 6),
    reduce=[
      ('skip_connect', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1),
      ('dil_conv_5x5', 3), ('max_pool_3x3', 0), ('dil_conv_5x5', 3), ('dil_conv_5x5', 4),
    ], reduce_concat=range(2, 6))""",
  'LAMBDA_DARTS_3': """Genotype(
    normal=[
      ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 1),
      ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4), ('max_pool_3x3', 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('skip_connect', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), ('sep_conv_3x3', 1),
      ('dil_conv_5x5', 3), ('avg_pool_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 4),
    ], reduce_concat=range(2, 6))""",
  # FairDARTS a … g on CIFAR-10, as edges (operation, target node, source node): Chu et al., ECCV 2020
  'FAIR_DARTS_A': """Genotype(
    normal=[
      ('sep_conv_3x3', 2, 0), ('sep_conv_5x5', 2, 1), ('max_pool_3x3', 4, 0), ('sep_conv_3x3', 5, 0),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 2, 0), ('avg_pool_3x3', 2, 1), ('avg_pool_3x3', 3, 0), ('dil_conv_5x5', 3, 1),
      ('avg_pool_3x3', 4, 0), ('sep_conv_5x5', 4, 1), ('skip_connect', 5, 0), ('skip_connect', 5, 1),
    ], reduce_concat=range(2, 6))""",
  'FAIR_DARTS_B': """Genotype(
    normal=[
      ('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), ('sep_conv_3x3', 3, 1), ('dil_conv_3x3', 4, 0),
      ('sep_conv_5x5', 4, 1), ('dil_conv_5x5', 5, 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('skip_connect', 2, 0), ('dil_conv_3x3', 2, 1), ('skip_connect', 3, 0), ('dil_conv_3x3', 3, 1),
      ('max_pool_3x3', 4, 0), ('sep_conv_3x3', 4, 1), ('skip_connect', 5, 2), ('max_pool_3x3', 5, 0),
    ], reduce_concat=range(2, 6))""",
  'FAIR_DARTS_C': """Genotype(
    normal=[
      ('max_pool_3x3', 2, 0), ('sep_conv_5x5', 2, 1), ('dil_conv_3x3', 4, 0), ('dil_conv_5x5', 4, 2),
      ('skip_connect', 5, 3), ('sep_conv_3x3', 5, 0),
    ], normal_concat=range(2, 6),
    reduce=[
      ('dil_conv_3x3', 2, 1), ('dil_conv_5x5', 2, 0), ('dil_conv_3x3', 3, 0), ('sep_conv_3x3', 3, 1),
      ('sep_conv_5x5', 4, 0), ('sep_conv_5x5', 4, 3), ('sep_conv_5x5', 5, 0), ('skip_connect', 5, 1),
    ], reduce_concat=range(2, 6))""",
  'FAIR_DARTS_D': """Genotype(
    normal=[
      ('sep_conv_3x3', 2, 0), ('sep_conv_5x5', 2, 1), ('dil_conv_3x3', 3, 1), ('max_pool_3x3', 3, 0),
      ('dil_conv_3x3', 4, 0), ('dil_conv_3x3', 4, 1), ('sep_conv_3x3', 5, 0), ('dil_conv_5x5', 5, 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 2, 0), ('sep_conv_5x5', 2, 1), ('avg_pool_3x3', 3, 0), ('dil_conv_5x5', 3, 2),
      ('dil_conv_3x3', 4, 3), ('avg_pool_3x3', 4, 0), ('avg_pool_3x3', 5, 0), ('skip_connect', 5, 3),
    ], reduce_concat=range(2, 6))""",
  'FAIR_DARTS_E': """Genotype(
    normal=[
      ('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), ('dil_conv_3x3', 4, 1), ('dil_conv_3x3', 4, 2),
      ('dil_conv_3x3', 5, 0), ('dil_conv_5x5', 5, 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 2, 1), ('max_pool_3x3', 2, 0), ('max_pool_3x3', 3, 1), ('max_pool_3x3', 3, 0),
      ('sep_conv_5x5', 4, 1), ('max_pool_3x3', 4, 0), ('avg_pool_3x3', 5, 0), ('dil_conv_5x5', 5, 1),
    ], reduce_concat=range(2, 6))""",
  'FAIR_DARTS_F': """Genotype(
    normal=[
      ('max_pool_3x3', 2, 0), ('sep_conv_3x3', 2, 1), ('dil_conv_3x3', 3, 1), ('sep_conv_5x5', 4, 1),
      ('sep_conv_3x3', 5, 0), ('sep_conv_3x3', 5, 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('max_pool_3x3', 2, 0), ('max_pool_3x3', 2, 1), ('max_pool_3x3', 3, 0), ('dil_conv_3x3', 3, 1),
      ('dil_conv_3x3', 4, 2), ('max_pool_3x3', 4, 0), ('max_pool_3x3', 5, 0), ('sep_conv_3x3', 5, 1),
    ], reduce_concat=range(2, 6))""",
  'FAIR_DARTS_G': """Genotype(
    normal=[
      ('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), ('skip_connect', 4, 3), ('sep_conv_5x5', 4, 1),
      ('dil_conv_3x3', 5, 0), ('sep_conv_3x3', 5, 1),
    ], normal_concat=range(2, 6),
    reduce=[
      ('avg_pool_3x3', 2, 1), ('skip_connect', 2, 0), ('skip_connect', 3, 2), ('max_pool_3x3', 3, 1),
      ('sep_conv_5x5', 4, 3), ('max_pool_3x3', 4, 0), ('dil_conv_3x3', 5, 1), ('dil_conv_3x3', 5, 4),
    ], reduce_concat=range(2, 6))""",
  # β-DARTS, searched on NAS-Bench-201 (cell 9930 of the benchmark): Ye et al., CVPR 2022
  'BETA_DARTS': '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|',
  # MobileNetV2 1.0, not searched, as a chain of the space `mobile`: Sandler et al., CVPR 2018, table 2
  'MOBILENET_V2': ' | '.join(
    ' > '.join(['mb_conv_3x3_e6'] * layers + ['skip_connect'] * (most - layers))
    for layers, most in ((2, 4), (3, 4), (4, 4), (3, 4), (3, 4), (1, 1))
  ),
}

PUBLISHED: dict[str, Genotype] = {name: Genotype.parse(text) for name, text in _TEXTS.items()}


def _letters(name: str) -> str:
  spelled = re.sub('-$', 'minus', name.lower()).replace('β', 'beta').replace('λ', 'lambda')
  return re.sub('[^a-z0-9]', '', spelled)


_BY_LETTERS = {_letters(name): name for name in PUBLISHED}


def published_name(text: str) -> str | None:
  """Returns the name of the published cell that `text` means, or None.

  Case, hyphens and underscores do not count, but DARTS- is DARTS_MINUS.
  """
  return _BY_LETTERS.get(_letters(text))


def near_names(text: str) -> list[str]:
  """Returns the published names that begin like `text`, or that differ from it by little.

  Example:
    >>> near_names('drnas'), near_names('PC_DART_CIFAR'), near_names('resnet')
    (['DRNAS_CIFAR10', 'DRNAS_IMAGENET'], ['PC_DARTS_CIFAR'], [])
  """
  letters = _letters(text)
  begin = [key for key in _BY_LETTERS if len(letters) > 3 and (key.startswith(letters) or letters.startswith(key))]
  return [_BY_LETTERS[key] for key in begin or difflib.get_close_matches(letters, _BY_LETTERS, n=1, cutoff=0.85)]


def short_name(genotype: Genotype) -> str:
  """Returns the name of a published genotype, or the beginning of its text. For messages."""
  names = [name for name, known in PUBLISHED.items() if known == genotype]
  return names[0] if names else abbreviate(str(genotype))
