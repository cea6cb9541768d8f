import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden, nhwc, relative_difference

from beta_darts_jax import (
  DARTS,
  DARTS_WITH_NONE,
  NAS_BENCH_201,
  S1,
  S2,
  S3,
  S4,
  Genotype,
  NasBench201Network,
  Network,
  SearchSpace,
  Supernet,
  beta_decay,
  softmax_betas,
)
from beta_darts_jax.method.losses import cross_entropy
from beta_darts_jax.networks.interop import supernet_state_dict, supernet_variables
from beta_darts_jax.networks.operations import Noise
from beta_darts_jax.networks.plan import cell_plan, equal_edges

SUPERNET = Supernet(NAS_BENCH_201, num_classes=10, channels=4, cells_per_stage=1)


@pytest.fixture(scope='module')
def official():
  return golden('nas_bench_201_supernet')


def test_supernet_has_the_official_logits_losses_and_gradients(official):
  arrays, variables = official
  alphas, variables = variables('before/')

  @jax.jit
  def everything(params, alphas, valid_images, valid_labels, images, labels):
    def loss(params, alphas, images, labels):
      variables_ = {'params': params, 'batch_stats': variables['batch_stats']}
      logits, _ = SUPERNET.apply(variables_, images, softmax_betas(alphas), train=True, mutable=['batch_stats'])
      return cross_entropy(logits, labels), logits

    (value, logits), weight_gradient = jax.value_and_grad(loss, has_aux=True)(params, alphas, images, labels)
    valid = lambda alphas: loss(params, alphas, valid_images, valid_labels)[0]
    penalized = lambda alphas: valid(alphas) + 5 * beta_decay(alphas)
    return logits, value, valid(alphas), beta_decay(alphas), jax.grad(penalized)(alphas)['cell'], weight_gradient

  batches = (nhwc(arrays['x_valid']), arrays['y_valid'], nhwc(arrays['x']), arrays['y'])
  *values, gradient = everything(variables['params'], alphas, *batches)
  for value, name in zip(values, ('logits', 'loss', 'loss_valid', 'beta_decay', 'alpha_grad_lambda5'), strict=True):
    assert relative_difference(value, arrays[name]) < 1e-5, name

  # the official weight gradients are converted like weights; the running statistics do not matter here
  state_dict = {k.removeprefix('before/'): v for k, v in arrays.items() if k.startswith('before/')}
  state_dict |= {k.removeprefix('weight_grad/'): v for k, v in arrays.items() if k.startswith('weight_grad/')}
  expected = supernet_variables(state_dict, NAS_BENCH_201)['params']
  jax.tree.map(lambda a, e: np.testing.assert_array_less(relative_difference(a, e), 1e-5), gradient, expected)


def test_supernet_variables_refuses_missing_and_superfluous_weights(official):
  arrays, _ = official
  state_dict = {k.removeprefix('before/'): v for k, v in arrays.items() if k.startswith('before/')}
  missing = {k: v for k, v in state_dict.items() if k != 'classifier.weight'}
  with pytest.raises(ValueError, match=r'classifier\.weight'):
    supernet_variables(missing, NAS_BENCH_201)
  with pytest.raises(ValueError, match='surplus'):
    supernet_variables(state_dict | {'surplus': np.zeros(1)}, NAS_BENCH_201)


def test_supernet_variables_folds_the_biases_of_autodl_projects(official):
  """BatchNorm of (x + b) with the mean m is BatchNorm of x with the mean m − b; their α has another name."""
  arrays, variables = official
  state_dict = {k.removeprefix('before/'): v for k, v in arrays.items() if k.startswith('before/')}
  bias = np.arange(4, dtype=np.float32)
  state_dict = state_dict | {'cells.0.edges.1<-0.2.op.1.bias': bias, 'arch_parameters': np.zeros((6, 5))}
  found = supernet_variables(state_dict, NAS_BENCH_201)
  expected = jax.tree.map(np.copy, variables('before/')[1])
  expected['batch_stats']['network']['stage1']['edges_0']['nor_conv_1x1']['batch_norm']['mean'][0, 0] -= bias
  chex.assert_trees_all_equal(found, expected)


def test_supernet_has_the_official_number_of_weights():
  supernet = Supernet(NAS_BENCH_201, num_classes=10, channels=16, cells_per_stage=5)
  betas = {'cell': jnp.zeros((6, 5))}
  shapes = jax.eval_shape(supernet.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), betas)
  count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))
  assert round(count / 1e6, 4) == 1.6861


