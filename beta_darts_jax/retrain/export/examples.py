"""The text of example.py for each format. CLASS is the name of the network's class in this package."""

EXAMPLES = {
  'torch': '''\
"""Classifies images with the exported network. Needs torch and safetensors."""
import json
import torch
from safetensors.torch import load_file
from model import Network

facts = json.load(open('classes.json'))
network = Network().eval()
network.load_state_dict(load_file('model.safetensors'))
images = torch.zeros(1, *facts['image_shape'], dtype=torch.uint8)  # your images: uint8 [B, H, W, C]
normalized = (images / 255 - torch.tensor(facts['mean'])) / torch.tensor(facts['std'])
logits = network(normalized.permute(0, 3, 1, 2))
print([facts['classes'][k] for k in logits.argmax(dim=1)])
''',
  'stablehlo': '''\
"""Classifies images with the exported network. Needs jax and flatbuffers."""
import json
import jax.export
import numpy as np

facts = json.load(open('classes.json'))
network = jax.export.deserialize(bytearray(open('model.stablehlo', 'rb').read()))
images = np.zeros((1, *facts['image_shape']), np.uint8)  # your images: uint8 [B, H, W, C]
logits = network.call(images)
print([facts['classes'][k] for k in logits.argmax(axis=1)])
''',
  'safetensors': '''\
"""Classifies images with the exported network. Needs beta_darts_jax and safetensors."""
import json
import flax
import jax
import numpy as np
from safetensors.numpy import load_file
import beta_darts_jax as bd

facts = json.load(open('classes.json'))
network = bd.CLASS(bd.Genotype.parse(facts['genotype']), **facts['network'])
variables = flax.traverse_util.unflatten_dict(load_file('model.safetensors'), sep='/')
images = np.zeros((1, *facts['image_shape']), np.uint8)  # your images: uint8 [B, H, W, C]
normalized = (images / 255 - np.array(facts['mean'])) / np.array(facts['std'])
logits = network.apply(variables, normalized, rngs={'draw': jax.random.key(0)})
print([facts['classes'][k] for k in logits.argmax(axis=1)])
''',
  'onnx': '''\
"""Classifies images with the exported network. Needs onnxruntime."""
import json
import numpy as np
import onnxruntime

facts = json.load(open('classes.json'))
network = onnxruntime.InferenceSession('model.onnx')
images = np.zeros((1, *facts['image_shape']), np.uint8)  # your images: uint8 [B, H, W, C]
(logits,) = network.run(['logits'], {'images': images})
print([facts['classes'][k] for k in logits.argmax(axis=1)])
''',
}
