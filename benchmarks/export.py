"""Exports a random cell of every search space in every format, and compares logits and gradients with ours.

  python benchmarks/export.py [--spaces darts,s1] [--layers 3] [--out docs/export.md]   # half an hour on two busy cores

It prints a table. With --out it replaces the table of that page. It needs the extra [onnx].

logits: the largest |difference| over a batch of 8 images, and the largest |logit| of ours, in float32.
gradients: of the sum of the logits' squares in training, of the PyTorch module; the largest |difference| of any weight,
  divided by the largest |gradient|. They are computed in float64. In float32 the rounding changes the sign of single
  inputs of relu, which changes a gradient by up to 1 %.
write: seconds that the export took, without the import of PyTorch.
"""

import argparse
import pathlib
import re
import tempfile
import time

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import torch
import torch.onnx
from safetensors.torch import load_file

import beta_darts_jax as bd
from beta_darts_jax.data import normalize
from beta_darts_jax.retrain.export import FORMATS, export
from beta_darts_jax.retrain.export.source import torch_state_dict
from beta_darts_jax.retrain.trained import TrainedNetwork, of_module
from beta_darts_jax.spaces.space import SPACES

HEADING = '| cells of | network | format | logits | gradients | write, s | files, kB |\n|---|---|---|---|---|---|---|\n'
OPERATIONS = sorted(name for name in bd.OPERATIONS if name != 'noise' and not name.startswith('mb_conv'))
FACTS = {'classes': list(map(str, range(10))), 'mean': (0.49, 0.48, 0.45), 'std': (0.25, 0.24, 0.26)}


def modules(channels: int, layers: int, rng: np.random.Generator):
  """Yields (name, sizes, module, image size)."""
  cell = bd.NAS_BENCH_201.random_genotype(rng)
  yield 'nas_bench_201', f'C={channels}, N=5', bd.NasBench201Network(cell, 10, channels=channels), 32
  spaces = [space for space in SPACES.values() if space.skeleton == 'darts']
  for space in spaces:
    # the cell of S4 has no noise
    operations = {cell_type: np.array(space.candidates(cell_type)) for cell_type in space.cell_types}
    betas = {name: rng.random(space.alpha_shape) * (names != 'noise') for name, names in operations.items()}
    yield space.name, f'C={channels}, {layers} cells', bd.Network(space.derive(betas), 10, channels, layers), 32
  yield 'every operation', f'C={channels}, {layers} cells', bd.Network(every_operation(), 10, channels, layers), 32
  module = bd.Network(bd.DARTS.random_genotype(rng), 10, channels, layers, stem='imagenet')
  yield 'darts (ImageNet)', f'C={channels}, {layers} cells, 64×64', module, 64
  module = bd.MobileNetwork(bd.MOBILE.random_genotype(rng), 10, channels=channels)
  yield 'mobile', f'C={channels}, 21 layers, 64×64', module, 64


def every_operation() -> bd.Genotype:
  """Returns cells whose edges have in turn all operations but noise, whose draws differ, and those of `mobile`."""
  names = iter(np.resize(OPERATIONS, 16).tolist())
  nodes = [', '.join(f"('{next(names)}', {source})" for _ in range(2, 6) for source in (0, 1)) for _ in range(2)]
  return bd.Genotype.parse(
    f'Genotype(normal=[{nodes[0]}], normal_concat=[2, 3, 4, 5], reduce=[{nodes[1]}], reduce_concat=[2, 3, 4, 5])'
  )


def trained(module, images: np.ndarray, rng: np.random.Generator) -> TrainedNetwork:
  """Returns the network with drawn scales of batch normalization, and with the statistics of `images`."""

  def draw(path, leaf):
    return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32) if path[-1].key == 'scale' else np.array(leaf)

  @jax.jit
  def set_statistics(variables, images):
    _, updates = module.apply(variables, images, train=True, mutable=['batch_stats'])
    before = variables['batch_stats']  # each update moves the statistics by a tenth
    return jax.tree.map(lambda new, old: old + 10 * (new - old), updates['batch_stats'], before)

  normalized = normalize(images, FACTS['mean'], FACTS['std'])
  variables = jax.tree_util.tree_map_with_path(draw, jax.jit(module.init)(jax.random.key(0), normalized))
  variables |= {'batch_stats': set_statistics(variables, normalized)}
  return of_module(module, jax.device_get(variables), FACTS | {'image_shape': images.shape[1:]})


