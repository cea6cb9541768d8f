"""The bilevel step of β-DARTS on NAS-Bench-201 in PyTorch: what the JAX step is measured against.

  python benchmarks/torch_baseline.py nchw|tuned [--cells-per-stage N] [--steps N]

Written from the method, in the idiom of the field: modules, autograd, torch.optim. `nchw` runs as the official program
does: float32, contiguous NCHW, eager, the gradients of both levels left to `backward()`. `tuned` is what an expert
would make of it without changing the method: channels_last, α's step without gradients of the weights, and on a GPU
torch.compile and automatic mixed precision. Prints one JSON line.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))  # (node, source): rows of α
OPERATIONS = ('none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'avg_pool_3x3')


class ReluConvBatchNorm(nn.Module):
  def __init__(self, inputs, outputs, size, stride=1, affine=False):
    super().__init__()
    self.convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    self.batch_norm = nn.BatchNorm2d(outputs, affine=affine)

  def forward(self, x):
    return self.batch_norm(self.convolution(F.relu(x)))


class MixedOperation(nn.Module):
  """Σ_k β_k·o_k(x)."""

  def __init__(self, channels):
    super().__init__()
    self.one = ReluConvBatchNorm(channels, channels, 1)
    self.three = ReluConvBatchNorm(channels, channels, 3)

  def forward(self, x, betas):
    pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return betas[1] * x + betas[2] * self.one(x) + betas[3] * self.three(x) + betas[4] * pooled


class SearchCell(nn.Module):
  def __init__(self, channels):
    super().__init__()
    self.edges = nn.ModuleList(MixedOperation(channels) for _ in EDGES)

  def forward(self, x, betas):
    nodes = [x]
    for node in (1, 2, 3):
      entering = [(e, source) for e, (target, source) in enumerate(EDGES) if target == node]
      nodes.append(sum(self.edges[e](nodes[source], betas[e]) for e, source in entering))
    return nodes[3]


class Reduction(nn.Module):
  """The residual block of stride 2 between two stages."""

  def __init__(self, inputs, outputs):
    super().__init__()
    self.a = ReluConvBatchNorm(inputs, outputs, 3, stride=2, affine=True)
    self.b = ReluConvBatchNorm(outputs, outputs, 3, affine=True)
    self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

  def forward(self, x):
    return self.b(self.a(x)) + self.shortcut(F.avg_pool2d(x, 2))


class Supernet(nn.Module):
  """forward(images [B, 3, H, W], betas [6, 5]) → logits [B, K]."""

  def __init__(self, num_classes=10, channels=16, cells_per_stage=5):
    super().__init__()
    self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    stages = [nn.ModuleList(SearchCell(channels * 2**i) for _ in range(cells_per_stage)) for i in range(3)]
    self.stages = nn.ModuleList(stages)
    self.reductions = nn.ModuleList(Reduction(channels * 2**i, channels * 2 ** (i + 1)) for i in range(2))
    self.last = nn.BatchNorm2d(4 * channels)
    self.classifier = nn.Linear(4 * channels, num_classes)

  def forward(self, images, betas):
    x = self.stem(images)
    for i, stage in enumerate(self.stages):
      if i:
        x = self.reductions[i - 1](x)
      for cell in stage:
        x = cell(x, betas)
    return self.classifier(F.relu(self.last(x)).mean((2, 3)))


class Search:
  """α, the two optimisers and the bilevel step; β-DARTS' values on NAS-Bench-201."""

  def __init__(self, supernet, alphas, tuned=False, clip_norm=5.0, **alpha_rates):
    self.supernet, self.tuned, self.clip_norm = supernet, tuned, clip_norm
    self.alphas = alphas.requires_grad_()
    self.weights = list(supernet.parameters())
    self.sgd = torch.optim.SGD(self.weights, 0.025, momentum=0.9, weight_decay=3e-4)
    rates = {'lr': 3e-4, 'betas': (0.5, 0.999), 'weight_decay': 1e-3} | alpha_rates
    self.adam = torch.optim.Adam([self.alphas], **rates)
    self.mixed_precision = tuned and alphas.is_cuda

  def loss(self, batch):
    images, labels = batch
    with torch.autocast('cuda', torch.bfloat16, enabled=self.mixed_precision):
      return F.cross_entropy(self.supernet(images, F.softmax(self.alphas, 1)).float(), labels)

  def step(self, train_batch, valid_batch, beta_decay_weight=0.0):
    """α's step, then the weights'; → (train loss, α's loss)."""
    running = [buffer.clone() for name, buffer in self.supernet.named_buffers() if 'running' in name]
    valid_loss = self.loss(valid_batch)
    objective = valid_loss + beta_decay_weight * self.alphas.logsumexp(1).mean()
    if self.tuned:
      self.alphas.grad = torch.autograd.grad(objective, self.alphas)[0]
    else:
      self.adam.zero_grad()
      objective.backward()
    self.adam.step()
    del running

    self.sgd.zero_grad()
    train_loss = self.loss(train_batch)
    train_loss.backward()
    nn.utils.clip_grad_norm_(self.weights, self.clip_norm)
    self.sgd.step()
    return train_loss.detach(), valid_loss.detach()


def build(form, cells_per_stage, device='cpu', channels=16):
  """The search `form` on `device`."""
  torch.manual_seed(0)
  supernet = Supernet(channels=channels, cells_per_stage=cells_per_stage).to(device)
  alphas = 1e-3 * torch.randn(len(EDGES), len(OPERATIONS), device=device)
  if form == 'tuned':
    supernet = supernet.to(memory_format=torch.channels_last)
    if device != 'cpu':
      supernet.compile()
  return Search(supernet, alphas, form == 'tuned')


def random_batch(form, batch_size, device, generator):
  images = torch.randn(batch_size, 3, 32, 32, generator=generator).to(device)
  if form == 'tuned':
    images = images.to(memory_format=torch.channels_last)
  return images, torch.randint(10, (batch_size,), generator=generator).to(device)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('form', choices=('nchw', 'tuned'))
  parser.add_argument('--cells-per-stage', type=int, default=5)
  parser.add_argument('--channels', type=int, default=16)
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument('--steps', type=int, default=5)
  options = parser.parse_args()
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  search = build(options.form, options.cells_per_stage, device, options.channels)
  generator = torch.Generator().manual_seed(1)
  batches = [random_batch(options.form, options.batch_size, device, generator) for _ in range(2)]
  begun = time.perf_counter()
  float(search.step(*batches)[0])
  first, seconds = time.perf_counter() - begun, []
  for _ in range(options.steps):
    begun = time.perf_counter()
    float(search.step(*batches)[0])  # waits for the device
    seconds.append(time.perf_counter() - begun)
  median = statistics.median(seconds)
  print(json.dumps({'seconds': median, 'low': min(seconds), 'high': max(seconds), 'first': first, 'device': device}))


if __name__ == '__main__':
  main()
