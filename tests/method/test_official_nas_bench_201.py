"""GDAS and Λ-DARTS: a step of their official programs on NAS-Bench-201, in float64, with the recorded draws."""

import functools

import jax
import numpy as np
import optax
import pytest
from rivals import Golden, agree, agree_on_weights, alpha_gradient, hyperparameters, start_of

from beta_darts_jax import NAS_BENCH_201, Regularizer, Relaxation, Supernet, interop, make_search_step
from beta_darts_jax.method.cell_gradients import StepInputs, make_cell_gradients
from beta_darts_jax.method.optimizers import weight_sgd_nesterov
from beta_darts_jax.method.regularizers import lambda_darts_finite_difference
from beta_darts_jax.method.samplings import straight_through
from beta_darts_jax.spaces.space import softmax_betas

SUPERNET = Supernet(NAS_BENCH_201, 10, channels=4, cells_per_stage=1)
BATCHES = ('train', 'valid')


# ---- GDAS ----


class RecordedGumbel(Relaxation):
  """GDAS with its noise from outside: 'alpha_noise' and 'weight_noise' of hyper.regularizer_weights."""

  def __call__(self, architecture, key, hyper):
    noise = hyper.regularizer_weights['alpha_noise']
    return straight_through(architecture[0], {'cell': noise}, hyper.temperature)

  def weight_betas(self, architecture, key, hyper, loss):
    noise = hyper.regularizer_weights['weight_noise']
    return straight_through(architecture[0], {'cell': noise}, hyper.temperature)


@pytest.mark.parametrize('form', ['', pytest.param('_chosen_only', marks=pytest.mark.full)])
def test_a_step_equals_that_of_the_official_gdas(form):
  golden = Golden('gdas', NAS_BENCH_201)
  train, valid = map(golden.batch, BATCHES)
  supernet = SUPERNET.clone(single_path=True, undrawn_gradient=not form)
  with jax.enable_x64(True):
    step = make_search_step(
      supernet, (), relaxation=RecordedGumbel(), weight_optimizer=weight_sgd_nesterov, order='weights_first'
    )
    start = start_of(golden, weight_optimizer=weight_sgd_nesterov)
    scalars = {'weight_decay': 5e-4, 'temperature': golden['tau']}
    for i, noise in enumerate(golden['draws/gumbel']):
      noises = {'alpha_noise': noise, 'weight_noise': golden['step/train_gumbel']}
      still = hyperparameters(learning_rate=0.0, regularizer_weights=noises, **scalars)
      state, metrics = step(start, train, valid, still)
      agree('GDAS', 'loss of eight draws', metrics['alpha_loss'], golden['draws/loss'][i])
      found = alpha_gradient(state, start)[0]['cell']
      agree('GDAS', f'gradient in α{form and ", drawn operation only"}', found, golden[f'draws/alpha_grad{form}'][i])
    if form:
      return
    noises = {'alpha_noise': golden['step/valid_gumbel'], 'weight_noise': golden['step/train_gumbel']}
    state, metrics = step(start, train, valid, hyperparameters(regularizer_weights=noises, **scalars))
    agree('GDAS', 'losses of a step', metrics['train_loss'], golden['step/train_loss'])
    agree('GDAS', 'losses of a step', metrics['alpha_loss'], golden['step/valid_loss'])
    agree('GDAS', 'gradient in α of a step', alpha_gradient(state, start)[0]['cell'], golden['step/alpha_grad'])
    agree('GDAS', 'α after a step', state.alphas['cell'], golden['alpha_after'])
    trace = optax.tree.get(state.weight_optimizer_state, 'trace')
    gradient = jax.tree.map(lambda trace, w: trace - 5e-4 * w, trace, start.params)
    agree('GDAS', 'norm of the gradient in w', optax.tree.norm(gradient), golden['step/weight_grad_norm'])
    nesterov = 1 + 0.9  # the decay enters the step by the gradient and by the momentum
    agree_on_weights('GDAS', golden, state, 'step/after_weights/', undrawn_factor=1 - 0.025 * 5e-4 * nesterov)


# ---- Λ-DARTS ----


@pytest.mark.full
@pytest.mark.parametrize('form', ['exact', 'finite difference', 'finite difference at 1e-4'])
def test_a_step_equals_that_of_the_official_lambda_darts(form):
  """A step equals the official one, whose finite difference has the distance 1e-6; ∂Λ/∂w equals the exact one.

  At its default distance the registered regularizer equals the official finite difference.
  """
  golden = Golden('lambda_darts', NAS_BENCH_201)
  batches = tuple(map(golden.batch, BATCHES))
  difference = functools.partial(lambda_darts_finite_difference, distance=float(golden['epsilon_0']))
  regularizer, sign, prefix, tolerance = {
    'exact': ('lambda_darts', 1, 'alignment', 1e-12),
    'finite difference': (Regularizer(difference, 'alignment_weight', mode='weights'), -1, 'regularizer', 1e-8),
    'finite difference at 1e-4': ('lambda_darts_finite_difference', -1, 'default_distance/regularizer', 1e-10),
  }[form]
  with jax.enable_x64(True):
    step = make_search_step(SUPERNET, regularizer, order='weights_first')
    start = start_of(golden)
    scalars = {'alpha_learning_rate': 1e-4, 'clip_norm': 1e9}
    ends = [step(start, *batches, hyperparameters(alignment_weight=w, **scalars))[0] for w in (0.0, 1.0)]
    plain, regularized = (optax.tree.get(end.weight_optimizer_state, 'trace') for end in ends)
    gradient = interop.supernet_state_dict(
      {'params': optax.tree.sub(plain, regularized), 'batch_stats': start.batch_stats}, NAS_BENCH_201
    )
    expected = golden.state_dict(f'{prefix}_weight_grad/')
    ours, theirs = (np.concatenate([tree[name].ravel() for name in expected]) for tree in (gradient, expected))
    largest = np.abs(theirs).max()
    agree('Λ-DARTS', f'relative difference of ∂Λ/∂w, {form}', ours / largest, sign * theirs / largest, tolerance)
    if 'default' in prefix:
      return
    state, metrics = step(start, *batches, hyperparameters(alignment_weight=golden['lambda'], **scalars))
    agree('Λ-DARTS', 'training loss', metrics['train_loss'], golden['train_loss'])
    tolerance = 1e-11  # the official finite difference is this close
    agree('Λ-DARTS', f'validation loss, {form}', metrics['alpha_loss'], golden['valid_loss'], tolerance)
    found = alpha_gradient(state, start)[0]['cell']
    agree('Λ-DARTS', f'gradient in α, {form}', found, golden['alpha_grad'], tolerance)
    agree('Λ-DARTS', f'α after a step, {form}', state.alphas['cell'], golden['alpha_after'], tolerance)
    agree_on_weights('Λ-DARTS', golden, state, tolerance=tolerance, form=f', {form}')


@pytest.mark.full
def test_the_gradients_of_cells_are_the_official_ones():
  golden = Golden('lambda_darts', NAS_BENCH_201)
  with jax.enable_x64(True):
    state = start_of(golden)
    inputs = StepInputs(state.batch_stats, golden.batch('train'), jax.random.key(0))
    found = jax.jit(make_cell_gradients(SUPERNET))(state.params, softmax_betas(state.alphas), inputs)['cell']
  agree('Λ-DARTS', 'gradients of the cells in β', found, golden['train_betas_grad'])
