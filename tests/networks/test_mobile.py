"""The space without cells: published counts, supernet = derived network, scan = loop, and the operations of a draw."""

import itertools
import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax import MOBILE, PUBLISHED, InputError, MobileNetwork, SearchSpace, Supernet, softmax_betas
from beta_darts_jax.method.samplings import TINY
from beta_darts_jax.networks.costs import multiply_adds, placed_operations
from beta_darts_jax.networks.mixed_operation import MixedOperation
from beta_darts_jax.networks.mobile.skeleton import stage_plan
from beta_darts_jax.networks.mobile.stages import DiscreteStage, SearchStage
from beta_darts_jax.networks.operations import InvertedResidual
from beta_darts_jax.networks.skeletons import check_image_size

MOBILENET_V2 = PUBLISHED['MOBILENET_V2']
SMALL = SearchSpace('small', 'mobile', nodes=3, operations=('mb_conv_3x3_e3', 'skip_connect'))


def shapes_of(network, size):
  return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *size, 3)))


def count(shapes):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))


def test_mobilenet_v2_is_a_network_of_the_space_with_its_published_counts():
  """3.50 M parameters and 300 M multiply-adds (Sandler et al., 2018, table 4)."""
  assert MOBILE.check(MOBILENET_V2) == MOBILENET_V2
  network = MobileNetwork(MOBILENET_V2, 1000)
  shapes = shapes_of(network, (224, 224))
  assert (count(shapes), multiply_adds(network, shapes, (224, 224, 3))) == (3_504_872, 300_774_272)


def test_an_inverted_residual_by_hand():
  """C = 2 to 3 at stride 2 with E = 3: 12 + 54 + 18 weights of convolutions, two BatchNorms of 6 and one of 3."""
  init = lambda block: jax.eval_shape(lambda key: block.init(key, jnp.zeros((1, 8, 8, 2)), False), jax.random.key(0))
  assert count(init(InvertedResidual(3, stride=2, expansion=3))) == 2 * 6 + 9 * 6 + 6 * 3 + 2 * (6 + 6 + 3)
  assert 'expand' not in init(InvertedResidual(2, expansion=1))['params']


def test_the_sizes_of_small_images():
  """32 pixels end as 4×4, as in the network for CIFAR; 224 pixels as 7×7."""
  strides = lambda size: math.prod(stage.stride for stage in stage_plan(16, (size, size)))
  assert strides(64) == 8 and 2 * strides(65) == 32
  places = list(placed_operations(Supernet(SMALL, 10, channels=2), (32, 32)))
  assert {(p.height, p.input_channels, p.channels) for name, row, _, p in places if (name, row) == ('reduce', 5)} == {
    (4, 20, 40)
  }
  check_image_size((8, 64), 'mobile')
  check_image_size((224, 224), 'mobile')
  for size, factor in (((12, 8), 8), ((100, 64), 32)):
    with pytest.raises(InputError, match=f'expected multiples of {factor}'):
      check_image_size(size, 'mobile')


def test_what_needs_cells_is_refused():
  with pytest.raises(InputError, match='partial_channels=2: expected 1'):
    Supernet(MOBILE, 10, partial_channels=2)
  with pytest.raises(InputError, match='channels=3: expected an even number'):
    Supernet(MOBILE, 10, channels=3)
  with pytest.raises(InputError, match='the genotype has 2 stages: expected 6'):
    MobileNetwork(type(MOBILENET_V2)(MOBILENET_V2.cells[:2]), 10)
  text = str(MOBILENET_V2).replace('mb_conv_3x3_e6', 'skip_connect', 1)
  with pytest.raises(InputError, match='stage 0 begins with skip_connect, which cannot change the number of channels'):
    MobileNetwork(type(MOBILENET_V2).parse(text), 10)
  with pytest.raises(InputError, match='auxiliary skips'):
    stage = SearchStage(SMALL, stage_plan(2, (8, 8))[0])
    stage.apply({}, jnp.zeros((1, 8, 8, 2)), {'auxiliary_skip': 1.0}, train=True)


# ---- the supernet ----


def test_a_stage_has_variables_for_each_layer():
  """The first layer has six operations; the other three have seven and are stacked."""
  betas = {name: jnp.zeros(shape) for name, shape in MOBILE.alpha_shapes.items()}
  stage, x = SearchStage(MOBILE, stage_plan(2, (8, 8))[1]), jnp.zeros((1, 8, 8, 3))
  shapes = jax.eval_shape(lambda key: stage.init(key, x, betas, False)['params'], jax.random.key(0))
  assert len(shapes['edges_0']) == len(shapes['edges_1']) == 6  # skip connections have no variables
  assert shapes['edges_0']['mb_conv_7x7_e6']['depthwise']['kernel'].shape == (7, 7, 1, 18)
  assert shapes['edges_1']['mb_conv_7x7_e6']['depthwise']['kernel'].shape == (3, 7, 7, 1, 24)


