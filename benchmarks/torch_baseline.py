"""The bilevel step of β-DARTS in PyTorch, with which the JAX step is compared.

  python benchmarks/torch_baseline.py check                   # compares both forms with the golden numbers
  python benchmarks/torch_baseline.py nchw|tuned [options]    # times the step; see --help

It is written from the paper with PyTorch's usual means: modules, autograd, torch.optim. The form `nchw` runs as the
official program does: float32, contiguous NCHW, eager, and `backward()` computes the gradients of both levels. The form
`tuned` is faster and computes the same: channels_last, α's step without gradients of the weights, and on a GPU
torch.compile and automatic mixed precision.
"""

import argparse
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from timing import serve
from torch import nn

GOLDEN = pathlib.Path(__file__).parent.parent / 'tests' / 'golden'
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))  # NAS-Bench-201: (node, source), rows of α
DARTS_EDGES = tuple((node, source) for node in range(2, 6) for source in range(node))


def batch_norm(channels, affine=False):
  return nn.BatchNorm2d(channels, affine=affine)


def relu_conv_bn(inputs, outputs, size, stride=1, affine=False):
  convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
  return nn.Sequential(nn.ReLU(), convolution, batch_norm(outputs, affine))


def average_pool(stride=1):
  return nn.AvgPool2d(3, stride, 1, count_include_pad=False)


def weighted_sum(operations, x, betas):
  return sum(beta * operation(x) for beta, operation in zip(betas, operations, strict=True))


# ---- NAS-Bench-201 ----


def benchmark_edge(channels):
  """skip, 1×1, 3×3 and average pool; `none` is left out."""
  return nn.ModuleList(
    [nn.Identity(), relu_conv_bn(channels, channels, 1), relu_conv_bn(channels, channels, 3), average_pool()]
  )


class BenchmarkCell(nn.Module):
  """A cell with six edges."""

  def __init__(self, channels):
    super().__init__()
    self.edges = nn.ModuleList(benchmark_edge(channels) for _ in EDGES)

  def forward(self, x, betas):
    nodes = [x]
    for node in (1, 2, 3):
      entering = [(e, source) for e, (target, source) in enumerate(EDGES) if target == node]
      nodes.append(sum(weighted_sum(self.edges[e], nodes[source], betas[e, 1:]) for e, source in entering))
    return nodes[3]


class Reduction(nn.Module):
  """The residual block of stride 2 between two stages."""

  def __init__(self, inputs, outputs):
    super().__init__()
    self.body = nn.Sequential(
      relu_conv_bn(inputs, outputs, 3, stride=2, affine=True), relu_conv_bn(outputs, outputs, 3, affine=True)
    )
    self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

  def forward(self, x, betas):
    return self.body(x) + self.shortcut(x)


class BenchmarkSupernet(nn.Module):
  """forward(images [B, 3, H, W], [betas [6, 5]]) → logits [B, 10]."""

  alpha_shapes = ((6, 5),)

  def __init__(self, channels=16, depth=5, inputs=3):
    super().__init__()
    self.stem = nn.Sequential(nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    self.cells = nn.ModuleList()
    for stage in range(3):
      if stage:
        self.cells.append(Reduction(channels * 2 ** (stage - 1), channels * 2**stage))
      self.cells.extend(BenchmarkCell(channels * 2**stage) for _ in range(depth))
    self.last = nn.BatchNorm2d(4 * channels)
    self.classifier = nn.Linear(4 * channels, 10)

  def forward(self, images, betas):
    x = self.stem(images)
    for cell in self.cells:
      x = cell(x, betas[0])
    return self.classifier(F.relu(self.last(x)).mean((2, 3)))


# ---- the DARTS space ----


class FactorizedReduce(nn.Module):
  def __init__(self, inputs, outputs):
    super().__init__()
    self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
    self.odd = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
    self.batch_norm = batch_norm(outputs)

  def forward(self, x):
    x = F.relu(x)
    return self.batch_norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))


def depthwise_1x1_bn(channels, size, stride, dilation=1):
  padding = dilation * (size - 1) // 2
  return [
    nn.ReLU(),
    nn.Conv2d(channels, channels, size, stride, padding, dilation, groups=channels, bias=False),
    nn.Conv2d(channels, channels, 1, bias=False),
    batch_norm(channels),
  ]


def separable(channels, size, stride):
  return nn.Sequential(*depthwise_1x1_bn(channels, size, stride), *depthwise_1x1_bn(channels, size, stride=1))


