import jax
import numpy as np
import pytest

from beta_darts_jax import DARTS, MOBILE, NAS_BENCH_201, S1, InputError, SearchSpace, beta_decay
from beta_darts_jax.spaces.space import SPACES, make_space


@pytest.mark.parametrize(
  'name, shape',
  [('nas_bench_201', (6, 5)), ('darts', (14, 7)), ('darts_with_none', (14, 8)), ('s1', (14, 2)), ('s2', (14, 2)),
   ('s3', (14, 3)), ('s4', (14, 2))],
)  # fmt: skip
def test_alphas_of_the_published_spaces(name, shape):
  space = SPACES[name]
  alphas = space.init_alphas(jax.random.key(0))
  assert tuple(alphas) == space.cell_types
  assert {alpha.shape for alpha in alphas.values()} == {shape}
  spread = np.std(np.concatenate([np.ravel(alpha) for alpha in alphas.values()]))
  assert 0.5e-3 < spread < 1.5e-3
  expected = len(alphas) * np.log(shape[1])  # Beta-Decay near α = 0: log(O) for each cell type
  np.testing.assert_allclose(beta_decay(alphas), expected, atol=1e-2)


def test_a_chain_has_a_row_for_each_layer():
  assert MOBILE.alpha_shapes == {'normal': (15, 7), 'reduce': (6, 6)}
  assert {name: alpha.shape for name, alpha in MOBILE.init_alphas(jax.random.key(0)).items()} == MOBILE.alpha_shapes
  assert MOBILE.places('reduce') == tuple((stage, 1, 0) for stage in range(6))
  assert MOBILE.places('normal')[:4] == ((0, 2, 1), (0, 3, 2), (0, 4, 3), (1, 2, 1))
  assert MOBILE.candidates('reduce')[0] == MOBILE.candidates('normal')[0][:-1]
  assert make_space('mobile', nodes=2).alpha_shapes == {'normal': (5, 7), 'reduce': (6, 6)}
  with pytest.raises(InputError, match='expected the use of alpha_shapes'):
    MOBILE.alpha_shape  # noqa: B018


def test_edges_by_eye():
  assert NAS_BENCH_201.edges == ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
  assert DARTS.edges[:6] == ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 0)) and len(DARTS.edges) == 14
  assert DARTS.concat == (2, 3, 4, 5) and NAS_BENCH_201.concat == ()


def test_s1_has_its_own_candidates_on_each_edge():
  assert S1.candidates('normal')[0] == ('skip_connect', 'dil_conv_3x3')
  assert S1.candidates('reduce')[6] == ('max_pool_3x3', 'sep_conv_3x3')


def test_make_space_changes_a_known_space():
  space = SearchSpace('mine', 'darts', nodes=2, operations=('skip_connect', 'sep_conv_3x3'))
  assert space.alpha_shape == (5, 2) and space.concat == (2, 3)
  two = make_space('s2', nodes=2)
  assert (two.nodes, two.operations) == (space.nodes, space.operations)
  three = make_space('s1', nodes=2, operations=('none', 'skip_connect', 'sep_conv_3x3'))
  assert three.alpha_shape == (5, 3) and three.candidates('reduce') == (('none', 'skip_connect', 'sep_conv_3x3'),) * 5
  eight = make_space('darts', nodes=8, auxiliary_skip=True)
  assert eight.alpha_shape == (44, 7) and eight.concat == (6, 7, 8, 9) and eight.auxiliary_skip
  assert make_space('darts') == DARTS


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('x', 'resnet', 4, ('skip_connect',)), "skeleton='resnet': expected one of nas_bench_201, darts, mobile"),
    (('x', 'mobile', 1, ('skip_connect', 'a')), 'nodes=1: expected 2 or more'),
    (('x', 'mobile', 2, ('skip_connect', 'none')), 'expected one that can change the number of channels'),
    (('x', 'mobile', 2, ((('a', 'b'),), (('a',),) * 6)), 'the same number for each of 5 and 6 edges of 2 cell'),
    (('x', 'mobile', 2, ('skip_connect', 'a'), True), 'auxiliary_skip=True: expected False'),
    (('x', 'darts', 0, ('skip_connect',)), 'nodes=0: expected 1 or more'),
    (('x', 'darts', 1, ()), 'the same number for each of 2 edges of 2 cell type'),
    (('x', 'darts', 1, ((('a',), ('a', 'b')),) * 2), 'the same number'),
    (('x', 'darts', 1, ('none',)), 'at least one of them not none'),
    (('x', 'darts', 1, ('a', 'a')), 'different names'),
  ],
)
def test_invalid_spaces_are_refused(arguments, message):
  with pytest.raises(InputError, match=message):
    SearchSpace(*arguments)


def test_s1_with_other_nodes_needs_operations():
  with pytest.raises(InputError, match='so give operations too'):
    make_space('s1', nodes=3)