def chosen(tree, genotype):
  """The supernet's variables of the operations of a genotype, at their places in the discrete network."""
  network = dict(tree['network'])
  for number, stage in enumerate(genotype.cells, start=1):
    runs = network[f'stage{number}']
    layers = {}
    for i, name in enumerate(stage.operations):
      of_run = runs.get(f'edges_{min(i, 1)}', {}).get(name)
      if of_run and i:
        of_run = jax.tree.map(lambda x, i=i: x[i - 1], of_run)
      layers |= {f'layer_{i}': of_run} if of_run else {}
    network[f'stage{number}'] = layers
  return {'network': network}


@pytest.mark.full
def test_one_hot_supernet_equals_the_discrete_network_and_scan_equals_loop():
  """In float64: logits and running statistics for a one-hot β; for any β also the gradients, scanned and unrolled."""
  with jax.enable_x64(True):
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    alphas = {name: jnp.ones(shape) / 7 for name, shape in SMALL.alpha_shapes.items()}
    scanned, unrolled = (Supernet(SMALL, 3, channels=2, unroll=unroll) for unroll in (False, True))
    variables = jax.jit(scanned.init)(jax.random.key(0), images, alphas)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
      jnp.shape, jax.eval_shape(unrolled.init, jax.random.key(0), images, alphas)
    )

    def everything(supernet):
      def loss(betas):
        logits, updates = supernet.apply(variables, images, betas, train=True, mutable=['batch_stats'])
        return jnp.sum(jnp.sin(logits)), (logits, updates)

      return jax.jit(jax.value_and_grad(loss, has_aux=True))

    genotype = SMALL.random_genotype(np.random.default_rng(3))
    assert len(set(itertools.chain(*(cell.operations for cell in genotype.cells)))) == 2
    run = everything(scanned)
    (_, (logits, _)), _ = run(jax.tree.map(jnp.float64, SMALL.one_hot(genotype)))
    network = MobileNetwork(genotype, 3, channels=2, affine=False)
    derived = {collection: chosen(tree, genotype) for collection, tree in variables.items()}
    expected, _ = jax.jit(lambda v: network.apply(v, images, train=True, mutable=['batch_stats']))(derived)
    np.testing.assert_allclose(logits, expected, rtol=1e-9)
    chex.assert_trees_all_close(run(alphas), everything(unrolled)(alphas), rtol=1e-8, atol=1e-10)


@pytest.mark.full
def test_drop_path_keeps_the_input_of_a_layer():
  """At a rate near 1 a stage keeps what its first layer gives, since the other layers only add to it."""
  cell = MOBILENET_V2.cells[0]
  stage, x = DiscreteStage(cell, stage_plan(2, (8, 8))[0]), jax.random.normal(jax.random.key(1), (2, 4, 4, 2))
  first = DiscreteStage(type(cell)(cell.nodes[:1]), stage.stage)
  variables = jax.jit(stage.init, static_argnames='train')(jax.random.key(0), x, train=False)
  apply = lambda stage, *rate: stage.apply(
    variables, x, *rate, train=True, mutable=['batch_stats'], rngs={'draw': jax.random.key(2)}
  )[0]
  expected = apply(first)
  np.testing.assert_allclose(apply(stage, 0.999), expected, rtol=1e-5, atol=1e-5)
  assert np.abs(apply(stage) - expected).max() > 0.1


# ---- the operations of a draw ----

EDGE = ('mb_conv_3x3_e3', 'skip_connect', 'mb_conv_5x5_e3')


@pytest.mark.full
def test_two_paths_compute_the_two_drawn_operations_alone():
  """The output is that of the open one. Both β have the gradient ⟨c, o(x)⟩ for the output's gradient c."""
  edge = MixedOperation(EDGE, channels=2, single_path=True, paths=2)
  c, x = np.random.default_rng(0).standard_normal((2, 3, 4, 4, 2), np.float32)
  variables = jax.jit(edge.init, static_argnums=2)(jax.random.key(0), x, True, jnp.ones(3))

  @jax.jit
  def run(betas):
    def product(betas):
      y, updates = edge.apply(variables, x, True, betas, mutable=['batch_stats'])
      return jnp.vdot(c, y), (y, updates['batch_stats'])

    return jax.value_and_grad(product, has_aux=True)(betas)

  outputs = [run(jnp.eye(3)[k])[0][1] for k in range(3)]
  inner = [float(np.vdot(c, y)) for y, _ in outputs]
  (_, (y, stats)), gradient = run(jnp.array([TINY, 1.0, 0.0]))
  np.testing.assert_allclose(y, x, rtol=1e-6)
  np.testing.assert_allclose(gradient, [inner[0], inner[1], 0], rtol=1e-4)
  chex.assert_trees_all_close(stats[EDGE[0]], outputs[0][1][EDGE[0]], rtol=1e-5)
  chex.assert_trees_all_equal(stats[EDGE[2]], variables['batch_stats'][EDGE[2]])
  chex.assert_trees_all_equal(outputs[1][1], variables['batch_stats'])  # a skip connection has no statistics


