"""An exported network computes what the trained network computes, and its files need nothing of this package."""

import ast
import functools
import importlib.util
import json
import subprocess
import sys
import types

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import optional
from PIL import Image
from safetensors.numpy import load_file

import beta_darts_jax as bd
from beta_darts_jax.data import normalize
from beta_darts_jax.data.crops import ResizedCrops
from beta_darts_jax.data.pictures import open_picture, read_picture
from beta_darts_jax.retrain.export import FORMATS, export
from beta_darts_jax.retrain.export.examples import EXAMPLES, picture_source
from beta_darts_jax.retrain.export.source import torch_source, torch_state_dict
from beta_darts_jax.retrain.trained import TrainedNetwork, of_module
from beta_darts_jax.spaces.genotype import Cell

INVERTED = sorted(name for name in bd.OPERATIONS if name.startswith('mb_conv'))
OPERATIONS = sorted(set(bd.OPERATIONS) - {'noise', *INVERTED})  # the draws of two programs differ
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
DATA = {'classes': list('abcd'), 'image_shape': (8, 8, 3), 'mean': (0.4, 0.5, 0.6), 'std': (0.2, 0.3, 0.25)}
SOURCES = ((0, 1), (0, 2), (0, 3), (0, 4))  # of the nodes of a cell: every reduction cell has edges of both strides
BENCHMARK_CELL = '|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|'


def darts_genotype(operations):
  """The edges of the two cells have the given operations in turn."""
  names = iter(np.resize(operations, 16).tolist())
  nodes = [tuple(tuple((next(names), source) for source in pair) for pair in SOURCES) for _ in range(2)]
  return bd.Genotype(tuple(Cell(cell, (2, 3, 4, 5)) for cell in nodes))


def trained(module, data=DATA):
  """A network whose statistics and scales of batch normalization are not those of the initialization."""
  rng = np.random.default_rng(1)
  images = jnp.zeros((1, *data['image_shape']))
  shapes = jax.eval_shape(functools.partial(module.init, train=True), jax.random.key(0), images)

  def draw(path, leaf):
    if path[-1].key in ('var', 'scale'):
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    return rng.normal(0, 1 / np.sqrt(np.prod(leaf.shape[-4:-1]) or 1), leaf.shape).astype(np.float32)

  return of_module(module, jax.tree_util.tree_map_with_path(draw, shapes), data)


@pytest.fixture(scope='module')
def benchmark_network():
  module = bd.NasBench201Network(bd.Genotype.parse(BENCHMARK_CELL), 4, channels=2, cells_per_stage=2)
  return trained(module)


@pytest.fixture(scope='module')
def darts_network():
  """A normal cell and two reduction cells with every operation."""
  return trained(bd.Network(darts_genotype(OPERATIONS), 4, channels=2, layers=3))


@pytest.fixture(scope='module')
def mobile_network():
  stages = ['mb_conv_3x3_e3 > skip_connect > mb_conv_5x5_e6'] + ['mb_conv_7x7_e3'] * 5
  return trained(bd.MobileNetwork(bd.Genotype.parse(' | '.join(stages)), 4, channels=2))


# ---- torch ----


class StandIn:
  """A module of torch.nn without arithmetic, which knows the shapes of its variables."""

  def __init__(self, *parts, **_):
    self.__dict__ |= {str(i): part for i, part in enumerate(parts)}

  def append(self, part):
    setattr(self, str(len(vars(self))), part)

  def __getitem__(self, i):
    return getattr(self, str(i))

  def __len__(self):
    return len(vars(self))

  def shapes(self):
    inner = {name: part.shapes() for name, part in vars(self).items() if isinstance(part, StandIn)}
    return {f'{name}.{path}': shape for name, part in inner.items() for path, shape in part.items()}


class WithVariables(StandIn):
  def __init__(self, **shapes):
    self.own = shapes

  def shapes(self):
    return self.own