def darts_edge(channels, stride):
  """max pool, average pool, skip, separable 3×3 and 5×5, dilated 3×3 and 5×5."""
  return nn.ModuleList(
    [
      nn.Sequential(nn.MaxPool2d(3, stride, 1), batch_norm(channels)),
      nn.Sequential(average_pool(stride), batch_norm(channels)),
      nn.Identity() if stride == 1 else FactorizedReduce(channels, channels),
      separable(channels, 3, stride),
      separable(channels, 5, stride),
      nn.Sequential(*depthwise_1x1_bn(channels, 3, stride, dilation=2)),
      nn.Sequential(*depthwise_1x1_bn(channels, 5, stride, dilation=2)),
    ]
  )


class DartsCell(nn.Module):
  def __init__(self, older, newer, channels, reduces, after_reduction):
    super().__init__()
    self.reduces = reduces
    self.older = FactorizedReduce(older, channels) if after_reduction else relu_conv_bn(older, channels, 1)
    self.newer = relu_conv_bn(newer, channels, 1)
    self.edges = nn.ModuleList(
      darts_edge(channels, stride=2 if reduces and source < 2 else 1) for _, source in DARTS_EDGES
    )

  def forward(self, older, newer, betas):
    nodes = [self.older(older), self.newer(newer)]
    for node in range(2, 6):
      entering = [(e, source) for e, (target, source) in enumerate(DARTS_EDGES) if target == node]
      nodes.append(sum(weighted_sum(self.edges[e], nodes[source], betas[e]) for e, source in entering))
    return torch.cat(nodes[2:], 1)


