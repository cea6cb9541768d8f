"""The texts of example.py, for each format, and of picture.py. CLASS is the class of the network in this package."""

import inspect

from beta_darts_jax.data import crops, pictures

NEEDS = {  # what example.py imports; for a picture file also pillow and numpy
  'torch': 'torch and safetensors',
  'stablehlo': 'jax and flatbuffers',
  'safetensors': 'beta_darts_jax and safetensors',
  'onnx': 'onnxruntime and numpy',
}
_PICTURE = """\
if sys.argv[1:]:  # python example.py PICTURE
  from picture import read_picture
  images[0] = ARRAY(read_picture(sys.argv[1], facts['image_shape'], facts['resize']))
"""
_READ_PICTURE = '''\
"""Reads a picture file as the training did. Needs pillow and numpy."""
import numpy as np
from PIL import Image, ImageOps

InputError = ValueError
CONSTANTS


def read_picture(file, image_shape, resize=0):
  """Reads a picture as uint8 [H, W, C] for the network.

  With `resize`, the shorter side gets so many pixels, and the central H×W pixels are taken. Without, the whole picture
  is resized to H×W.
  """
  height, width, channels = image_shape
  if channels not in (1, 3):
    raise ValueError(f'the network takes {channels} channels: expected 1 or 3 for a picture file')
  with Image.open(file) as opened:
    image = to_rgb(opened)
  if resize:
    image = center_crop(image, height, resize)
  else:
    image = image.resize((width, height), Image.Resampling.BOX)
  return np.asarray(image.convert('L' if channels == 1 else 'RGB')).reshape(image_shape)


FUNCTIONS'''
_TEXTS = {
  'torch': '''\
"""Classifies images with the exported network. Needs NEEDS."""
import json
import sys
import torch
from safetensors.torch import load_file
from model import Network

facts = json.load(open('classes.json', encoding='utf-8'))
network = Network().eval()
network.load_state_dict(load_file('model.safetensors'))
images = torch.zeros(1, *facts['image_shape'], dtype=torch.uint8)  # your images: uint8 [B, H, W, C]
PICTURE
normalized = (images / 255 - torch.tensor(facts['mean'])) / torch.tensor(facts['std'])
logits = network(normalized.permute(0, 3, 1, 2))
print([facts['classes'][k] for k in logits.argmax(dim=1)])
''',
  'stablehlo': '''\
"""Classifies images with the exported network. Needs NEEDS."""
import json
import sys
import jax.export
import numpy as np

facts = json.load(open('classes.json', encoding='utf-8'))
network = jax.export.deserialize(bytearray(open('model.stablehlo', 'rb').read()))
images = np.zeros((1, *facts['image_shape']), np.uint8)  # your images: uint8 [B, H, W, C]
PICTURE
logits = network.call(images)
print([facts['classes'][k] for k in logits.argmax(axis=1)])
''',
  'safetensors': '''\
"""Classifies images with the exported network. Needs NEEDS."""
import json
import sys
import flax
import jax
import numpy as np
from safetensors.numpy import load_file
import beta_darts_jax as bd

facts = json.load(open('classes.json', encoding='utf-8'))
network = bd.CLASS(bd.Genotype.parse(facts['genotype']), **facts['network'])
variables = flax.traverse_util.unflatten_dict(load_file('model.safetensors'), sep='/')
images = np.zeros((1, *facts['image_shape']), np.uint8)  # your images: uint8 [B, H, W, C]
PICTURE
normalized = (images / 255 - np.array(facts['mean'])) / np.array(facts['std'])
logits = network.apply(variables, normalized, rngs={'draw': jax.random.key(0)})
print([facts['classes'][k] for k in logits.argmax(axis=1)])
''',
  'onnx': '''\
"""Classifies images with the exported network. Needs NEEDS."""
import json
import sys
import numpy as np
import onnxruntime

facts = json.load(open('classes.json', encoding='utf-8'))
network = onnxruntime.InferenceSession('model.onnx')
images = np.zeros((1, *facts['image_shape']), np.uint8)  # your images: uint8 [B, H, W, C]
PICTURE
(logits,) = network.run(['logits'], {'images': images})
print([facts['classes'][k] for k in logits.argmax(axis=1)])
''',
}


def _complete(format: str) -> str:
  picture = _PICTURE.replace('ARRAY', 'torch.tensor' if format == 'torch' else 'np.asarray')
  return _TEXTS[format].replace('NEEDS', NEEDS[format]).replace('PICTURE\n', picture)


def picture_source() -> str:
  """Returns the text of picture.py: it has the functions of this package that read a picture file."""
  names = ('WITHOUT_RANGE', 'BITS_PER_SAMPLE', 'PHOTOMETRIC', 'SAMPLE_FORMAT')
  constants = '\n'.join(f'{name} = {getattr(pictures, name)!r}' for name in names)
  functions = (pictures.to_rgb, pictures.has_16_bits, pictures.upper_8_bits, crops.center_crop)
  texts = '\n\n'.join(inspect.getsource(function) for function in functions)
  return _READ_PICTURE.replace('CONSTANTS', constants).replace('FUNCTIONS', texts)


EXAMPLES = {format: _complete(format) for format in NEEDS}
