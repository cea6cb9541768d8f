"""The parts of the method together: without them it is DARTS, neutral ones change nothing, any combination steps."""

import functools
import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from beta_darts_jax import (
  REGULARIZERS,
  Hyperparameters,
  Regularizer,
  Relaxation,
  SearchSpace,
  SearchState,
  cost,
  make_search_step,
  softmax_betas,
)
from beta_darts_jax.method.bilevel import make_weight_step
from beta_darts_jax.method.hypergradients import finite_difference, first_order, implicit, second_order
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.optimizers import alpha_adam, weight_sgd
from beta_darts_jax.method.parts import ORDERS, resolve_parts
from beta_darts_jax.networks.initialization import Module
from beta_darts_jax.networks.layers import Conv
from beta_darts_jax.networks.skeletons import classify
from beta_darts_jax.networks.supernet import SearchCell

SPACE = SearchSpace('small', 'nas_bench_201', 2, ('none', 'skip_connect', 'nor_conv_1x1'))


class TwoCells(Module):
  """The smallest supernet that has all parts: two cells between a convolution and a classifier; quick to compile."""

  partial_channels: int = 1
  single_path: bool = False

  @nn.compact
  def __call__(self, images, betas, train: bool = False):
    x = Conv(2, 1, name='stem')(images)
    for i in range(2):
      cell = SearchCell(
        space=SPACE,
        cell_type='cell',
        channels=2,
        partial_channels=self.partial_channels,
        single_path=self.single_path,
        name=f'cell_{i}',
      )
      x = cell((x,), betas, train=train)
    return classify(x, 4)


SUPERNET = TwoCells()
RNG = np.random.default_rng(0)
BATCHES = [(RNG.standard_normal((8, 8, 8, 3), np.float32), RNG.integers(0, 4, 8)) for _ in range(6)]
HYPER = Hyperparameters(alpha_learning_rate=0.1, perturbation=0.2, regularizer_weights={'cost_weight': 0.0})


@functools.cache
def start(supernet=SUPERNET, relaxation=None):
  relaxation = relaxation or Relaxation()
  alphas = {'cell': 0.3 * jax.random.normal(jax.random.key(1), SPACE.alpha_shape)}
  edge_logits = relaxation.init_edge_logits(jax.random.key(2), SPACE)
  betas = relaxation((alphas, edge_logits), jax.random.key(0), HYPER)
  variables = jax.jit(supernet.init)(jax.random.key(0), BATCHES[0][0], betas)
  return SearchState.create(variables, alphas, seed=3, edge_logits=edge_logits)


def after(step, steps, hyper=HYPER, state=None):
  state = state or start()
  for i in range(steps):
    state, _ = step(state, BATCHES[2 * i], BATCHES[2 * i + 1], jax.tree.map(np.float32, hyper))
  return state


def wide(tree):
  """Makes float64 of float32, because Adam's first steps of 0.1 enlarge the rounding of a small gradient."""
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if jnp.result_type(x) == jnp.float32 else x, tree)


def wide_start():
  with jax.enable_x64(False):  # `start` keeps its result for the other tests
    state = start()
  return wide(state)


def after_three_wide_steps(step, hyper=HYPER):
  """The state after three steps in float64."""
  state, batches = wide_start(), wide(BATCHES)
  for i in range(3):
    state, _ = step(state, batches[2 * i], batches[2 * i + 1], jax.tree.map(np.float64, hyper))
  return state


@pytest.fixture(scope='module')
def plain():
  with jax.enable_x64(True):
    return after_three_wide_steps(make_search_step(SUPERNET, regularizer=()))


def test_a_step_without_any_part_is_a_step_of_darts(plain):
  """First-order DARTS in a few lines."""

  def loss(params, alphas, batch_stats, images, labels):
    variables = {'params': params, 'batch_stats': batch_stats}
    logits, updates = SUPERNET.apply(variables, images, softmax_betas(alphas), train=True, mutable=['batch_stats'])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels)), updates['batch_stats']

  @jax.jit
  def darts(params, batch_stats, alphas, moments, momentum, train, valid, hyper):
    gradient = jax.grad(loss, argnums=1, has_aux=True)(params, alphas, batch_stats, *valid)[0]
    updates, moments = alpha_adam(hyper).update(gradient, moments, alphas)
    alphas = optax.apply_updates(alphas, updates)
    gradient, batch_stats = jax.grad(loss, has_aux=True)(params, alphas, batch_stats, *train)
    updates, momentum = weight_sgd(hyper).update(gradient, momentum, params)
    return optax.apply_updates(params, updates), batch_stats, alphas, moments, momentum

  with jax.enable_x64(True):
    state, batches, hyper = wide_start(), wide(BATCHES), jax.tree.map(np.float64, HYPER)
    params, batch_stats, alphas = state.params, state.batch_stats, state.alphas
    moments, momentum = alpha_adam(hyper).init(alphas), weight_sgd(hyper).init(params)
    for i in range(3):
      params, batch_stats, alphas, moments, momentum = darts(
        params, batch_stats, alphas, moments, momentum, batches[2 * i], batches[2 * i + 1], hyper
      )
    expected = plain.params, plain.batch_stats, plain.alphas
    chex.assert_trees_all_close((params, batch_stats, alphas), expected, rtol=1e-10, atol=1e-12)


