"""Measures a bilevel step of the search models of xautodl, the package of the authors of GDAS and NAS-Bench-201.

  pip install torch && pip install --no-deps xautodl     # 1.0.0, https://pypi.org/project/xautodl
  python benchmarks/peers.py [--depth 1] [--batch-size 64] [--steps 4] [--rounds 5]

The space is NAS-Bench-201. A step updates the weights on one batch and then α on another one, with the optimizers of
the package's search scripts; both backward passes compute all gradients, as these scripts do. The script prints a table
for README.md. Run methods.py in the same hour to compare.
"""

import argparse
import resource

import torch
from timing import seconds_a_step, spread
from xautodl.config_utils import dict2config
from xautodl.models import get_cell_based_tiny_net, get_search_spaces

METHODS = {'DARTS-V1': 'first-order DARTS', 'GDAS': 'GDAS'}  # name in xautodl → name in the table


def make_network(method, options):
  """Returns the search model of a method."""
  space = get_search_spaces('cell', 'nas-bench-201')
  sizes = {'C': options.channels, 'N': options.depth, 'max_nodes': 4, 'num_classes': 10, 'space': space}
  return get_cell_based_tiny_net(
    dict2config({'name': method, **sizes, 'affine': False, 'track_running_stats': False}, None)
  )


def make_step(network, batch):
  """Returns a function that takes a number of bilevel steps on the batch (images [B, C, H, W], labels [B])."""
  images, labels = batch
  weights = torch.optim.SGD(network.get_weights(), 0.025, momentum=0.9, weight_decay=5e-4, nesterov=True)
  alphas = torch.optim.Adam(network.get_alphas(), 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
  loss = torch.nn.CrossEntropyLoss()

  def run(steps):
    for _ in range(steps):
      for optimizer in (weights, alphas):
        network.zero_grad()
        _, logits = network(images)
        loss(logits, labels).backward()
        if optimizer is weights:
          torch.nn.utils.clip_grad_norm_(network.parameters(), 5)
        optimizer.step()

  return run


def parse_arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=1, help='cells per stage')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--steps', type=int, default=4, help='steps of a round')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--only', choices=METHODS, help='one method; the memory is then that of this method')
  return parser.parse_args()


def main():
  options = parse_arguments()
  torch.manual_seed(0)
  batch = torch.randn(options.batch_size, 3, 32, 32), torch.arange(options.batch_size) % 10
  print(f'| xautodl 1.0.0, torch {torch.__version__} | peak memory so far, GiB | s a step |\n|---|---|---|')
  for method in [options.only] if options.only else METHODS:
    run = make_step(make_network(method, options).train(), batch)
    run(1)  # the first step is not measured
    seconds = [seconds_a_step(run, options.steps) for _ in range(options.rounds)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f'| {METHODS[method]} | {peak:.2f} | {spread(seconds, ".3g")} |', flush=True)


if __name__ == '__main__':
  main()
