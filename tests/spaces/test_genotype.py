import itertools
import json

import numpy as np
import pytest

from beta_darts_jax import DARTS, NAS_BENCH_201, S2, Genotype, InputError
from beta_darts_jax.spaces.genotype import derive_every_edge, derive_two_per_node, published
from beta_darts_jax.spaces.space import SPACES

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


def test_two_edges_a_node_by_eye():
  """Node 2 keeps both edges, the heavier first; node 3 drops its lightest; `none` never counts, ties go down."""
  edges = [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
  betas = [[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.2, 0.4, 0.4]]
  cell = derive_two_per_node(betas, edges, [('none', 'skip_connect', 'sep_conv_3x3')] * 5, (2, 3))
  assert cell.nodes == ((('sep_conv_3x3', 1), ('skip_connect', 0)), (('skip_connect', 2), ('skip_connect', 1)))


@pytest.mark.parametrize('name', published())
def test_published_cells_round_trip_as_text_and_json(name):
  genotype = published()[name]
  for text in (str(genotype), json.dumps(genotype.to_json()), str(genotype).replace('range(2, 6)', '[2, 3, 4, 5]')):
    assert Genotype.parse(text) == genotype


def test_random_cells_of_every_space_round_trip():
  rng = np.random.default_rng(0)
  for space in SPACES.values():
    for _ in range(20):
      genotype = space.random_genotype(rng)
      assert space.parse(str(genotype)) == genotype
      again = space.derive(space.one_hot(genotype))  # of equal weights the lower edge comes first
      assert [sorted(cell.edges) for cell in again.cells] == [sorted(cell.edges) for cell in genotype.cells]


CELL = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], reduce=[('none', 0), ('none', 1)], reduce_concat=[2])"  # noqa: E501


@pytest.mark.parametrize(
  'text, message',
  [
    ('Genotype(', 'never closed'),
    ('Genotype(1)', 'have no names'),
    ('Genotype(normal=[])', 'it names normal'),
    ('Cell(normal=[])', r'no Genotype\(…\)'),
    ('{"normal": []}', 'it names normal'),
    ("__import__('os').system('true')", r'no Genotype\(…\)'),
    (CELL.replace("('skip_connect', 1)", "('skip_connect', 2)"), 'node 2 may only take from nodes below it'),
    (CELL.replace(", ('skip_connect', 1)", ''), 'normal has 1 edges, not two a node'),
    (CELL.replace("('skip_connect', 1)", "('skip_connect', 'x')"), r"an edge is \('operation', source\)"),
    (CELL.replace('normal_concat=[2]', 'normal_concat=[7]'), r'normal_concat is \[7\], allowed are nodes 2 … 2'),
    (
      CELL.replace('normal_concat=[2]', 'normal_concat=range(10**9)'),
      r'\(a part is no list, text in quotes or number\)',
    ),
    (CELL.replace('normal_concat=[2]', 'normal_concat=range(2, steps+2)'), r'\(steps is no list, text in quotes'),
  ],
)
def test_malformed_darts_text_is_refused(text, message):
  with pytest.raises(InputError, match=message):
    Genotype.parse(text)


@pytest.mark.parametrize(
  'space, name, message',
  [
    (DARTS, 'NASNET', 'allowed are 2 cell.s. of 4 nodes'),
    (S2, 'DARTS_V2', "'dil_conv_3x3' is not one of skip_connect, sep_conv_3x3"),
    (NAS_BENCH_201, 'DARTS_V2', 'allowed are 1 cell.s. of 3 nodes, it has 2 of 4, 4'),
  ],
)
def test_a_genotype_of_another_space_is_refused(space, name, message):
  with pytest.raises(InputError, match=message):
    space.check(published()[name])
