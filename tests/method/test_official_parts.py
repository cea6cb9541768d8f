"""What the official programs compute from α, β, draws and recorded gradients, in float64. No network is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rivals import Golden, agree, derived, record, sort_nodes

from beta_darts_jax import DARTS, DARTS_WITH_NONE, NAS_BENCH_201, S1, S2, S3, Relaxation
from beta_darts_jax.config.check import check
from beta_darts_jax.method.perturbations import add_noise, attack
from beta_darts_jax.method.regularizers import alignment, dirichlet_kl
from beta_darts_jax.method.samplings import concentration, straight_through, with_pathwise_derivative
from beta_darts_jax.method.selection import Order, select_by_perturbation
from beta_darts_jax.search.schedule import Member
from beta_darts_jax.search.setup import make_schedule
from beta_darts_jax.spaces.space import softmax_betas
from configs import darts, nas_bench_201

SPACES = {
  'pc_darts': DARTS_WITH_NONE,
  'darts_minus_s1': S1,
  'darts_minus_s3': S3,
  'sdarts_rs': NAS_BENCH_201,
  'sdarts_darts_s2': S2,
  'drnas_nas_bench_201': NAS_BENCH_201,
  'drnas_darts': DARTS,
}


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


SCHEDULES = {
  ('GDAS', 'temperature'): (nas_bench_201, 'gdas,own', 'gdas', 'schedule/tau', 'temperature'),
  ('Λ-DARTS', 'λ'): (nas_bench_201, 'lambda_darts', 'lambda_darts', 'schedule/lambda', 'alignment_weight'),
  ('SDARTS-RS', 'ε'): (nas_bench_201, 'sdarts_rs', 'sdarts_rs', 'schedule/epsilon', 'perturbation'),
  ('DARTS-', 'weight of the skip connection'): (
    darts, 'darts_minus', 'darts_minus_s1', 'schedule_linear', 'auxiliary_skip',
  ),
}  # fmt: skip


def hyperparameters_of(file, method):
  """The Hyperparameters of each epoch of a named method."""
  config = check(file.get_config(f'cifar10,{method}'))
  schedule = make_schedule(config, steps_per_epoch=390)
  return [schedule.hyperparameters(Member(seed=0), epoch) for epoch in range(config.search.epochs)]


@pytest.mark.parametrize('method, quantity', SCHEDULES)
def test_a_schedule_equals_the_official_one_in_each_epoch(method, quantity):
  file, argument, name, key, scalar = SCHEDULES[method, quantity]
  found = np.array([getattr(hyper, scalar) for hyper in hyperparameters_of(file, argument)])
  agree(method, f'{quantity} in each epoch', found, Golden(name, NAS_BENCH_201)[key])


def test_the_epochs_of_the_steps_of_darts_minus():
  golden, hypers = Golden('darts_minus_s1', S1), hyperparameters_of(darts, 'darts_minus,own')
  hypers = [hypers[epoch] for epoch in golden['step_epoch']]
  for key, scalar in (('step_auxiliary_skip', 'auxiliary_skip'), ('step_learning_rate', 'learning_rate')):
    np.testing.assert_allclose([getattr(hyper, scalar) for hyper in hypers], golden[key], rtol=1e-14)


def test_alpha_of_pc_darts_waits():
  wait, epochs = Golden('pc_darts', DARTS_WITH_NONE)['warmup']
  moves = [hyper.alpha_learning_rate > 0 for hyper in hyperparameters_of(darts, 'pc_darts,own')]
  assert moves == [False] * wait + [True] * (epochs - wait)


@pytest.mark.parametrize('name', ['pc_darts', 'darts_minus_s1', 'darts_minus_s3'])
def test_derived_cells_equal_the_official_ones(name):
  space = SPACES[name]
  golden, relaxation = Golden(name, space), Relaxation(edges=space.edges if name == 'pc_darts' else ())
  keys = ('derivation_alphas', 'derivation_edge_logits') if name == 'pc_darts' else ('derivation_alphas',)
  strengths = jax.jit(jax.vmap(relaxation.strengths))
  trees = [{cell_type: golden[key][:, t] for t, cell_type in enumerate(space.cell_types)} for key in keys]
  betas = jax.device_get(strengths((trees[0], trees[1] if trees[1:] else {})))
  for i, cells in enumerate(golden['derivation_cells']):
    assert sort_nodes(derived(space, {cell_type: beta[i] for cell_type, beta in betas.items()})) == sort_nodes(cells)


# ---- SDARTS ----


@pytest.mark.parametrize('name', ['sdarts_rs', 'sdarts_darts_s2'])
def test_a_random_perturbation_equals_the_official_one(name):
  golden = Golden(name, SPACES[name])
  prefix, suffix = ('', '') if name == 'sdarts_rs' else ('rs/', '_{}')
  betas = softmax_betas(golden.alphas(f'alpha_after{suffix}'))
  expected = {'SDARTS-RS': (f'{prefix}noise{suffix}', golden.alphas(f'{prefix}betas_perturbed{suffix}'))}
  if name == 'sdarts_darts_s2':
    paths = golden.alphas('adv/path_{}')
    expected['SDARTS-ADV'] = 'adv/noise_{}', {cell_type: path[0] for cell_type, path in paths.items()}
  for method, (noise, perturbed) in expected.items():
    found = jax.jit(add_noise)(betas, golden.alphas(noise))
    for cell_type, beta in perturbed.items():
      agree(method, 'β with noise', found[cell_type], beta)


@pytest.mark.parametrize('name', ['sdarts_adv', 'sdarts_adv_reverted'])
def test_an_attack_follows_the_path_of_the_official_one(name):
  """Near each recorded point the loss is linear, with the recorded value and the recorded gradient."""
  golden, visited = Golden(name, NAS_BENCH_201), []
  points = np.concatenate([golden['betas'][None], golden['attack/path']])
  gradients = jnp.asarray(np.pad(golden['attack/loss_gradient'], ((1, 1), (0, 0), (0, 0))))

  def loss(betas):
    record(visited, betas['cell'])
    nearest = jnp.argmin(jnp.sum(jnp.abs(points - betas['cell']), axis=(1, 2)))
    return jnp.asarray(golden['attack/losses'])[nearest] + jnp.vdot(
      gradients[nearest], betas['cell'] - jnp.asarray(points)[nearest]
    )

  run = jax.jit(lambda betas, noise: attack({'cell': betas}, {'cell': noise}, golden['epsilon'], loss)['cell'])
  found = run(points[0], golden['noise'])
  jax.effects_barrier()
  agree('SDARTS-ADV', 'path of the attack', np.stack(visited[:8]), golden['attack/path'])
  agree('SDARTS-ADV', 'perturbed β', found, golden['betas_perturbed'])
  assert np.array_equal(found, points[0]) == golden['attack/reverted']


# ---- GDAS, DrNAS ----


def test_draws_of_gdas():
  golden = Golden('gdas', NAS_BENCH_201)
  alpha = np.broadcast_to(golden['alpha_before'], (8, 6, 5))

  @jax.jit
  def draw(alpha, gradient):
    function = lambda alpha: straight_through({'cell': alpha}, {'cell': golden['draws/gumbel']}, golden['tau'])['cell']
    betas, pull_back = jax.vjp(function, alpha)
    return betas, pull_back(gradient)[0]

  for of_beta, of_alpha in (
    ('betas_grad_official', 'alpha_grad'),
    ('betas_grad_chosen_only', 'alpha_grad_chosen_only'),
  ):
    betas, gradient = draw(alpha, golden[f'draws/{of_beta}'])
    agree('GDAS', 'β of eight draws', betas, golden['draws/betas'])
    agree('GDAS', 'gradient in α from that in β', gradient, golden[f'draws/{of_alpha}'])
  np.testing.assert_array_equal(np.argmax(betas, -1), golden['draws/index'])


@pytest.mark.parametrize('name', ['drnas_nas_bench_201', 'drnas_darts'])
def test_anchor_of_drnas(name):
  golden = Golden(name, SPACES[name])
  suffix, before = ('_{}', 'alphas_{}_before') if name == 'drnas_darts' else ('', 'alpha_before')
  alphas = golden.alphas(before)
  value, gradient = jax.jit(jax.value_and_grad(lambda alphas: 1e-3 * dirichlet_kl(alphas)))(alphas)
  agree('DrNAS', 'anchor', value, golden['kl'])
  for cell_type, expected in golden.alphas(f'kl_grad{suffix}').items():
    agree('DrNAS', 'gradient of the anchor', gradient[cell_type], expected)


def test_gradient_of_drnas():
  golden = Golden('drnas_nas_bench_201', NAS_BENCH_201)

  @jax.jit
  def compute(alpha):
    c, slope = jax.jvp(concentration, (alpha,), (jnp.ones_like(alpha),))
    draw = lambda c: with_pathwise_derivative(c, golden['beta_valid'], golden['pathwise_valid'])
    return c, slope, slope * jax.vjp(draw, c)[1](golden['beta_grad'])[0]

  c, slope, gradient = compute(golden['alpha_before'])
  agree('DrNAS', 'gradient in α from that in β', gradient, golden['alpha_grad'])
  agree('DrNAS', 'concentrations', c, golden['concentration'])
  agree('DrNAS', 'slopes of the concentrations', slope, golden['concentration_slope'])


# ---- Λ-DARTS, DARTS-PT ----


def test_alignment_of_lambda_darts():
  golden = Golden('lambda_darts', NAS_BENCH_201)
  value, directions = jax.jit(jax.value_and_grad(alignment))({'cell': golden['train_betas_grad']})
  epsilon = golden['epsilon_0'] / np.linalg.norm(directions['cell'])
  agree('Λ-DARTS', 'Λ', value, golden['alignment'])
  agree('Λ-DARTS', 'shifts of β', epsilon * directions['cell'], golden['perturbations'])


@pytest.mark.parametrize('form', ['', 'frozen/'])
def test_decisions_of_darts_pt(form):
  """From the recorded accuracies, and from the recorded β between the decisions."""
  golden, tried = Golden('darts_pt', NAS_BENCH_201), []
  trained = softmax_betas({'cell': golden['alphas']})['cell']  # at each decision

  def accuracy_of(betas):
    tried.append(np.stack([beta['cell'] for beta in betas]))
    return golden[f'{form}accuracies'][len(tried) - 1]

  def tune(betas, decided):
    if form:
      return betas
    return {'cell': np.where(decided['cell'][:, None], betas['cell'], trained[len(tried)])}

  order = Order({'cell': golden[f'{form}edges'].tolist()}, {'cell': []})
  genotype = select_by_perturbation(NAS_BENCH_201, {'cell': trained[0]}, accuracy_of, tune, order)
  if not form:
    agree('DARTS-PT', 'β without one operation', np.stack(tried), golden['masked_betas'])
  agree('DARTS-PT', 'β at each decision', np.stack(tried).max(axis=1), golden[f'{form}betas'])
  operations = [NAS_BENCH_201.candidates('cell')[0].index(name) for name in genotype.normal.operations]
  np.testing.assert_array_equal(operations, golden[f'{form}genotype'])
  np.testing.assert_array_equal(np.take(operations, golden[f'{form}edges']), golden[f'{form}chosen'])
