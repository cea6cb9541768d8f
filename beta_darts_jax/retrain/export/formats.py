"""Writes a trained network for use without this package, or without JAX."""

import dataclasses
import importlib.util
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.export  # `import jax` does not import it
import numpy as np

from beta_darts_jax.errors import InputError
from beta_darts_jax.retrain.export.examples import EXAMPLES, picture_source
from beta_darts_jax.retrain.export.source import torch_source, torch_state_dict
from beta_darts_jax.retrain.setup import AnyNetwork
from beta_darts_jax.retrain.trained import TrainedNetwork, load_retrained

PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')  # of StableHLO: one file for all of them
Files = Mapping[str, bytes]


def export(
  run: str | pathlib.Path | TrainedNetwork, format: str, out: str | pathlib.Path, auxiliary: bool = False
) -> pathlib.Path:
  """Writes a retrained network into a folder, with classes.json, example.py and picture.py.

  docs/export.md describes the formats.

  Args:
    run: the folder of a finished retraining, or its network from `load`.
    format: a key of FORMATS.
    out: a folder that is empty or does not exist.
    auxiliary: keeps the auxiliary head of the training, in the formats torch and safetensors.

  Returns:
    `out`.

  Raises:
    InputError: there is no such network or format, the format cannot hold the network, a package is missing, or the
      folder has files or cannot be written.
  """
  form, out = _find(format), pathlib.Path(os.path.expanduser(out))
  _refuse_folder(out)
  trained = run if isinstance(run, TrainedNetwork) else load_retrained(run)
  if trained.module is None:
    raise InputError('the network is the supernet of a search: expected a retrained network')
  module, variables = trained.module, trained.variables
  if getattr(module, 'auxiliary', False) and not auxiliary:
    module, variables = module.clone(auxiliary=False), _without_head(variables)
  facts = _facts(trained, module)
  files = {
    **form.files(Parts(trained, module, variables)),
    'classes.json': json.dumps(facts, indent=2, ensure_ascii=False).encode(),
    'example.py': EXAMPLES[format].replace('CLASS', type(module).__name__).encode(),
    'picture.py': picture_source().encode(),
  }
  try:
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
      (out / name).write_bytes(content)
  except OSError as error:
    raise InputError(f'cannot write {out}: {error.strerror}') from None
  return out


def _refuse_folder(out: pathlib.Path) -> None:
  """Raises InputError if no files can be written into `out`, or if it has files."""
  try:
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
      raise InputError(f'{there} is a file: expected a new or an empty folder')
    if there == out and any(out.iterdir()):
      raise InputError(f'{out} has files: expected a new or an empty folder')
  except OSError as error:
    raise InputError(f'cannot write {out}: {error.strerror}') from None
  if not os.access(there, os.W_OK | os.X_OK):
    raise InputError(f'cannot write {out}: expected a folder that you can write, and {there} is read-only')


def _find(format: str) -> 'Format':
  if format not in FORMATS:
    raise InputError(f'format {format!r}: expected one of {", ".join(FORMATS)}')
  form = FORMATS[format]
  if missing := [name for name in form.packages if importlib.util.find_spec(name) is None]:
    raise InputError(f"format {format} needs {', '.join(missing)}: pip install 'beta-darts-jax[{form.extra}]'")
  return form


def _without_head(variables) -> dict:
  return {
    collection: {'network': {name: part for name, part in tree['network'].items() if name != 'auxiliary_head'}}
    for collection, tree in variables.items()
  }


def _facts(trained: TrainedNetwork, module) -> dict[str, Any]:
  """Returns what classes.json holds."""
  names = {field.name for field in dataclasses.fields(module)} - {'genotype', 'dtype', 'parent', 'name'}
  return {
    'classes': trained.classes,
    'mean': trained.mean,
    'std': trained.std,
    'image_shape': trained.image_shape,
    'resize': trained.resize,
    'genotype': str(trained.genotype),
    'network': {name: getattr(module, name) for name in sorted(names)},
  }


# ---- formats ----


@dataclasses.dataclass(frozen=True)
class Parts:
  """A network to write: the whole, its module, and the variables of the module."""

  trained: TrainedNetwork
  module: AnyNetwork
  variables: Mapping


@dataclasses.dataclass(frozen=True)
class Format:
  """A format: its files, the packages that writing it needs, and the extra that installs them."""

  files: Callable[[Parts], Files]
  packages: tuple[str, ...]
  extra: str = 'export'


def _torch_files(parts: Parts) -> Files:
  source = torch_source(parts.module, parts.trained.image_shape)
  return {
    'model.py': source.encode(),
    'model.safetensors': _safetensors(torch_state_dict(parts.module, parts.variables)),
  }


def _safetensors_files(parts: Parts) -> Files:
  flat = flax.traverse_util.flatten_dict(parts.variables, sep='/')
  return {'model.safetensors': _safetensors({name: np.asarray(array) for name, array in flat.items()})}


def _safetensors(arrays: dict[str, np.ndarray]) -> bytes:
  from safetensors.numpy import save  # an optional package

  return save(arrays)


def _stablehlo_files(parts: Parts) -> Files:
  """The weights are constants of the program. The batch is symbolic."""

  def predict(images):
    return parts.trained.predict(parts.trained.variables, images)

  shape = (*jax.export.symbolic_shape('batch'), *parts.trained.image_shape)
  exported = jax.export.export(jax.jit(predict), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, np.uint8))
  return {'model.stablehlo': bytes(exported.serialize())}


def _onnx_files(parts: Parts) -> Files:
  """The program of the PyTorch form, with the normalization of the images in front of it."""
  import torch  # an optional package

  namespace: dict[str, Any] = {'__name__': 'model'}
  exec(compile(torch_source(parts.module, parts.trained.image_shape), 'model.py', 'exec'), namespace)
  network = namespace['NetworkWithAuxiliaryHead' if getattr(parts.module, 'auxiliary', False) else 'Network']()
  arrays = torch_state_dict(parts.module, parts.variables)
  network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})

  class FromPixels(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.network = network
      self.mean, self.std = (torch.nn.Buffer(torch.tensor(x)) for x in (parts.trained.mean, parts.trained.std))

    def forward(self, images):
      return self.network(((images / 255 - self.mean) / self.std).permute(0, 3, 1, 2))

  images = torch.zeros((2, *parts.trained.image_shape), dtype=torch.uint8)
  program = torch.onnx.export(
    FromPixels().eval(),
    (images,),
    input_names=['images'],
    output_names=['logits'],
    dynamic_shapes={'images': {0: torch.export.Dim('batch')}},
    dynamo=True,
    verbose=False,
  )
  return {'model.onnx': program.model_proto.SerializeToString()}


FORMATS = {
  'torch': Format(_torch_files, ('safetensors',)),
  'stablehlo': Format(_stablehlo_files, ('flatbuffers',)),
  'safetensors': Format(_safetensors_files, ('safetensors',)),
  'onnx': Format(_onnx_files, ('torch', 'onnx', 'onnxscript'), extra='onnx'),
}