def test_the_imagenet_stem_has_three_times_c_channels_as_in_pc_darts():
  supernet = Supernet(DARTS, 10, channels=4, layers=2, stem='imagenet')
  betas = {name: jnp.zeros(shape) for name, shape in DARTS.alpha_shapes.items()}
  shapes = jax.eval_shape(supernet.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)), betas)['params']['network']
  kernels = shapes['stem0_conv_1'], shapes['stem0_conv_2'], shapes['stem1']['conv']
  assert [kernel['kernel'].shape[2:] for kernel in kernels] == [(3, 6), (6, 12), (12, 12)]


@pytest.mark.parametrize('space', [NAS_BENCH_201, DARTS], ids=lambda space: space.name)
def test_initial_weights_have_the_variance_of_pytorch(space):
  supernet = Supernet(space, num_classes=100, channels=32, cells_per_stage=2, layers=3)
  images, betas = jnp.zeros((1, 8, 8, 3)), {cell_type: jnp.zeros(space.alpha_shape) for cell_type in space.cell_types}
  init = jax.jit(jax.vmap(lambda key: supernet.init(key, images, betas)['params']))
  params = init(jax.random.split(jax.random.key(0), 8))
  kernels = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path)
    if 'kernel' in name:
      fan_in = leaf.shape[-2] if 'classifier' in name else np.prod(leaf.shape[-4:-1])
      # the relative error of a uniform sample's variance is 0.9/√size: 2 % for the smallest tensors
      np.testing.assert_allclose(np.mean(np.square(leaf)) * 3 * fan_in, 1, rtol=0.05, err_msg=name)
      assert np.abs(leaf).max() <= 1 / np.sqrt(fan_in) * (1 + 1e-6)
      kernels += leaf.size // 8
  fan_in = params['network']['classifier']['kernel'].shape[-2]
  bias = params['network']['classifier']['bias']
  assert 0.5 / np.sqrt(fan_in) < np.abs(bias).max() <= 1 / np.sqrt(fan_in)
  assert kernels > 0.98 * sum(leaf.size // 8 for leaf in jax.tree.leaves(params))


def test_cells_and_edges_start_with_different_weights():
  supernet = Supernet(NAS_BENCH_201, num_classes=2, channels=2, cells_per_stage=2)
  params = jax.jit(supernet.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), {'cell': jnp.zeros((6, 5))})['params']
  kernel = params['network']['stage1']['edges_0']['nor_conv_3x3']['conv']['kernel']
  assert kernel.shape == (2, 6, 3, 3, 2, 2)
  assert len(np.unique(np.asarray(kernel).reshape(12, -1), axis=0)) == 12


def discrete(tree, space, genotype):
  """Returns the supernet's weights of the operations in `genotype`, at their paths in the discrete network."""
  types = [cell.cell_type for cell in cell_plan(LAYERS, 1)]

  def convert_cell(cell_tree, cell_type, stacked):
    kept = {}
    rows = {
      e: (run[0], run.index(e) if len(run) > 1 else None) for _, run in equal_edges(space, cell_type) for e in run
    }
    cell = genotype.cells[space.cell_types.index(cell_type)]
    for target, node in enumerate(cell.nodes, start=space.num_inputs):
      for k, (operation, source) in enumerate(node):
        first, index = rows[space.edges.index((target, source))]
        names = {'': operation, '_batch_norm': f'{operation}_batch_norm', '_auxiliary_skip': 'auxiliary_skip'}
        for suffix, name in names.items():
          if part := cell_tree.get(f'edges_{first}', {}).get(name):
            where = (slice(None),) * stacked + (() if index is None else (index,))
            kept[f'edge_{target}_{k}{suffix}'] = jax.tree.map(lambda x, where=where: x[where], part)
    return kept

  network = dict(tree['network'])
  for name, part in tree['network'].items():
    if name.startswith('stage'):
      network[name] = convert_cell(part, 'cell', stacked=1)
    elif name.startswith('cells_'):
      cell = convert_cell(part.get('cell', {}), types[int(name.removeprefix('cells_'))], stacked=0)
      network[name] = {**part, 'cell': cell}
  return {'network': {name: part for name, part in network.items() if part}}


LAYERS = 3
ONE_HOT = {
  'nas_bench_201': NAS_BENCH_201,
  's1': S1,
  's4': S4,
  'darts': DARTS,
  'everything': SearchSpace(
    'everything',
    'darts',
    2,
    (*DARTS_WITH_NONE.candidates('normal')[0], 'sep_conv_7x7', 'conv_7x1_1x7', 'nor_conv_3x3'),
  ),
  # one node keeps both its edges; with more nodes, the skips of edges that are not kept would remain in the supernet
  'auxiliary skip': SearchSpace('auxiliary', 'darts', 1, ('max_pool_3x3', 'sep_conv_3x3'), auxiliary_skip=True),
}

