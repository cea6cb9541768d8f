import itertools
import json

import numpy as np
import pytest

from beta_darts_jax import DARTS, NAS_BENCH_201, S2, Genotype, InputError, SearchSpace
from beta_darts_jax.spaces.genotype import derive_every_edge, derive_two_per_node
from beta_darts_jax.spaces.lookup import find_genotype
from beta_darts_jax.spaces.published import PUBLISHED, short_name
from beta_darts_jax.spaces.space import SPACES

ARCH = '|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|'


def test_all_cells_of_nas_bench_201_round_trip():
  edges, candidates = NAS_BENCH_201.edges, NAS_BENCH_201.candidates('cell')
  texts = set()
  for choice in itertools.product(range(5), repeat=6):
    genotype = Genotype((derive_every_edge(np.eye(5)[list(choice)], edges, candidates),))
    assert genotype.normal.operations == tuple(candidates[0][k] for k in choice)
    assert NAS_BENCH_201.parse(str(genotype)) == genotype
    texts.add(str(genotype))
  assert len(texts) == 15_625


def test_arch_string_by_eye():
  genotype = Genotype.parse(ARCH)
  assert genotype.normal.nodes[1] == (('nor_conv_3x3', 0), ('avg_pool_3x3', 1))
  assert str(genotype) == ARCH


def test_derive_every_edge_takes_the_first_of_equal_operations():
  assert set(NAS_BENCH_201.derive({'cell': np.zeros((6, 5))}).normal.operations) == {'none'}


@pytest.mark.parametrize(
  'text, message',
  [
    ('', 'cannot read'),
    ('|a~0|+|b~0', 'cannot read'),
    ('|a~1|', 'the inputs of node 1 must be nodes 0 … 0'),
    (ARCH.replace('none', 'conv_9x9'), "'conv_9x9' is not one of none, skip_connect"),
    ('|none~0|+|none~0|none~1|', 'expected 1 cell.s. of 3 nodes, it has 1 of 2'),
  ],
)
def test_malformed_arch_strings_are_refused(text, message):
  with pytest.raises(InputError, match=message):
    NAS_BENCH_201.parse(text)


def test_a_chain_by_eye():
  space = SearchSpace('two', 'mobile', nodes=2, operations=('a', 'b', 'skip_connect'))
  betas = {'normal': np.eye(3)[[2, 0, 1, 2, 0]], 'reduce': np.eye(2)[[0, 1, 0, 0, 1, 1]]}
  text = 'a > skip_connect | b > a | a > b | a > skip_connect | b > a | b'
  genotype = space.derive(betas)
  assert str(genotype) == text and genotype.skeleton == 'mobile'
  for given in (text, text.replace(' ', ''), f'epoch 3  cell  {text}  skips 2'):
    assert space.parse(given) == genotype
  np.testing.assert_array_equal(space.one_hot(genotype)['normal'], betas['normal'])
  with pytest.raises(InputError, match=r'expected 6 cell.s. of 2 or 1 nodes, it has 5 of 2, 2, 2, 2, 2'):
    space.parse(text.rpartition(' | ')[0])
  with pytest.raises(InputError, match="'skip_connect' is not one of a, b"):
    space.parse(text.replace('a >', 'skip_connect >', 1))
  with pytest.raises(InputError, match='holds 2 different cells'):
    space.parse(f'{text} and {text.replace("b > a", "b > b")}')


def test_derive_two_per_node_by_eye():
  """Node 2 keeps both edges, the stronger first; node 3 keeps the two strongest. Weights of `none` do not count."""
  edges = [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
  betas = [[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.2, 0.4, 0.4]]
  cell = derive_two_per_node(betas, edges, [('none', 'skip_connect', 'sep_conv_3x3')] * 5, (2, 3))
  assert cell.nodes == ((('sep_conv_3x3', 1), ('skip_connect', 0)), (('skip_connect', 2), ('skip_connect', 1)))


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_cells_round_trip_as_text(name):
  assert Genotype.parse(str(PUBLISHED[name])) == PUBLISHED[name]


@pytest.mark.parametrize('name', ['NASNET', 'AMOEBANET', 'DARTS_V2'])
def test_published_cells_round_trip_as_json(name):
  genotype = PUBLISHED[name]
  tree = {}
  for part, cell in zip(('normal', 'reduce'), genotype.cells, strict=True):
    tree |= {part: list(itertools.chain(*cell.nodes)), f'{part}_concat': cell.concat}
  for text in (json.dumps(tree), str(genotype).replace('range(2, 6)', '[2, 3, 4, 5]')):
    assert Genotype.parse(text) == genotype


def test_random_cells_of_every_space_round_trip():
  rng = np.random.default_rng(0)
  for space in SPACES.values():
    for _ in range(20):
      genotype = space.random_genotype(rng)
      assert space.parse(str(genotype)) == genotype
      again = space.derive(space.one_hot(genotype))  # the order of edges of equal weight may differ
      assert [sorted(cell.edges) for cell in again.cells] == [sorted(cell.edges) for cell in genotype.cells]


CELL = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], reduce=[('none', 0), ('none', 1)], reduce_concat=[2])"  # noqa: E501


