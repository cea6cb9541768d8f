"""Classifies the test images of digits by an exported network, in an environment without this package and without JAX.

  python -m venv alone && alone/bin/pip install torch safetensors
  python benchmarks/export_alone.py alone/bin/python   # three minutes of processor time

It trains a cell of NAS-Bench-201 on digits and exports the network for PyTorch. It runs the other interpreter in the
folder of the export, and prints how many of the test images each program classifies correctly.
"""

import argparse
import json
import pathlib
import runpy
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import save_file

import beta_darts_jax as bd
from beta_darts_jax.data.sources import load

CELL = '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|'
CLASSIFY = """
import importlib.util
import json
import torch
from safetensors.torch import load_file
from model import Network

found = list(filter(importlib.util.find_spec, ('jax', 'numpy', 'PIL', 'beta_darts_jax')))
assert not found, f'expected an environment without {found}'
facts, data = json.load(open('classes.json')), load_file('images.safetensors')
network = Network().eval()
network.load_state_dict(load_file('model.safetensors'))
normalized = (data['images'] / 255 - torch.tensor(facts['mean'])) / torch.tensor(facts['std'])
with torch.no_grad():
  predicted = network(normalized.permute(0, 3, 1, 2)).argmax(dim=1)
print(json.dumps(predicted.tolist()))
"""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('python', type=pathlib.Path, help='interpreter of an environment with torch and safetensors only')
  python = parser.parse_args().python.absolute()  # resolve() would follow the link out of the environment
  config = read_config('retrain_nas_bench_201')
  config.genotype, config.data.source, config.data.crop_padding, config.data.flip = CELL, 'digits', 1, False
  config.train.epochs, config.train.batch_size = 30, 64
  images, labels = load('digits').test
  with tempfile.TemporaryDirectory() as folder:
    run = bd.run_retrain(config, pathlib.Path(folder) / 'run').path
    exported = bd.export(run, 'torch', pathlib.Path(folder) / 'exported')
    save_file({'images': images}, exported / 'images.safetensors')
    ours = np.argmax(bd.load(run)(images), axis=1)
    subprocess.run([python, 'example.py'], cwd=exported, check=True)
    done = subprocess.run([python, '-c', CLASSIFY], cwd=exported, capture_output=True, text=True)
  if done.returncode:
    sys.exit(done.stderr)
  theirs = np.array(json.loads(done.stdout))
  print(f'correct of {len(labels)} test images: {(ours == labels).sum()} here, {(theirs == labels).sum()} there')
  print(f'images with another class there: {(ours != theirs).sum()}')


def read_config(name: str):
  """Returns the config of a file in configs/."""
  return runpy.run_path(str(pathlib.Path(__file__).parents[1] / 'configs' / f'{name}.py'))['get_config']()


if __name__ == '__main__':
  main()