def convolution(inputs, outputs, kernel_size, *_, groups=1, **__):
  return WithVariables(weight=(outputs, inputs // groups, *np.broadcast_to(kernel_size, 2).tolist()))


def batch_norm(channels):
  return WithVariables(**dict.fromkeys(('weight', 'bias', 'running_mean', 'running_var'), (channels,)))


STAND_INS = {
  'Module': StandIn, 'Sequential': StandIn, 'ModuleList': lambda: StandIn(), 'Conv2d': convolution,
  'BatchNorm2d': batch_norm, 'Linear': lambda inputs, outputs: WithVariables(weight=(outputs, inputs), bias=(outputs,)),
} | dict.fromkeys(('Identity', 'AvgPool2d', 'MaxPool2d'), lambda *_, **__: WithVariables())  # fmt: skip


def run_source(source, top='Network'):
  """Runs model.py with modules that need no torch, and returns {name: shape} of its variables."""
  namespace = {'torch': None, 'nn': types.SimpleNamespace(**STAND_INS)}
  exec(source.replace('import torch\nfrom torch import nn\n', ''), namespace)
  return namespace[top]().shapes()


def shapes_of(module, size=64):
  """A module with variables of the right shapes; nothing is compiled."""
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  shapes = jax.eval_shape(functools.partial(module.init, train=True), jax.random.key(0), images)
  return jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)


NETWORKS = {
  'NAS-Bench-201': bd.NasBench201Network(bd.Genotype.parse(BENCHMARK_CELL), 10, channels=4, cells_per_stage=3),
  'every operation': bd.Network(darts_genotype([*OPERATIONS, 'noise']), 10, channels=4, layers=3),
  'auxiliary skips': bd.Network(bd.PUBLISHED['DARTS_V2'], 10, channels=4, layers=3, auxiliary_skip=True),
  'inverted residuals': bd.Network(darts_genotype(INVERTED), 10, channels=4, layers=3),
  'chain': bd.MobileNetwork(bd.PUBLISHED['MOBILENET_V2'], 10, channels=2),
  'ImageNet': bd.Network(bd.PUBLISHED['NASNET'], 10, channels=4, layers=3, stem='imagenet'),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_model_py_has_the_variables_of_the_file_and_nothing_else(name):
  module = NETWORKS[name]
  source = torch_source(module, (64, 64, 3))
  assert run_source(source) == {k: v.shape for k, v in torch_state_dict(module, shapes_of(module)).items()}
  tree = ast.parse(source)
  imports = {alias.name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
  assert imports == {'torch', 'nn'}
  classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
  assert classes - {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} == {'Network'}
  assert max(map(len, source.splitlines())) <= 120
  if name != 'every operation':
    assert 'Noise' not in classes


def test_an_auxiliary_head_is_kept_where_it_is_asked_for(tmp_path):
  module = bd.Network(bd.PUBLISHED['DARTS_V2'], 10, channels=4, layers=3, auxiliary=True)
  network = of_module(module, shapes_of(module, 32), DATA | {'image_shape': (32, 32, 3)})
  for auxiliary, top in ((False, 'Network'), (True, 'NetworkWithAuxiliaryHead')):
    out = export(network, 'torch', tmp_path / top, auxiliary=auxiliary)
    shapes = {name: array.shape for name, array in load_file(out / 'model.safetensors').items()}
    assert run_source((out / 'model.py').read_text(), top) == shapes
    assert any('auxiliary_head' in name for name in shapes) == auxiliary
  larger = of_module(module, shapes_of(module, 64), DATA | {'image_shape': (64, 64, 3)})
  with pytest.raises(bd.InputError, match='auxiliary head is that of images of another size'):
    export(larger, 'torch', tmp_path / 'larger', auxiliary=True)


def load_torch(network, folder):
  """Exports a network to PyTorch and returns its module, and images as the module takes them."""
  torch = optional('torch')
  export(network, 'torch', folder)
  namespace = {}
  exec((folder / 'model.py').read_text(), namespace)
  module = namespace['Network']().eval()
  arrays = load_file(folder / 'model.safetensors')
  module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
  normalized = normalize(IMAGES, network.mean, network.std)
  return module, normalized, torch.from_numpy(np.array(normalized.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize(
  'name', ['benchmark_network', 'darts_network', pytest.param('mobile_network', marks=pytest.mark.full)]
)
def test_the_torch_module_has_our_logits(name, request, tmp_path):
  network = request.getfixturevalue(name)
  module, _, images = load_torch(network, tmp_path)
  np.testing.assert_allclose(module(images).detach().numpy(), network(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize('name', ['benchmark_network', 'darts_network'])
def test_the_torch_module_has_our_gradients(name, request, tmp_path):
  """In float64: batch normalization over a few numbers magnifies the rounding of float32."""
  network = request.getfixturevalue(name)
  module, normalized, images = load_torch(network, tmp_path)
  with jax.enable_x64(True):
    variables = jax.tree.map(np.float64, network.variables)

    @jax.jit
    def gradient(params):
      def loss(params):
        tree = {'params': params, 'batch_stats': variables['batch_stats']}
        logits, _ = network.module.apply(tree, np.float64(normalized), train=True, mutable=['batch_stats'])
        return jnp.sum(logits**2)

      return jax.grad(loss)(params)

    ours = torch_state_dict(network.module, variables | {'params': gradient(variables['params'])})
  module.double().train()(images.double()).square().sum().backward()
  theirs = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
  scale = max(np.abs(array).max() for array in theirs.values())
  for name, array in theirs.items():
    np.testing.assert_allclose(array, ours[name], atol=1e-4 * scale, err_msg=name)


# ---- the other formats ----


@pytest.mark.full
def test_stablehlo_has_our_logits_of_a_chain(mobile_network, tmp_path):
  out = export(mobile_network, 'stablehlo', tmp_path / 'out')
  exported = jax.export.deserialize(bytearray((out / 'model.stablehlo').read_bytes()))
  np.testing.assert_allclose(exported.call(IMAGES), mobile_network(IMAGES), rtol=1e-5, atol=1e-5)


def test_a_chain_of_other_operations_has_no_torch_form():
  stages = ['sep_conv_3x3'] * 6
  network = bd.MobileNetwork(bd.Genotype.parse(' | '.join(['sep_conv_3x3 > skip_connect', *stages[1:]])), 4)
  with pytest.raises(bd.InputError, match="'sep_conv_3x3' has no PyTorch form in a chain"):
    torch_source(network, (8, 8, 3))


def test_stablehlo_has_our_logits_for_any_batch(darts_network, tmp_path):
  out = export(darts_network, 'stablehlo', tmp_path / 'out')
  exported = jax.export.deserialize(bytearray((out / 'model.stablehlo').read_bytes()))
  assert exported.platforms == ('cpu', 'cuda', 'rocm', 'tpu')
  assert str(exported.in_avals[0]) == 'uint8[batch,8,8,3]' and str(exported.out_avals[0]) == 'float32[batch,4]'
  np.testing.assert_allclose(exported.call(IMAGES), darts_network(IMAGES), rtol=1e-5, atol=1e-5)


def test_an_operation_of_ones_own_has_no_torch_form_but_stablehlo(benchmark_network, tmp_path, monkeypatch):
  monkeypatch.setitem(bd.OPERATIONS, 'own', bd.OPERATIONS['nor_conv_1x1'])
  cell = bd.Genotype.parse(BENCHMARK_CELL.replace('nor_conv_1x1', 'own'))
  network = of_module(benchmark_network.module.clone(genotype=cell), benchmark_network.variables, DATA)
  for format in ('torch', 'onnx') if importlib.util.find_spec('onnxscript') else ('torch',):
    with pytest.raises(bd.InputError, match=r"the operation 'own' .*: expected format stablehlo"):
      export(network, format, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
  out = export(network, 'stablehlo', tmp_path / 'out')
  exported = jax.export.deserialize(bytearray((out / 'model.stablehlo').read_bytes()))
  np.testing.assert_allclose(exported.call(IMAGES), benchmark_network(IMAGES), rtol=1e-5, atol=1e-5)


def test_safetensors_has_our_variables_and_the_sizes_of_the_network(darts_network, tmp_path):
  out = export(darts_network, 'safetensors', tmp_path / 'out')
  flat = {'/'.join(key.key for key in path): leaf for path, leaf in jax.tree.leaves_with_path(darts_network.variables)}
  jax.tree.map(np.testing.assert_array_equal, load_file(out / 'model.safetensors'), flat)
  facts = json.loads((out / 'classes.json').read_text())
  assert bd.Network(bd.Genotype.parse(facts['genotype']), **facts['network']) == darts_network.module
  assert {name: facts[name] for name in DATA} == json.loads(json.dumps(DATA))


@pytest.mark.full
@pytest.mark.filterwarnings('ignore')  # of torch.onnx
def test_onnx_has_our_logits_for_any_batch(darts_network, tmp_path):
  optional('onnxscript')  # torch.onnx needs it
  onnxruntime = optional('onnxruntime')
  out = export(darts_network, 'onnx', tmp_path / 'out')
  session = onnxruntime.InferenceSession(out / 'model.onnx')
  (logits,) = session.run(['logits'], {'images': IMAGES})
  np.testing.assert_allclose(logits, darts_network(IMAGES), rtol=1e-5, atol=1e-5)


def pictures():
  """{name: picture}, as people have them."""
  rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
  transparent = rgb.copy()
  transparent.putalpha(Image.linear_gradient('L').resize(rgb.size))
  deep = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 109)
  return {'plain.png': rgb, 'transparent.png': transparent, '16_bits.png': deep, 'rotated.jpg': rgb}


@pytest.mark.parametrize('name', pictures())
def test_an_example_reads_a_picture_as_the_training_does(name, tmp_path):
  picture, exif = pictures()[name], Image.Exif()
  exif[0x0112] = 6  # orientation: turned by 90°
  picture.save(tmp_path / name, **({'exif': exif} if name == 'rotated.jpg' else {}))
  namespace = {}
  exec(picture_source(), namespace)
  read = namespace['read_picture']
  np.testing.assert_array_equal(read(tmp_path / name, [8, 8, 3]), read_picture(tmp_path / name, image_size=8))
  cropped = ResizedCrops(size=8, resize=12).for_test(open_picture(tmp_path / name))
  np.testing.assert_array_equal(read(tmp_path / name, [8, 8, 3], resize=12), cropped)
  assert read(tmp_path / name, [8, 6, 1]).shape == (8, 6, 1)
  with pytest.raises(ValueError, match='takes 4 channels: expected 1 or 3'):
    read(tmp_path / name, [8, 8, 4])


def test_an_example_names_the_class_of_a_picture(darts_network, tmp_path):
  out, file = export(darts_network, 'stablehlo', tmp_path / 'out'), tmp_path / 'picture.png'
  pictures()['transparent.png'].save(file)
  logits = darts_network(read_picture(file, image_size=8)[None])
  done = subprocess.run([sys.executable, 'example.py', file], cwd=out, capture_output=True, text=True)
  assert done.stdout.strip() == str([darts_network.classes[int(np.argmax(logits))]]), done.stderr


@pytest.mark.parametrize('format', FORMATS)
def test_an_example_has_at_most_ten_lines_below_its_imports(format):
  lines = EXAMPLES[format].strip().splitlines()
  assert len([line for line in lines if line and not line.strip().startswith(('import', 'from', '"""'))]) <= 10
  ast.parse(EXAMPLES[format])


def test_what_cannot_be_exported_is_named(benchmark_network, tmp_path):
  (tmp_path / 'used').mkdir()
  (tmp_path / 'used' / 'file').touch()
  with pytest.raises(bd.InputError, match='used has files: expected a new or an empty folder'):
    export(benchmark_network, 'torch', tmp_path / 'used')
  with pytest.raises(bd.InputError, match='used/file is a file: expected a new or an empty folder'):
    export(benchmark_network, 'torch', tmp_path / 'used' / 'file' / 'out')
  with pytest.raises(bd.InputError, match=r'cannot write .*: File name too long'):
    export(benchmark_network, 'torch', tmp_path / ('x' * 300))
  with pytest.raises(bd.InputError, match="format 'tflite': expected one of torch, stablehlo, safetensors, onnx"):
    export(benchmark_network, 'tflite', tmp_path / 'out')
  supernet = TrainedNetwork(benchmark_network.genotype, DATA, {}, logits=lambda variables, images: images)
  with pytest.raises(bd.InputError, match='supernet of a search: expected a retrained network'):
    export(supernet, 'torch', tmp_path / 'out')
  with pytest.raises(bd.InputError, match='no such folder'):
    bd.export(tmp_path / 'none', 'torch', tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