NUM_GENOTYPES = {'nas_bench_201': 3, 'everything': 3}  # of the other spaces one
QUICK = ('nas_bench_201', 'auxiliary skip')  # the tests of the other spaces are slow


@pytest.mark.parametrize(
  'space', [pytest.param(s, id=n, marks=[pytest.mark.full] * (n not in QUICK)) for n, s in ONE_HOT.items()]
)
def test_one_hot_supernet_equals_the_discrete_network(space, monkeypatch):
  # the two networks would draw different noise, so the test replaces it by a fixed wave
  halved = lambda self, x: x[:, :: self.stride, :: self.stride]
  wave = lambda self, x: jnp.cos(jnp.arange(halved(self, x).size)).reshape(halved(self, x).shape)
  weighted = lambda self, x, train, weight=None: wave(self, x) * (1 if weight is None else weight)
  monkeypatch.setattr(Noise, '__call__', weighted)
  supernet = Supernet(space, num_classes=10, channels=4, cells_per_stage=2, layers=LAYERS)
  images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  betas = {cell_type: jnp.zeros(space.alpha_shape) for cell_type in space.cell_types}
  variables = jax.jit(supernet.init)(jax.random.key(0), images, betas)
  forward = jax.jit(lambda betas: supernet.apply(variables, images, betas, train=True, mutable=['batch_stats'])[0])
  rng = np.random.default_rng(0)
  for _ in range(NUM_GENOTYPES.get(space.name, 1)):
    genotype = space.random_genotype(rng)
    sizes = {'channels': 4, 'affine': False, 'auxiliary_skip': space.auxiliary_skip}
    if space.skeleton == 'darts':
      network = Network(genotype, 10, layers=LAYERS, **sizes)
    else:
      network = NasBench201Network(genotype, 10, cells_per_stage=2, **sizes)
    chosen = {collection: discrete(tree, space, genotype) for collection, tree in variables.items()}
    expected = jax.jit(lambda v, n=network: n.apply(v, images, train=True, mutable=['batch_stats'])[0])(chosen)
    np.testing.assert_allclose(forward(space.one_hot(genotype)), expected, rtol=1e-4, atol=1e-4)


TWO_NODES = SearchSpace('two nodes', 'nas_bench_201', 2, NAS_BENCH_201.candidates('cell')[0])
SMALL = SearchSpace('small', 'darts', 2, ('max_pool_3x3', 'skip_connect', 'dil_conv_3x3', 'none'), auxiliary_skip=True)


@pytest.mark.parametrize('space', [TWO_NODES, pytest.param(SMALL, marks=pytest.mark.full)], ids=lambda s: s.name)
def test_unrolled_and_scanned_edges_agree(space):
  """In float64, to 1e-12: logits, running statistics, gradients of weights and β. The variables have equal shapes."""
  with jax.enable_x64(True):
    key = jax.random.key(1)
    images, betas = jax.random.normal(key, (4, 8, 8, 3)), softmax_betas(space.init_alphas(key))
    scanned, unrolled = (
      Supernet(space, num_classes=3, channels=2, cells_per_stage=1, layers=2, unroll=unroll) for unroll in (False, True)
    )
    variables = jax.jit(scanned.init)(key, images, betas)
    other = jax.eval_shape(unrolled.init, key, images, betas)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, other)

    def everything(net):
      def loss(params, betas):
        at = {**variables, 'params': params}
        logits, updates = net.apply(at, images, betas, train=True, mutable=['batch_stats'])
        return jnp.sum(jnp.sin(logits)), (logits, updates)

      return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables['params'], betas)

    chex.assert_trees_all_close(everything(scanned), everything(unrolled), rtol=1e-11, atol=1e-12)


@pytest.mark.full
def test_the_gradient_of_scanned_edges_keeps_no_results_of_their_operations(monkeypatch):
  """It needs less than half the temporary memory that it needs without rematerialization."""
  space = SearchSpace('two candidates', 'darts', 4, ('sep_conv_3x3', 'skip_connect'))
  supernet = Supernet(space, num_classes=3, channels=4, layers=1)
  images, betas = jnp.zeros((8, 16, 16, 3)), softmax_betas(space.init_alphas(jax.random.key(0)))
  variables = jax.eval_shape(supernet.init, jax.random.key(1), images, betas)

  def temporary_bytes():
    def loss(params, batch_stats):
      at = {'params': params, 'batch_stats': batch_stats}
      return jnp.sum(supernet.apply(at, images, betas, train=True, mutable=['batch_stats'])[0])

    compiled = jax.jit(jax.grad(loss)).lower(variables['params'], variables['batch_stats']).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  rematerialized = temporary_bytes()
  monkeypatch.setattr(nn, 'remat', lambda function, **_: function)
  assert rematerialized < temporary_bytes() / 2


