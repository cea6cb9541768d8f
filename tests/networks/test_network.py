import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN, nhwc, relative_difference

from beta_darts_jax import Genotype, InputError, NasBench201Network, Network
from beta_darts_jax.method.losses import cross_entropy
from beta_darts_jax.networks.costs import multiply_adds
from beta_darts_jax.networks.discrete import DiscreteCell, drop_path
from beta_darts_jax.networks.interop import network_state_dict, network_variables
from beta_darts_jax.networks.layers import BatchNorm
from beta_darts_jax.networks.skeletons import check_image_size
from beta_darts_jax.spaces.published import PUBLISHED

DARTS_V2 = PUBLISHED['DARTS_V2']


def official(name):
  """Returns (arrays of the golden file, its initial state dict, our variables of it)."""
  with np.load(GOLDEN / f'{name}.npz') as file:
    arrays = {key: file[key] for key in file.files}
  assert Genotype.parse(str(arrays['genotype'])) == DARTS_V2
  state_dict = {k.removeprefix('before/'): v for k, v in arrays.items() if k.startswith('before/')}
  return arrays, state_dict, network_variables(state_dict, DARTS_V2)


@pytest.mark.full
def test_cifar_network_equals_the_official_one():
  """In float64: BatchNorm over two numbers, in the auxiliary head, magnifies float32 rounding, also in the file."""
  with jax.enable_x64(True):
    arrays, _, variables = official('darts_network_cifar')
    variables = jax.tree.map(np.float64, variables)
    network = Network(DARTS_V2, 10, channels=4, layers=6, auxiliary=True)
    images, labels = nhwc(arrays['x']).astype(np.float64), arrays['y']

    @jax.jit
    def train_pass(params):
      def loss(params):
        variables_ = {'params': params, 'batch_stats': variables['batch_stats']}
        (logits, auxiliary), updates = network.apply(variables_, images, train=True, mutable=['batch_stats'])
        return cross_entropy(logits, labels) + 0.4 * cross_entropy(auxiliary, labels), (logits, auxiliary, updates)

      return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, (logits, auxiliary, updates)), gradient = train_pass(variables['params'])
    assert relative_difference(logits, arrays['logits']) < 1e-5
    assert relative_difference(auxiliary, arrays['logits_aux']) < 5e-5
    assert relative_difference(loss, arrays['loss']) < 1e-5
    evaluated = network.apply({'params': variables['params'], **updates}, images, train=False)
    assert relative_difference(evaluated, arrays['logits_eval']) < 1e-4
    sent_back = network_state_dict({'params': gradient, **updates}, DARTS_V2)
    expected = {k.removeprefix('weight_grad/'): v for k, v in arrays.items() if k.startswith('weight_grad/')}
    assert len(expected) > 100
    for name, value in expected.items():
      assert relative_difference(sent_back[name], value) < 3e-3, name


def unbiased(network, variables, images, batch_stats):
  """Converts `batch_stats` after one step to PyTorch's, which divides by n − 1 for n numbers (98 in the last cells)."""
  numbers = {}

  def count(call, args, kwargs, context):
    if isinstance(context.module, BatchNorm):
      numbers[(*context.module.path, 'var')] = np.prod(args[0].shape[:-1])
    return call(*args, **kwargs)

  with nn.intercept_methods(count):
    jax.eval_shape(lambda v: network.apply(v, images, train=True, mutable=['batch_stats']), variables)

  def correct(path, value):
    n = numbers.get(tuple(key.key for key in path))
    return value if n is None else 0.9 + (value - 0.9) * n / (n - 1)

  return jax.tree_util.tree_map_with_path(correct, batch_stats)


