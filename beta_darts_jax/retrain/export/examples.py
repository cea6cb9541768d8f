"""The text of example.py for each format. CLASS is the name of the network's class in this package."""

NEEDS = {  # what example.py imports; for a picture file also pillow
  'torch': 'torch and safetensors',
  'stablehlo': 'jax and flatbuffers',
  'safetensors': 'beta_darts_jax and safetensors',
  'onnx': 'onnxruntime and numpy',
}
_PICTURE = """\
if sys.argv[1:]:  # python example.py PICTURE
  from PIL import Image
  picture = Image.open(sys.argv[1]).convert({1: 'L', 3: 'RGB'}[images.shape[3]]).resize(images.shape[2:0:-1], Image.BOX)
  images[0] = ARRAY.reshape(images.shape[1:])
"""
_TEXTS = {
  'torch': '''\
"""Classifies images with the exported network. Needs NEEDS."""
import json
import sys
import torch
from safetensors.torch import load_file
from model import Network

facts = json.load(open('classes.json'))
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

facts = json.load(open('classes.json'))
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

facts = json.load(open('classes.json'))
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

facts = json.load(open('classes.json'))
network = onnxruntime.InferenceSession('model.onnx')
images = np.zeros((1, *facts['image_shape']), np.uint8)  # your images: uint8 [B, H, W, C]
PICTURE
(logits,) = network.run(['logits'], {'images': images})
print([facts['classes'][k] for k in logits.argmax(axis=1)])
''',
}


def _complete(format: str) -> str:
  array = 'torch.tensor(list(picture.tobytes()))' if format == 'torch' else 'np.asarray(picture)'
  picture = _PICTURE.replace('ARRAY', array)
  return _TEXTS[format].replace('NEEDS', NEEDS[format]).replace('PICTURE\n', picture)


EXAMPLES = {format: _complete(format) for format in NEEDS}