@pytest.mark.parametrize(
  'text, message',
  [
    ('Genotype(', 'never closed'),
    ('Genotype(1)', 'arguments have no names'),
    ('{"normal": []}', 'it has the parts normal; expected normal, normal_concat'),
    ("__import__('os').system('true')", 'is not a string in quotes, a number or a list'),
    (CELL.replace("('skip_connect', 1)", "('skip_connect', 2)"), 'the inputs of node 2 must be nodes 0 … 1'),
    (CELL.replace(", ('skip_connect', 1)", ''), 'normal has 1 edges, expected two per node'),
    (CELL.replace("('skip_connect', 1)", "('skip_connect', 'x')"), r"expected edges \('operation', source\)"),
    (CELL.replace('normal_concat=[2]', 'normal_concat=[7]'), r'normal_concat=\[7\]: expected nodes from 2 … 2'),
    (CELL.replace('normal_concat=[2]', 'normal_concat=range(2, 10**9)'), r"'10 \*\* 9' is not a string"),
    (CELL.replace('normal_concat=[2]', 'normal_concat=range(2, 1000000000)'), 'must be small integers'),
    (CELL.replace('normal_concat=[2]', 'normal_concat=range(2, steps + 2)'), r"'steps \+ 2' is not a string"),
  ],
)
def test_malformed_darts_texts_are_refused(text, message):
  with pytest.raises(InputError, match=message):
    Genotype.parse(text)


@pytest.mark.parametrize(
  'space, name, message',
  [
    (DARTS, 'NASNET', 'NASNET does not belong to the search space darts: expected 2 cell.s. of 4 nodes'),
    (S2, 'DARTS_V2', "'dil_conv_3x3' is not one of skip_connect, sep_conv_3x3"),
    (NAS_BENCH_201, 'DARTS_V2', 'expected 1 cell.s. of 3 nodes, it has 2 of 4, 4'),
  ],
)
def test_a_genotype_of_another_space_is_refused(space, name, message):
  with pytest.raises(InputError, match=message):
    space.check(PUBLISHED[name])


def test_short_name_is_the_published_name_or_the_beginning_of_the_text():
  assert short_name(PUBLISHED['SNAS']) == 'SNAS'
  assert short_name(Genotype.parse(ARCH)) == repr(ARCH)


def test_find_genotype_reads_names_files_folders_and_texts(tmp_path):
  genotype = Genotype.parse(ARCH)
  (tmp_path / 'cell.txt').write_text(f'{ARCH}\n')
  (tmp_path / 'genotype.json').write_text(json.dumps({'genotype': ARCH, 'space': {'auxiliary_skip': True}}))
  assert find_genotype('DARTS_V2') == (PUBLISHED['DARTS_V2'], False)
  assert find_genotype(ARCH) == find_genotype(str(tmp_path / 'cell.txt')) == (genotype, False)
  assert find_genotype(str(tmp_path)) == find_genotype(str(tmp_path / 'genotype.json')) == (genotype, True)


def test_find_genotype_names_what_is_missing(tmp_path):
  with pytest.raises(InputError, match='Did you mean DARTS_V2'):
    find_genotype('DARTSV3')
  with pytest.raises(InputError, match=r'has no genotype\.json'):
    find_genotype(str(tmp_path))
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(InputError, match='its run is not finished'):
    find_genotype(str(tmp_path))
  (tmp_path / 'members').mkdir()
  with pytest.raises(InputError, match='members/K'):
    find_genotype(str(tmp_path))