SPACES_OF_GOLDEN = {'s1': S1, 's2': S2, 's3': S3, 's5': DARTS}


@pytest.mark.parametrize('name', ['s3', *(pytest.param(name, marks=pytest.mark.full) for name in ('s1', 's2', 's5'))])
def test_darts_supernet_has_the_official_logits_loss_gradients_and_genotype(name):
  space = SPACES_OF_GOLDEN[name]
  arrays, variables = golden(f'darts_supernet_{name}', space=space)
  alphas, variables = {t: arrays[f'alphas_{t}'] for t in space.cell_types}, variables('before/')[1]
  supernet = Supernet(space, num_classes=10, channels=4, layers=4)

  @jax.jit
  def everything(alphas, images, labels):
    def penalized(alphas):
      logits, _ = supernet.apply(variables, images, softmax_betas(alphas), train=True, mutable=['batch_stats'])
      loss = cross_entropy(logits, labels)
      return loss + 2 * beta_decay(alphas), (logits, loss)

    return jax.value_and_grad(penalized, has_aux=True)(alphas)

  (_, (logits, loss)), gradient = everything(alphas, nhwc(arrays['x']), arrays['y'])
  assert relative_difference(logits, arrays['logits']) < 1e-5 and relative_difference(loss, arrays['loss']) < 1e-5
  assert relative_difference(beta_decay(alphas), arrays['beta_decay']) < 1e-5
  for cell_type in space.cell_types:
    assert relative_difference(gradient[cell_type], arrays[f'alpha_grad_{cell_type}_lambda2']) < 1e-5
  assert str(space.derive(softmax_betas(alphas))) == str(Genotype.parse(str(arrays['genotype'])))


@pytest.mark.parametrize('name, space', [('nas_bench_201_supernet', NAS_BENCH_201), ('darts_supernet_s5', DARTS)])
def test_supernet_state_dict_inverts_supernet_variables(name, space):
  arrays, variables = golden(name, space=space)
  state_dict = {k.removeprefix('before/'): v for k, v in arrays.items() if k.startswith('before/')}
  back = supernet_state_dict(variables('before/')[1], space)
  assert back.keys() == {n for n in state_dict if not n.endswith('num_batches_tracked')} - {'_arch_parameters'}
  for weight in back:
    np.testing.assert_array_equal(back[weight], state_dict[weight])


@pytest.mark.full
@pytest.mark.parametrize('space', [NAS_BENCH_201, ONE_HOT['everything']], ids=lambda space: space.name)
def test_bfloat16_changes_only_the_dtype_of_the_computation(space):
  supernet = Supernet(space, num_classes=10, channels=4, cells_per_stage=1, layers=2, dtype=jnp.bfloat16)
  images, betas = jnp.ones((2, 8, 8, 3)), softmax_betas(space.init_alphas(jax.random.key(1)))
  run = lambda key: supernet.apply(
    supernet.init(key, images, betas), images, betas, train=True, mutable=['batch_stats']
  )
  logits, updates = jax.eval_shape(run, jax.random.key(0))
  variables = jax.eval_shape(supernet.init, jax.random.key(0), images, betas)
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates, logits))} == {jnp.dtype('float32')}
  jaxpr = str(jax.make_jaxpr(run)(jax.random.key(0)))
  assert f'bf16[2,8,8,{4 if space is NAS_BENCH_201 else 12}]' in jaxpr


@pytest.mark.full
@pytest.mark.parametrize('unroll', [False, True])
def test_bfloat16_gives_nearly_the_same_logits_and_gradients(unroll):
  sizes = {'num_classes': 10, 'channels': 4, 'cells_per_stage': 1, 'unroll': unroll}
  nets = [Supernet(NAS_BENCH_201, **sizes, dtype=dtype) for dtype in (None, jnp.bfloat16)]
  key = jax.random.key(0)
  images, betas = jax.random.normal(key, (16, 8, 8, 3)), softmax_betas(NAS_BENCH_201.init_alphas(key))
  variables = jax.jit(nets[0].init)(key, images, betas)

  def loss(betas, net):
    logits = net.apply(variables, images, betas, train=True, mutable=['batch_stats'])[0]
    return jnp.mean(jnp.logaddexp(0, logits)), logits

  run = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
  (exact, exact_logits), (rounded, logits) = (run(betas, net) for net in nets)
  assert 0 < np.linalg.norm(exact_logits - logits) < 0.05 * np.linalg.norm(exact_logits)
  exact, rounded = exact['cell'].ravel(), rounded['cell'].ravel()
  assert exact @ rounded > 0.9 * np.linalg.norm(exact) * np.linalg.norm(rounded)
