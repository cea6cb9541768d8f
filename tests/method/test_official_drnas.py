"""DrNAS: three steps of its official program with the recorded draws, and its derivative, in float64."""

import jax
import numpy as np
import pytest
from rivals import Golden, agree, agree_on_norm, alpha_gradient, derived, hyperparameters, sort_nodes

from beta_darts_jax import DARTS, NAS_BENCH_201, Relaxation, SearchState, Supernet, make_search_step
from beta_darts_jax.method.samplings import concentration, pathwise_factors, with_pathwise_derivative


class RecordedDirichlet(Relaxation):
  """DrNAS with its draws and p from outside: 'alpha_draw', 'pathwise' and 'weight_draw' of regularizer_weights."""

  def __call__(self, architecture, key, hyper):
    recorded = hyper.regularizer_weights
    return {
      name: with_pathwise_derivative(concentration(alpha), recorded['alpha_draw'][name], recorded['pathwise'][name])
      for name, alpha in architecture[0].items()
    }

  def weight_betas(self, architecture, key, hyper, loss):
    return hyper.regularizer_weights['weight_draw']


CASES = {
  'drnas_nas_bench_201': (NAS_BENCH_201, {'channels': 8, 'cells_per_stage': 1}, {}),
  'drnas_darts': (
    DARTS,
    {'channels': 8, 'layers': 4, 'partial_channels': 4},
    {'learning_rate': 0.1, 'alpha_learning_rate': 6e-4},
  ),
}


@pytest.mark.full
@pytest.mark.parametrize('name', CASES)
def test_steps_equal_those_of_the_official_drnas(name):
  space, sizes, rates = CASES[name]
  golden, suffix = Golden(name, space), '' if space is NAS_BENCH_201 else '_{}'
  alpha = 'alpha' if space is NAS_BENCH_201 else 'alphas_{}'
  with jax.enable_x64(True):
    step = make_search_step(Supernet(space, 10, **sizes), 'dirichlet_kl', relaxation=RecordedDirichlet())
    start = SearchState.create(golden.variables(), golden.alphas(f'{alpha}_before'))

    def hyper(draw, pathwise, weight_draw, index, **changes):
      recorded = {'alpha_draw': draw, 'pathwise': pathwise, 'weight_draw': weight_draw}
      trees = {key: {c: a[index] for c, a in golden.alphas(pattern).items()} for key, pattern in recorded.items()}
      return hyperparameters(regularizer_weights=trees, **rates, **changes)

    for anchor, changes in (('l2', {}), ('kl', {'kl_weight': 1e-3, 'alpha_weight_decay': 0.0})):
      state, keys = start, [f'{anchor}/{part}{suffix}' for part in ('draw_alpha', 'pathwise', 'draw_weight')]
      for i in range(3):
        batches = golden.batch('train', i), golden.batch('valid', i)
        before = state
        state, metrics = step(before, *batches, hyper(*keys, i, **changes))
        if (norms := f'{anchor}/weight_grad_norm_of_all') in golden.arrays:
          agree_on_norm('DrNAS', state, before, golden[norms][i])
        agree('DrNAS', 'training loss', metrics['train_loss'], golden[f'{anchor}/train_loss'][i])
        for cell_type, expected in golden.alphas(f'{anchor}/{alpha}').items():
          agree('DrNAS', f'α after three steps, {anchor}', state.alphas[cell_type], expected[i])
      agree('DrNAS', 'norms of the changes of the weights', golden.moved_norms(state), golden[f'{anchor}/moved_norms'])
    if space is NAS_BENCH_201:
      keys = 'beta_valid', 'pathwise_valid', 'beta_valid'
      state, metrics = step(start, golden.batch('train', 0), golden.batch('valid', 0), hyper(*keys, ...))
      agree('DrNAS', 'validation loss', metrics['alpha_loss'], golden['loss_valid'])
      agree('DrNAS', 'gradient in α', alpha_gradient(state, start)[0]['cell'], golden['alpha_grad'])


def test_the_derivative_of_a_draw():
  """p of 200 draws, c from e^−2 to e^2: PyTorch's is an approximation, good to some 1e-3."""
  golden = Golden('drnas_nas_bench_201', NAS_BENCH_201)
  with jax.enable_x64(True):
    ours = np.asarray(pathwise_factors(*(golden[f'pathwise_{key}'] for key in ('concentration', 'draw'))))
  theirs = golden['pathwise_of_it']
  agree('DrNAS', 'relative difference of p to the approximation of PyTorch', ours / theirs, np.ones_like(theirs), 2e-3)


def test_the_derived_cells_of_drnas():
  """Edges of the DARTS space are ranked by the largest softmax(α), which the mean of the draw does not give."""
  relaxation, means = Relaxation('pathwise_dirichlet', strength='softmax'), Relaxation('pathwise_dirichlet')
  golden, num_other = Golden('drnas_darts', DARTS), 0
  for alphas, cells in zip(golden['derivation_alphas'], golden['derivation_cells'], strict=True):
    alphas = dict(zip(DARTS.cell_types, alphas, strict=True))
    found, by_mean = (
      sort_nodes(derived(DARTS, jax.device_get(betas)))
      for betas in (relaxation.strengths((alphas, {})), means.strengths((alphas, {})))
    )
    assert found == sort_nodes(cells)
    num_other += by_mean != found
  assert num_other == 16  # the other four differ in the order of the two edges of a node
  golden = Golden('drnas_nas_bench_201', NAS_BENCH_201)
  for alpha, cell in zip(golden['derivation_alphas'], golden['derivation_cells'], strict=True):
    operations = NAS_BENCH_201.derive(jax.device_get(means.strengths(({'cell': alpha}, {})))).normal.operations
    assert [NAS_BENCH_201.candidates('cell')[0].index(name) for name in operations] == cell.tolist()
