import itertools

import numpy as np
import pytest

from beta_darts_jax import NAS_BENCH_201, Genotype, InputError
from beta_darts_jax.genotype import derive_every_edge

ARCH = '|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|'


def test_every_cell_round_trips():
  edges, candidates = NAS_BENCH_201.edges, NAS_BENCH_201.candidates('cell')
  texts = set()
  for choice in itertools.product(range(5), repeat=6):
    genotype = Genotype((derive_every_edge(np.eye(5)[list(choice)], edges, candidates),))
    assert genotype.normal.operations == tuple(candidates[0][k] for k in choice)
    assert NAS_BENCH_201.parse(str(genotype)) == genotype
    texts.add(str(genotype))
  assert len(texts) == 15_625


def test_text_by_eye():
  genotype = Genotype.parse(ARCH)
  assert genotype.normal.nodes[1] == (('nor_conv_3x3', 0), ('avg_pool_3x3', 1))
  assert str(genotype) == ARCH


def test_ties_go_to_the_first_operation():
  assert set(NAS_BENCH_201.derive({'cell': np.zeros((6, 5))}).normal.operations) == {'none'}


@pytest.mark.parametrize(
  'text, message',
  [
    ('', 'cannot read'),
    ('|a~0|+|b~0', 'cannot read'),
    ('|a~1|', 'nodes below'),
    (ARCH.replace('none', 'conv_9x9'), "'conv_9x9' is not one of none, skip_connect"),
    ('|none~0|+|none~0|none~1|', 'of 3 nodes, it has 1 of 2'),
  ],
)
def test_malformed_text_is_refused(text, message):
  with pytest.raises(InputError, match=message):
    NAS_BENCH_201.parse(text)
