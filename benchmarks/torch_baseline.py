"""The bilevel step of β-DARTS in PyTorch: what the JAX step is measured against.

  python benchmarks/torch_baseline.py check                   # both forms against the golden numbers
  python benchmarks/torch_baseline.py nchw|tuned [options]    # times the step; see --help

Written from the method, in the idiom of the field: modules, autograd, torch.optim. `nchw` runs as the official program
does: float32, contiguous NCHW, eager, the gradients of both levels left to `backward()`. `tuned` is what an expert
would make of it without changing the method: channels_last, α's step without gradients of the weights, and on a GPU
torch.compile and automatic mixed precision.
"""

import argparse
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from worker import serve

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


class BenchmarkCell(nn.Module):
  """none (left out), skip, 1×1, 3×3 and average pool on each of six edges."""

  def __init__(self, channels):
    super().__init__()
    edge = lambda: nn.ModuleList(
      [nn.Identity(), relu_conv_bn(channels, channels, 1), relu_conv_bn(channels, channels, 3), average_pool()]
    )
    self.edges = nn.ModuleList(edge() for _ in EDGES)

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


def darts_edge(channels, stride):
  """max pool, average pool, skip, separable 3×3 and 5×5, dilated 3×3 and 5×5."""
  separable = lambda size: nn.Sequential(
    *depthwise_1x1_bn(channels, size, stride), *depthwise_1x1_bn(channels, size, 1)
  )
  dilated = lambda size: nn.Sequential(*depthwise_1x1_bn(channels, size, stride, 2))
  return nn.ModuleList(
    [
      nn.Sequential(nn.MaxPool2d(3, stride, 1), batch_norm(channels)),
      nn.Sequential(average_pool(stride), batch_norm(channels)),
      nn.Identity() if stride == 1 else FactorizedReduce(channels, channels),
      separable(3),
      separable(5),
      dilated(3),
      dilated(5),
    ]
  )


class DartsCell(nn.Module):
  def __init__(self, older, newer, channels, reduces, after_reduction):
    super().__init__()
    self.reduces = reduces
    self.older = FactorizedReduce(older, channels) if after_reduction else relu_conv_bn(older, channels, 1)
    self.newer = relu_conv_bn(newer, channels, 1)
    stride = lambda source: 2 if reduces and source < 2 else 1
    self.edges = nn.ModuleList(darts_edge(channels, stride(source)) for _, source in DARTS_EDGES)

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
  """α, the two optimisers and the bilevel step; β-DARTS' values on NAS-Bench-201."""

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
    """α's step, then the weights' → the training loss."""
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
  """Copies a golden file's `before/` into `supernet`, whose modules stand in the same order."""
  given = [v for k, v in arrays.items() if k.startswith('before/') and 'arch_parameters' not in k]
  ours = [v for k, v in supernet.state_dict().items() if not k.endswith('num_batches_tracked')]
  with torch.no_grad():
    for mine, array in zip(ours, given, strict=True):
      mine.copy_(torch.from_numpy(array).reshape(mine.shape))


def check():
  """Raises AssertionError unless both forms of both steps repeat the official program's."""
  for tuned in (False, True):
    with np.load(GOLDEN / 'nas_bench_201_bilevel_clip1.npz') as file:
      arrays = dict(file)
    supernet = BenchmarkSupernet(channels=4, depth=1)
    load(supernet, arrays)
    search = Search(supernet, [torch.from_numpy(arrays['before/_arch_parameters'])], tuned, float(arrays['clip']))
    layout = torch.channels_last if tuned else torch.contiguous_format
    supernet.to(memory_format=layout)
    for i, weight in enumerate((5.0, 5.5, 6.0)):
      train, valid = (
        (torch.from_numpy(arrays[x][i]).contiguous(memory_format=layout), torch.from_numpy(arrays[y][i]).long())
        for x, y in (('x', 'y'), ('x_valid', 'y_valid'))
      )
      loss = search.step(train, valid, weight)
      np.testing.assert_allclose(loss.numpy(), arrays['train_loss'][i], rtol=1e-5)
      np.testing.assert_allclose(search.alphas[0].detach().numpy(), arrays['alpha'][i], atol=1e-6)

    with np.load(GOLDEN / 'darts_trajectory.npz') as file:
      arrays = dict(file)
    supernet = DartsSupernet(channels=4, depth=4).double()
    load(supernet, arrays)
    alphas = [torch.from_numpy(arrays[f'alphas_{name}_before']).double() for name in ('normal', 'reduce')]
    search = Search(supernet, alphas, tuned, alpha_learning_rate=3e-3)
    supernet.to(memory_format=layout)
    images = ((arrays['images'].astype(np.float32) / 255 - arrays['mean']) / arrays['std']).astype(np.float64)
    images = torch.from_numpy(np.moveaxis(images, -1, 1)).contiguous(memory_format=layout)
    labels = torch.from_numpy(arrays['labels']).long()
    for i in range(3):
      search.step(*((images[index], labels[index]) for index in (arrays['train_index'][i], arrays['valid_index'][i])))
      for alpha, name in zip(search.alphas, ('normal', 'reduce'), strict=True):
        np.testing.assert_allclose(alpha.detach().numpy(), arrays[f'alphas_{name}'][i], rtol=0, atol=1e-12)
  print('both forms of both steps repeat the golden numbers')


# ---- timing ----


def build(form, space, channels, depth, batch_size, device):
  """(number of steps) → takes them."""
  torch.manual_seed(0)
  supernet = SUPERNETS[space](channels, depth).to(device)
  alphas = [1e-3 * torch.randn(shape, device=device) for shape in supernet.alpha_shapes]
  layout = torch.channels_last if form == 'tuned' else torch.contiguous_format
  supernet.to(memory_format=layout)
  if form == 'tuned' and device != 'cpu':
    supernet.compile()
  search = Search(supernet, alphas, form == 'tuned')
  images = torch.randn(2, batch_size, 3, 32, 32, device=device)
  batches = [
    (half.contiguous(memory_format=layout), torch.randint(10, (batch_size,), device=device)) for half in images
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
  parser.add_argument('--depth', type=int, default=5, help='cells a stage, or cells of the DARTS supernet')
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--steps', type=int, default=2, help='of a round')
  options = parser.parse_args()
  if options.form == 'check':
    return check()
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  run = build(options.form, options.space, options.channels, options.depth, options.batch_size, device)
  name = torch.cuda.get_device_name() if device == 'cuda' else 'cpu'
  serve(run, options.steps, {'device': name, 'version': f'torch {torch.__version__}'})


if __name__ == '__main__':
  main()