COSTS = {'cell': np.tile([0.0, 0.0, 1.0], (3, 1))}  # of none, skip_connect and nor_conv_1x1
AVAILABLE = REGULARIZERS | {'cost': cost(COSTS)}
EVERYTHING = list(AVAILABLE.values())
NEUTRAL = {
  'all λ = 0, ε = 0 at random, b = 0, a skip of weight 0': (
    dict(regularizer=EVERYTHING, relaxation=Relaxation(perturbation='random', auxiliary_skip=True), flooding=True),
    HYPER.replace(perturbation=0.0, auxiliary_skip=0.0),
  ),
  'ε = 0 of the attack': (
    dict(regularizer=(), relaxation=Relaxation(perturbation='adversarial')),
    HYPER.replace(perturbation=0.0),
  ),
}


@pytest.mark.parametrize('name', NEUTRAL)
def test_neutral_values_change_nothing(name, plain):
  parts, hyper = NEUTRAL[name]
  with jax.enable_x64(True):
    found = after_three_wide_steps(make_search_step(SUPERNET, **parts), hyper)
    chex.assert_trees_all_close((found.params, found.alphas), (plain.params, plain.alphas), rtol=1e-10, atol=1e-12)


# ---- any with any ----

# name → (relaxation, the supernet's attributes, regularizers, flooding): every regularizer with every relaxation and
# every hypergradient with every relaxation, in as many programs as there are of the latter pairs
RELAXATIONS = {
  'softmax': (Relaxation(), {}),
  'SDARTS-RS': (Relaxation(perturbation='random'), {}),
  'SDARTS-ADV': (Relaxation(perturbation='adversarial'), {}),
  'PC-DARTS': (Relaxation(edges=SPACE.edges), {'partial_channels': 2}),
  'GDAS': (Relaxation('gumbel'), {'single_path': True}),
  'DrNAS': (Relaxation('dirichlet'), {}),
  'DARTS-': (Relaxation(auxiliary_skip=True), {}),
}
METHODS = {
  'first order': first_order,
  'second order': second_order,
  'finite difference': finite_difference,
  'Neumann': functools.partial(implicit, terms=2),
  'conjugate gradients': functools.partial(implicit, solver='cg', terms=2, damping=1.0),
}
BUNDLES = [
  (),
  ('beta_decay', 'l2', 'lambda_darts'),
  ('decoupled_beta_decay', 'weight_decay', 'zero_one'),
  ('beta_decay', 'dirichlet_kl', 'cost'),
  ('lambda_darts_finite_difference',),
]


def test_the_covering_is_pairwise():
  """Every bundle of regularizers meets every relaxation and every hypergradient, as those meet each other."""
  triples = list(combinations())
  for first, second in itertools.combinations(range(3), 2):
    sides = [{triple[i] for triple in triples} for i in (first, second)]
    assert {(t[first], t[second]) for t in triples} == set(itertools.product(*sides))
  assert {name for bundle in BUNDLES for name in bundle} == set(REGULARIZERS)


def combinations():
  """(method, relaxation, index of BUNDLES)."""
  for (i, method), (j, relaxation) in itertools.product(enumerate(METHODS), enumerate(RELAXATIONS)):
    yield method, relaxation, (i + j) % len(BUNDLES)


def marked_combinations():
  """The combinations; those beyond the first order run in the full tests only."""
  for combination in combinations():
    yield pytest.param(*combination, marks=[pytest.mark.full] * (combination[0] != 'first order'))


@pytest.mark.parametrize('method, name, bundle', list(marked_combinations()))
def test_any_combination_takes_two_finite_steps(method, name, bundle):
  relaxation, attributes = RELAXATIONS[name]
  supernet = TwoCells(**attributes)
  step = make_search_step(
    supernet,
    [AVAILABLE[r] for r in BUNDLES[bundle]],
    METHODS[method],
    relaxation,
    flooding=bundle % 2 == 0,
    order=ORDERS[bundle % 2],
  )
  before = start(supernet, relaxation)
  hyper = HYPER.replace(beta_decay_weight=1.0, l2_weight=0.1, alignment_weight=0.5, kl_weight=0.1, flood_level=0.1)
  hyper = hyper.replace(regularizer_weights={'cost_weight': 0.1})
  state = after(step, 2, hyper, before)
  chex.assert_tree_all_finite(state)
  assert int(state.step) == 2
  assert all(
    bool(jnp.any(a != b))
    for a, b in zip(jax.tree.leaves(before.architecture), jax.tree.leaves(state.architecture), strict=True)
  )
  moved = [
    bool(jnp.any(a != b)) for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(state.params), strict=True)
  ]
  assert any(moved) if name == 'GDAS' else all(moved)  # GDAS trains the drawn operations only


