"""Cells of published papers, written as in the genotypes.py of DARTS: (operation, source node), two edges per node."""

from beta_darts_jax.spaces.genotype import Genotype, abbreviate

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
}

PUBLISHED: dict[str, Genotype] = {name: Genotype.parse(text) for name, text in _TEXTS.items()}


def short_name(genotype: Genotype) -> str:
  """Returns the name of a published genotype, or the beginning of its text. For messages."""
  names = [name for name, known in PUBLISHED.items() if known == genotype]
  return names[0] if names else abbreviate(str(genotype))