def load_torch(folder: pathlib.Path):
  """Returns the module of an exported folder."""
  namespace: dict = {}
  exec((folder / 'model.py').read_text(), namespace)
  network = namespace['Network']()
  network.load_state_dict(load_file(folder / 'model.safetensors'))
  return network.eval()


def predict(format: str, folder: pathlib.Path, network: TrainedNetwork, images: np.ndarray) -> np.ndarray:
  """Returns the logits of an exported folder."""
  if format == 'torch':
    return load_torch(folder)(torch_images(network, images)).detach().numpy()
  if format == 'stablehlo':
    return np.asarray(jax.export.deserialize(bytearray((folder / 'model.stablehlo').read_bytes())).call(images))
  return onnxruntime.InferenceSession(folder / 'model.onnx').run(['logits'], {'images': images})[0]


def torch_images(network, images):
  normalized = (torch.from_numpy(images) / 255 - torch.tensor(network.mean)) / torch.tensor(network.std)
  return normalized.permute(0, 3, 1, 2)


def gradient_difference(folder: pathlib.Path, network: TrainedNetwork, images: np.ndarray) -> float:
  """Compares the gradients of the PyTorch module with ours; see the head of the file."""

  with jax.enable_x64(True):
    variables = jax.tree.map(np.float64, network.variables)
    normalized = np.asarray(torch_images(network, images).permute(0, 2, 3, 1), np.float64)

    @jax.jit
    def gradient(params):
      def loss(params):
        logits, _ = network.module.apply(
          variables | {'params': params}, normalized, train=True, mutable=['batch_stats']
        )
        return jnp.sum(logits**2)

      return jax.grad(loss)(params)

    ours = torch_state_dict(network.module, variables | {'params': gradient(variables['params'])})
  module = load_torch(folder).double().train()
  module(torch_images(network, images).double()).square().sum().backward()
  theirs = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
  scale = max(np.abs(array).max() for array in theirs.values())
  return max(np.abs(array - ours[name]).max() for name, array in theirs.items()) / scale


def rows(name: str, sizes: str, network: TrainedNetwork, images: np.ndarray):
  """Yields the row of each format that has logits of its own."""
  ours = np.asarray(network(images))
  for format in ('torch', 'stablehlo', 'onnx'):
    folder = pathlib.Path(tempfile.mkdtemp())
    start = time.perf_counter()
    export(network, format, folder)
    seconds = time.perf_counter() - start
    difference = np.abs(predict(format, folder, network, images) - ours).max()
    gradients = f'{gradient_difference(folder, network, images):.0e}' if format == 'torch' else ''
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1000
    logits = f'{difference:.0e} (of {np.abs(ours).max():.2g})'
    yield f'| {name} | {sizes} | {format} | {logits} | {gradients} | {seconds:.1f} | {size:,.0f} |'


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--spaces', default='', help='names of the first column; all if empty')
  parser.add_argument('--channels', type=int, default=16, help='C')
  parser.add_argument('--layers', type=int, default=3, help='cells of a network of the DARTS family')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--out', type=pathlib.Path, help='the page whose table is replaced')
  options = parser.parse_args()
  if options.out and options.spaces:
    parser.error('--out replaces the whole table: expected no --spaces')
  rng = np.random.default_rng(options.seed)
  table = HEADING
  print(HEADING, end='')
  for name, sizes, module, size in modules(options.channels, options.layers, rng):
    if not options.spaces or name in options.spaces.split(','):
      images = rng.integers(0, 256, (8, size, size, 3), np.uint8)
      for row in rows(name, sizes, trained(module, images, rng), images):
        print(row, flush=True)
        table += f'{row}\n'
  if options.out:
    page = options.out.read_text()
    assert HEADING in page, f'{options.out} has no such table'
    options.out.write_text(re.sub(re.escape(HEADING) + r'(\|.*\n)*', lambda _: table, page))


if __name__ == '__main__':
  assert set(FORMATS) == {'torch', 'stablehlo', 'safetensors', 'onnx'}
  main()