@pytest.mark.full
@pytest.mark.parametrize('paths', [1, 2])
def test_a_supernet_of_drawn_paths_equals_the_supernet_of_all_operations(paths):
  """Where one β of each layer is 1 and the others are 0: the logits, and the gradients of the weights and of that β."""
  x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  drawn = {
    name: np.random.default_rng(0).integers(number, size=layers)
    for name, (layers, number) in SMALL.alpha_shapes.items()
  }
  open_one = {name: jax.nn.one_hot(k, SMALL.alpha_shapes[name][1]) for name, k in drawn.items()}
  whole = Supernet(SMALL, 10, channels=2, unroll=False)
  variables = jax.jit(whole.init)(jax.random.key(0), x, open_one)

  def gradients(supernet, betas):
    def loss(params, betas):
      logits, _ = supernet.apply({**variables, 'params': params}, x, betas, train=True, mutable=['batch_stats'])
      return jnp.sum(jnp.sin(logits)), logits

    of_params, of_betas = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables['params'], betas)[0]
    return (
      of_params,
      {name: of_betas[name][np.arange(len(k)), k] for name, k in drawn.items()},
      loss(variables['params'], betas)[1],
    )

  expected = jax.jit(lambda betas: gradients(whole, betas))(open_one)
  single = whole.clone(single_path=True, paths=paths)
  # two paths: TINY opens a second path, whose output is below rounding
  betas = open_one if paths == 1 else jax.tree.map(lambda beta: jnp.maximum(beta, TINY), open_one)
  found = jax.jit(lambda betas: gradients(single, betas))(betas)
  assert max(np.ptp(k) for k in drawn.values()) == 1  # both operations are drawn somewhere
  chex.assert_trees_all_close(found, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.full
def test_the_gradient_of_scanned_layers_keeps_no_results_of_their_operations(monkeypatch):
  """It needs less than half the temporary memory that it needs without rematerialization."""
  space = SearchSpace('five layers', 'mobile', nodes=5, operations=('mb_conv_3x3_e3', 'skip_connect'))
  stage = SearchStage(space=space, stage=stage_plan(16, (32, 32))[0])
  x, betas = jnp.zeros((8, 16, 16, 16)), softmax_betas(space.init_alphas(jax.random.key(0)))
  variables = jax.eval_shape(lambda key: stage.init(key, x, betas, True), jax.random.key(1))

  def temporary_bytes():
    def loss(params, batch_stats):
      at = {'params': params, 'batch_stats': batch_stats}
      return jnp.sum(stage.apply(at, x, betas, True, mutable=['batch_stats'])[0])

    compiled = jax.jit(jax.grad(loss)).lower(variables['params'], variables['batch_stats']).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  rematerialized = temporary_bytes()
  monkeypatch.setattr(nn, 'remat', lambda function, **_: function)
  assert rematerialized < temporary_bytes() / 2


@pytest.mark.full
@pytest.mark.parametrize('paths', [1, 2])
def test_the_memory_of_drawn_paths_is_that_of_the_largest_candidates(paths):
  """Of a training step of a layer, as compiled: with two candidates, and with two smaller ones besides."""
  x = jnp.zeros((16, 16, 16, 8))

  def temporary_bytes(names, single_path):
    edge = MixedOperation(names, channels=8, single_path=single_path, paths=paths)
    betas = jnp.eye(len(names))[0]
    variables = jax.eval_shape(lambda key: edge.init(key, x, True, betas), jax.random.key(0))

    def loss(params, betas, stats, x):
      y, updates = edge.apply({'params': params, **stats}, x, True, betas, mutable=['batch_stats'])
      return jnp.sum(jnp.square(y)), updates

    step = jax.jit(jax.grad(loss, argnums=(0, 1, 3), has_aux=True))
    stats = {'batch_stats': variables['batch_stats']}
    return step.lower(variables['params'], betas, stats, x).compile().memory_analysis().temp_size_in_bytes

  two, four = ([f'mb_conv_{k}x{k}_e{e}' for k in kernels for e in (3, 6)] for kernels in ((5,), (3, 5)))
  (drawn_of_two, all_of_two), (drawn_of_four, all_of_four) = (
    [temporary_bytes(tuple(names), single_path) for single_path in (True, False)] for names in (two, four)
  )
  assert drawn_of_four < 1.02 * drawn_of_two and all_of_four > 1.5 * all_of_two
  assert drawn_of_four < all_of_four