@pytest.mark.full
def test_imagenet_network_equals_the_official_one():
  arrays, state_dict, variables = official('darts_network_imagenet')
  network = Network(DARTS_V2, 20, channels=4, layers=4, stem='imagenet', auxiliary=True)
  images = nhwc(arrays['x'])
  run = jax.jit(lambda variables: network.apply(variables, images, train=True, mutable=['batch_stats']))
  (logits, auxiliary), updates = run(variables)
  assert (
    relative_difference(logits, arrays['logits']) < 1e-5 and relative_difference(auxiliary, arrays['logits_aux']) < 1e-5
  )
  evaluate = jax.jit(lambda variables: network.apply(variables, images, train=False))
  assert relative_difference(evaluate({'params': variables['params'], **updates}), arrays['logits_eval']) < 1e-3
  corrected = unbiased(network, variables, images, updates['batch_stats'])
  assert (
    relative_difference(evaluate({'params': variables['params'], 'batch_stats': corrected}), arrays['logits_eval'])
    < 1e-4
  )
  back = network_state_dict(variables, DARTS_V2)
  assert back.keys() == {name for name in state_dict if not name.endswith('num_batches_tracked')}
  for name in back:
    np.testing.assert_array_equal(back[name], state_dict[name])


@pytest.mark.parametrize(
  'stem, size, num_classes, channels, layers, count, products',
  [
    ('cifar', 32, 10, 36, 20, 3_349_342, 528_359_040),
    pytest.param('imagenet', 224, 1000, 48, 14, 4_718_752, 529_911_552, marks=pytest.mark.full),
  ],
)
def test_networks_have_the_official_numbers_of_weights_and_multiply_adds(
  stem, size, num_classes, channels, layers, count, products
):
  """The expected multiply-adds are k²·C_in·C_out·H·W (depthwise k²·C·H·W), summed over all cells by hand."""
  network = Network(DARTS_V2, num_classes, channels=channels, layers=layers, stem=stem)
  shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
  assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params'])) == count
  assert multiply_adds(network, shapes, (size, size, 3)) == products


@pytest.mark.parametrize('name', ['NASNET', 'AMOEBANET', 'SNAS', 'P_DARTS', 'PC_DARTS_CIFAR', 'FAIR_DARTS_A'])
def test_published_cells_make_networks(name):
  network = Network(PUBLISHED[name], 10, channels=4, layers=3)
  images = jnp.zeros((2, 16, 16, 3))
  variables = jax.eval_shape(network.init, jax.random.key(0), images)
  assert jax.eval_shape(network.apply, variables, images).shape == (2, 10)


# millions of weights and of multiply-adds on CIFAR-10, with 36 channels and 20 cells, as the authors state them:
# SmoothDARTS and DARTS- in their papers, GDAS and FairDARTS in the genotypes.py of FairDARTS
STATED = {
  'SDARTS_RS': (3.61, None), 'SDARTS_ADV': (3.34, None), 'DARTS_MINUS': (3.5, None), 'DRNAS_CIFAR10': (4.1, None),
  'GDAS': (3.36, 519), 'FAIR_DARTS_A': (2.83, 373), 'FAIR_DARTS_B': (3.88, 536), 'FAIR_DARTS_C': (2.59, 400),
  'FAIR_DARTS_D': (3.84, 532), 'FAIR_DARTS_E': (3.12, 414), 'FAIR_DARTS_F': (3.62, 497), 'FAIR_DARTS_G': (3.375, 453),
}  # fmt: skip
WITH_AUXILIARY_HEAD = {f'FAIR_DARTS_{letter}' for letter in 'ABDEFG'}


@pytest.mark.full
@pytest.mark.parametrize('name', STATED)
def test_published_cells_have_the_size_that_their_authors_state(name):
  network = Network(PUBLISHED[name], 10, auxiliary=name in WITH_AUXILIARY_HEAD)
  init = functools.partial(network.init, train=True)
  images = jnp.zeros((1, 32, 32, 3))
  shapes = jax.eval_shape(init, jax.random.key(0), images)
  weights, products = STATED[name]
  count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))
  assert count / 1e6 == pytest.approx(weights, rel=0.015)
  if products:
    assert multiply_adds(network, shapes, (32, 32, 3)) / 1e6 == pytest.approx(products, rel=0.005)