class DartsSupernet(nn.Module):
  """forward(images [B, 3, H, W], [normal [14, 7], reduce [14, 7]]) → logits [B, 10]."""

  alpha_shapes = ((14, 7), (14, 7))

  def __init__(self, channels=16, depth=8):
    super().__init__()
    self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
    self.cells = nn.ModuleList()
    older, newer, after_reduction = 3 * channels, 3 * channels, False
    for i in range(depth):
      reduces = i in (depth // 3, 2 * depth // 3)
      channels *= 1 + reduces
      self.cells.append(DartsCell(older, newer, channels, reduces, after_reduction))
      older, newer, after_reduction = newer, 4 * channels, reduces
    self.classifier = nn.Linear(newer, 10)

  def forward(self, images, betas):
    older = newer = self.stem(images)
    for cell in self.cells:
      older, newer = newer, cell(older, newer, betas[cell.reduces])
    return self.classifier(newer.mean((2, 3)))


SUPERNETS = {'nas_bench_201': BenchmarkSupernet, 'darts': DartsSupernet}


# ---- the step ----


class Search:
  """α, the two optimizers and the bilevel step, with the hyperparameters of β-DARTS on NAS-Bench-201.

  Args:
    supernet: the module.
    alphas: the logits of each cell type, [E, O]; the step changes them.
    tuned: see the top of the file.
    clip_norm, alpha_learning_rate: scalars of the two optimizers.
  """

  def __init__(self, supernet, alphas, tuned=False, clip_norm=5.0, alpha_learning_rate=3e-4):
    self.supernet, self.alphas, self.tuned, self.clip_norm = supernet, alphas, tuned, clip_norm
    for alpha in alphas:
      alpha.requires_grad_()
    self.weights = list(supernet.parameters())
    self.sgd = torch.optim.SGD(self.weights, 0.025, momentum=0.9, weight_decay=3e-4)
    self.adam = torch.optim.Adam(alphas, alpha_learning_rate, (0.5, 0.999), weight_decay=1e-3)
    self.mixed_precision = tuned and alphas[0].is_cuda

  def loss(self, batch):
    images, labels = batch
    betas = [F.softmax(alpha, 1) for alpha in self.alphas]
    with torch.autocast('cuda', torch.bfloat16, enabled=self.mixed_precision):
      logits = self.supernet(images, betas)
    return F.cross_entropy(logits.to(self.alphas[0].dtype), labels)

  def step(self, train_batch, valid_batch, beta_decay_weight=0.0):
    """Takes α's step, then the step of the weights, and returns the training loss.

    Args:
      train_batch, valid_batch: (images [B, 3, H, W], labels [B]) of the weights and of α.
      beta_decay_weight: λ of Beta-Decay.
    """
    decay = sum(alpha.logsumexp(1).mean() for alpha in self.alphas)
    objective = self.loss(valid_batch) + beta_decay_weight * decay
    if self.tuned:
      for alpha, gradient in zip(self.alphas, torch.autograd.grad(objective, self.alphas), strict=True):
        alpha.grad = gradient
    else:
      self.adam.zero_grad()
      objective.backward()
    self.adam.step()

    self.sgd.zero_grad()
    train_loss = self.loss(train_batch)
    train_loss.backward()
    nn.utils.clip_grad_norm_(self.weights, self.clip_norm)
    self.sgd.step()
    return train_loss.detach()


# ---- against the golden numbers ----


def load(supernet, arrays):
  """Copies `before/` of a golden file into `supernet`, whose modules have the same order."""
  given = [v for k, v in arrays.items() if k.startswith('before/') and 'arch_parameters' not in k]
  ours = [v for k, v in supernet.state_dict().items() if not k.endswith('num_batches_tracked')]
  with torch.no_grad():
    for mine, array in zip(ours, given, strict=True):
      mine.copy_(torch.from_numpy(array).reshape(mine.shape))


def layout_of(tuned):
  return torch.channels_last if tuned else torch.contiguous_format


def check_nas_bench_201(tuned):
  """Raises AssertionError unless the step repeats the official program's on NAS-Bench-201."""
  with np.load(GOLDEN / 'nas_bench_201_bilevel_clip1.npz') as file:
    arrays = dict(file)
  supernet = BenchmarkSupernet(channels=4, depth=1)
  load(supernet, arrays)
  alphas = [torch.from_numpy(arrays['before/_arch_parameters'])]
  search = Search(supernet, alphas, tuned, clip_norm=float(arrays['clip']))
  supernet.to(memory_format=layout_of(tuned))

  def batch(images, labels, i):
    images = torch.from_numpy(arrays[images][i]).contiguous(memory_format=layout_of(tuned))
    return images, torch.from_numpy(arrays[labels][i]).long()

  for i, weight in enumerate((5.0, 5.5, 6.0)):
    loss = search.step(batch('x', 'y', i), batch('x_valid', 'y_valid', i), weight)
    np.testing.assert_allclose(loss.numpy(), arrays['train_loss'][i], rtol=1e-5)
    np.testing.assert_allclose(search.alphas[0].detach().numpy(), arrays['alpha'][i], atol=1e-6)


def check_darts(tuned):
  """Raises AssertionError unless the step repeats the official program's in the DARTS space, in float64."""
  with np.load(GOLDEN / 'darts_trajectory.npz') as file:
    arrays = dict(file)
  supernet = DartsSupernet(channels=4, depth=4).double()
  load(supernet, arrays)
  alphas = [torch.from_numpy(arrays[f'alphas_{name}_before']).double() for name in ('normal', 'reduce')]
  search = Search(supernet, alphas, tuned, alpha_learning_rate=3e-3)
  supernet.to(memory_format=layout_of(tuned))
  images = ((arrays['images'].astype(np.float32) / 255 - arrays['mean']) / arrays['std']).astype(np.float64)
  images = torch.from_numpy(np.moveaxis(images, -1, 1)).contiguous(memory_format=layout_of(tuned))
  labels = torch.from_numpy(arrays['labels']).long()
  for i in range(3):
    train, valid = arrays['train_index'][i], arrays['valid_index'][i]
    search.step((images[train], labels[train]), (images[valid], labels[valid]))
    for alpha, name in zip(search.alphas, ('normal', 'reduce'), strict=True):
      np.testing.assert_allclose(alpha.detach().numpy(), arrays[f'alphas_{name}'][i], rtol=0, atol=1e-12)


# ---- timing ----


def make_run(options, device):
  """Returns `run(steps)`, which takes the steps and waits for the device."""
  torch.manual_seed(0)
  tuned, size = options.form == 'tuned', options.batch_size
  supernet = SUPERNETS[options.space](options.channels, options.depth).to(device)
  alphas = [1e-3 * torch.randn(shape, device=device) for shape in supernet.alpha_shapes]
  supernet.to(memory_format=layout_of(tuned))
  if tuned and device != 'cpu':
    supernet.compile()
  search = Search(supernet, alphas, tuned)
  images = torch.randn(2, size, 3, 32, 32, device=device)
  batches = [
    (half.contiguous(memory_format=layout_of(tuned)), torch.randint(10, (size,), device=device)) for half in images
  ]

  def run(steps):
    for _ in range(steps):
      loss = search.step(*batches)
    float(loss)  # waits for the device

  return run


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('form', choices=('check', 'nchw', 'tuned'))
  parser.add_argument('--space', choices=SUPERNETS, default='nas_bench_201')
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--depth', type=int, default=5, help='cells per stage, or cells of the DARTS supernet')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--steps', type=int, default=2, help='steps of a round')
  options = parser.parse_args()
  if options.form == 'check':
    for tuned in (False, True):
      check_nas_bench_201(tuned)
      check_darts(tuned)
    return print('both forms of both steps repeat the golden numbers')
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  run = make_run(options, device)
  name = torch.cuda.get_device_name() if device == 'cuda' else 'cpu'
  serve(run, options.steps, {'device': name, 'version': f'torch {torch.__version__}'})


if __name__ == '__main__':
  main()