# ---- what parts see of the network ----


def test_the_attack_never_lowers_the_loss():
  """On the network as it is evaluated, from three starts at three ε; where it can, it raises it."""
  state = after(make_search_step(SUPERNET, regularizer=()), 3)
  loss, relaxation = make_loss(SUPERNET), Relaxation(perturbation='adversarial')
  as_it_is = lambda betas: loss(state.params, betas, state.batch_stats, BATCHES[0], jax.random.key(0), train=False)[0]

  @jax.jit
  def attacked(key, epsilon):
    hyper = HYPER.replace(perturbation=epsilon)
    betas = relaxation.weight_betas(state.architecture, key, hyper, as_it_is)
    return as_it_is(betas), as_it_is(softmax_betas(state.alphas))

  for key, epsilon in itertools.product(jax.random.split(jax.random.key(5), 3), np.float32([0.03, 0.1, 0.3])):
    worse, plain = attacked(key, epsilon)
    assert worse > plain


def test_the_attack_is_on_the_running_statistics():
  """Others give another attack, so other weights; without it a weight step does not see them."""
  state = start()
  others = state.replace(batch_stats=jax.tree.map(lambda x: 4 * x + 1, state.batch_stats))
  for perturbation in ('adversarial', 'none'):
    parts = resolve_parts(
      'beta_decay', 'first_order', Relaxation(perturbation=perturbation), 'weight_sgd', 'alpha_adam'
    )
    step = jax.jit(make_weight_step(SUPERNET, parts))
    ends = [step(s, BATCHES[0], BATCHES[1], HYPER, jax.random.key(0))[0].params for s in (state, others)]
    same = jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), *ends))
    assert same == (perturbation == 'none')


def test_the_weights_regularizer_descends_its_penalty():
  """λ·F joins the gradient of the weights before clipping; the context has the batch, β and the loss."""

  def pull(params, context):
    value = context.loss(params, context.betas)
    assert context.batch[0].shape == (8, 8, 8, 3) and context.betas['cell'].shape == SPACE.alpha_shape
    return jax.tree.map(lambda w, g: w - g + 0 * value, params, context.gradient)  # w alone is left

  step = make_search_step(SUPERNET, Regularizer(pull, 'l2_weight', mode='weights'))
  still = HYPER.replace(l2_weight=1.0, learning_rate=0.1, momentum=0.0, weight_decay=0.0, clip_norm=1e9)
  moved = after(step, 1, still)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 0.9 * b, atol=1e-5), moved.params, start().params)


def test_a_regularizer_of_ones_own_stops_an_operation():
  """Operation-level early stopping from outside: from an epoch on, the gradient of some logits is taken back."""
  stopped = np.zeros(SPACE.alpha_shape, bool)
  stopped[:, 2] = True
  stop = Regularizer(
    lambda alphas, seen: {'cell': jnp.where(stopped & (seen.epoch >= 1), -seen.gradient['cell'], 0.0)},
    weight='l2_weight',
  )
  step = make_search_step(SUPERNET, stop)
  hyper = HYPER.replace(l2_weight=1.0, alpha_weight_decay=0.0)
  first, later = after(step, 1, hyper.replace(epoch=0.0)), after(step, 1, hyper.replace(epoch=1.0))
  begun = start().alphas['cell']
  assert np.all(first.alphas['cell'] != begun)
  np.testing.assert_array_equal(later.alphas['cell'] != begun, ~stopped)


def test_alpha_waits_at_rate_zero():
  """Warm-up: neither α nor its moments move, the weights do."""
  state = after(make_search_step(SUPERNET), 1, HYPER.replace(alpha_learning_rate=0.0, beta_decay_weight=1.0))
  chex.assert_trees_all_equal(
    (state.alphas, state.alpha_optimizer_state), (start().alphas, start().alpha_optimizer_state)
  )
  assert bool(jnp.any(jax.tree.leaves(state.params)[0] != jax.tree.leaves(start().params)[0]))


def test_flooding_climbs_below_its_level():
  """Above b the weights' step is DARTS'; below, its gradient is the opposite one."""
  still = HYPER.replace(weight_decay=0.0, momentum=0.0, alpha_learning_rate=0.0)
  step = make_search_step(SUPERNET, (), flooding=True)
  low, high = (after(step, 1, still.replace(flood_level=level)).params for level in (0.0, 100.0))
  moves = jax.tree.map(lambda a, b, c: (a - c, b - c), low, high, start().params)
  for down, up in jax.tree.leaves(moves, is_leaf=lambda x: isinstance(x, tuple)):
    np.testing.assert_allclose(up, -down, rtol=1e-3, atol=1e-6)