def test_network_state_dict_inverts_network_variables_on_nas_bench_201():
  genotype = Genotype.parse('|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|')
  network, images = NasBench201Network(genotype, 10, channels=2, cells_per_stage=2), jnp.ones((2, 8, 8, 3))
  variables = jax.jit(network.init)(jax.random.key(0), images)
  state_dict = network_state_dict(variables, genotype)
  cells = {f'cells.{i}.layers.{j}.op.1.weight' for i in (0, 1, 3, 4, 6, 7) for j in (0, 2, 5)}
  blocks = {f'cells.{i}.{part}.weight' for i in (2, 5) for part in ('conv_a.op.1', 'conv_b.op.1', 'downsample.1')}
  convolutions = {name for name, value in state_dict.items() if value.ndim == 4}
  assert convolutions == cells | blocks | {'stem.0.weight'}
  kernel = variables['params']['network']['stage2']['edge_3_2']['conv']['kernel'][1]  # the second cell of stage 2
  np.testing.assert_array_equal(state_dict['cells.4.layers.5.op.1.weight'], kernel.transpose(3, 2, 0, 1))
  jax.tree.map(np.testing.assert_array_equal, network_variables(state_dict, genotype), variables)
  skips = Genotype.parse('|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|')
  variables = jax.eval_shape(NasBench201Network(skips, 10, channels=2).init, jax.random.key(0), images)
  with pytest.raises(InputError, match='have no weights'):
    network_state_dict(variables, skips)


def test_network_names_an_unknown_operation():
  text = str(DARTS_V2).replace('dil_conv_3x3', 'dil_conv_9x9')
  with pytest.raises(InputError, match="unknown operation 'dil_conv_9x9': expected one of none, skip_connect"):
    Network(Genotype.parse(text), 10)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
  y = np.asarray(drop_path(jax.random.key(0), jnp.ones((20_000, 2, 2, 1)), 0.3))
  assert set(np.unique(y)) == {0, np.float32(1 / 0.7)}
  assert (y == y[:, :1, :1]).all()
  assert abs((y == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / 20_000)


def test_drop_path_leaves_identities_alone():
  """At a rate near 1 only the skip connections of normal cells pass, so a cell of skip connections is unchanged."""
  text = 'Genotype(normal=[{0}], normal_concat=[2], reduce=[{1}], reduce_concat=[2])'
  skips, convs = "('skip_connect', 0), ('skip_connect', 1)", "('sep_conv_3x3', 0), ('sep_conv_3x3', 1)"
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))

  for normal, same in ((skips, True), (convs, False)):
    cell = Genotype.parse(text.format(normal, skips)).normal
    module = DiscreteCell(cell, 'normal', 3)
    x = (images, images)
    variables = module.init(jax.random.key(0), x, train=True)
    apply = lambda *rate, m=module, v=variables, x=x: m.apply(
      v, x, *rate, train=True, mutable=['batch_stats'], rngs={'draw': jax.random.key(2)}
    )[0]
    assert np.allclose(apply(), apply(0.999)) == same


@pytest.mark.parametrize(
  'size, stem, auxiliary, expected',
  [
    ((6, 8), 'cifar', False, 'image size 6×8: expected multiples of 4'),
    ((48, 28), 'cifar', True, 'image size 48×28: expected multiples of 4, at least 32'),
    ((192, 192), 'imagenet', True, 'image size 192×192: expected multiples of 32, at least 224'),
  ],
)
def test_check_image_size_names_the_sizes(size, stem, auxiliary, expected):
  with pytest.raises(InputError, match=expected):
    check_image_size(size, stem, auxiliary)
  check_image_size((224, 224), stem, auxiliary)


@pytest.mark.parametrize('shape', [(28, 28, 1), (12, 12, 7), (32, 48, 3)])
def test_images_may_have_other_channels_and_sides(shape):
  """The auxiliary head needs 32×32 pixels or more."""
  edges = [('skip_connect', 0), ('skip_connect', 1)]
  cell = Genotype.parse(f'Genotype(normal={edges}, normal_concat=[2], reduce={edges}, reduce_concat=[2])')
  network = Network(cell, num_classes=2, channels=2, layers=3, auxiliary=shape[0] == 32)
  key, images = jax.random.key(0), jnp.zeros((2, *shape))
  logits, variables = jax.eval_shape(functools.partial(network.init_with_output, train=False), key, images)
  assert logits.shape == (2, 2) and variables['params']['network']['stem_conv']['kernel'].shape[2] == shape[2]
