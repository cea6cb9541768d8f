"""The parts of an exported model.py. source.py copies the text of the classes that a network uses.

Only exported folders import this code, so the package does not need PyTorch. Images and features are [B, C, H, W].
"""

import torch
from torch import nn

# placeholders: source.py writes the sizes and the cells of each network
NUM_CLASSES, IMAGE_CHANNELS, CHANNELS, LAYERS, CELLS_PER_STAGE, STEM_STRIDE = 10, 3, 16, 8, 5, 1
STAGES = [(24, 1, [(3, 6), None])]
Cell = NormalCell = ReductionCell = nn.Module


class ReluConvBatchNorm(nn.Module):
  """relu → convolution → batch normalization."""

  def __init__(self, in_channels, channels, kernel_size=1, stride=1):
    super().__init__()
    self.conv = nn.Conv2d(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    self.batch_norm = nn.BatchNorm2d(channels)

  def forward(self, x):
    return self.batch_norm(self.conv(torch.relu(x)))


class FactorizedReduce(nn.Module):
  """Halves the image by two 1×1 convolutions of stride 2. The second one sees the image shifted by one pixel."""

  def __init__(self, in_channels, channels):
    super().__init__()
    self.conv_1 = nn.Conv2d(in_channels, channels // 2, 1, stride=2, bias=False)
    self.conv_2 = nn.Conv2d(in_channels, channels - channels // 2, 1, stride=2, bias=False)
    self.batch_norm = nn.BatchNorm2d(channels)

  def forward(self, x):
    x = torch.relu(x)
    return self.batch_norm(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


class SeparableConv(nn.Module):
  """relu → depthwise → 1×1 → batch normalization, twice. The first depthwise convolution has the stride."""

  def __init__(self, channels, kernel_size, stride=1):
    super().__init__()
    size, padding = kernel_size, kernel_size // 2
    self.depthwise_1 = nn.Conv2d(channels, channels, size, stride, padding, groups=channels, bias=False)
    self.pointwise_1 = nn.Conv2d(channels, channels, 1, bias=False)
    self.batch_norm_1 = nn.BatchNorm2d(channels)
    self.depthwise_2 = nn.Conv2d(channels, channels, size, 1, padding, groups=channels, bias=False)
    self.pointwise_2 = nn.Conv2d(channels, channels, 1, bias=False)
    self.batch_norm_2 = nn.BatchNorm2d(channels)

  def forward(self, x):
    x = self.batch_norm_1(self.pointwise_1(self.depthwise_1(torch.relu(x))))
    return self.batch_norm_2(self.pointwise_2(self.depthwise_2(torch.relu(x))))


class DilatedConv(nn.Module):
  """relu → depthwise with dilation 2 → 1×1 → batch normalization."""

  def __init__(self, channels, kernel_size, stride=1):
    super().__init__()
    self.depthwise = nn.Conv2d(
      channels, channels, kernel_size, stride, padding=kernel_size - 1, dilation=2, groups=channels, bias=False
    )
    self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
    self.batch_norm = nn.BatchNorm2d(channels)

  def forward(self, x):
    return self.batch_norm(self.pointwise(self.depthwise(torch.relu(x))))


class FactorizedConv(nn.Module):
  """relu → 1×7 convolution → 7×1 convolution → batch normalization."""

  def __init__(self, channels, stride=1):
    super().__init__()
    self.conv_1x7 = nn.Conv2d(channels, channels, (1, 7), stride=(1, stride), padding=(0, 3), bias=False)
    self.conv_7x1 = nn.Conv2d(channels, channels, (7, 1), stride=(stride, 1), padding=(3, 0), bias=False)
    self.batch_norm = nn.BatchNorm2d(channels)

  def forward(self, x):
    return self.batch_norm(self.conv_7x1(self.conv_1x7(torch.relu(x))))


class InvertedResidual(nn.Module):
  """1×1 → depthwise → 1×1, each with batch normalization. The input is added if the shape stays."""

  def __init__(self, in_channels, channels, kernel_size, expansion, stride=1):
    super().__init__()
    size, padding, inner = kernel_size, kernel_size // 2, expansion * in_channels
    self.expands, self.adds_input = expansion > 1, stride == 1 and in_channels == channels
    if self.expands:
      self.expand = nn.Conv2d(in_channels, inner, 1, bias=False)
      self.batch_norm_expand = nn.BatchNorm2d(inner)
    self.depthwise = nn.Conv2d(inner, inner, size, stride, padding, groups=inner, bias=False)
    self.batch_norm_depthwise = nn.BatchNorm2d(inner)
    self.project = nn.Conv2d(inner, channels, 1, bias=False)
    self.batch_norm_project = nn.BatchNorm2d(channels)

  def forward(self, x):
    y = nn.functional.relu6(self.batch_norm_expand(self.expand(x))) if self.expands else x
    y = nn.functional.relu6(self.batch_norm_depthwise(self.depthwise(y)))
    y = self.batch_norm_project(self.project(y))
    return x + y if self.adds_input else y


class Zero(nn.Module):
  """No connection."""

  def __init__(self, stride=1):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
  """Draws from N(0, 1) in the shape of its input, also in evaluation."""

  def __init__(self, stride=1):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    return torch.randn_like(x[:, :, :: self.stride, :: self.stride])


class ResNetBlock(nn.Module):
  """Halves the image: two convolutions, plus a shortcut of 2×2 average pool and 1×1 convolution."""

  def __init__(self, in_channels, channels):
    super().__init__()
    self.conv_a = ReluConvBatchNorm(in_channels, channels, kernel_size=3, stride=2)
    self.conv_b = ReluConvBatchNorm(channels, channels, kernel_size=3)
    self.pool = nn.AvgPool2d(2)
    self.shortcut = nn.Conv2d(in_channels, channels, 1, bias=False)

  def forward(self, x):
    return self.conv_b(self.conv_a(x)) + self.shortcut(self.pool(x))


class NasBench201Network(nn.Module):
  """stem → three stages of equal cells at C, 2C and 4C channels → mean over the pixels → classifier."""

  def __init__(
    self, num_classes=NUM_CLASSES, image_channels=IMAGE_CHANNELS, channels=CHANNELS, cells_per_stage=CELLS_PER_STAGE
  ):
    super().__init__()
    self.stem_conv = nn.Conv2d(image_channels, channels, 3, padding=1, bias=False)
    self.stem_batch_norm = nn.BatchNorm2d(channels)
    self.stage1 = nn.Sequential(*(Cell(channels) for _ in range(cells_per_stage)))
    self.reduction1 = ResNetBlock(channels, 2 * channels)
    self.stage2 = nn.Sequential(*(Cell(2 * channels) for _ in range(cells_per_stage)))
    self.reduction2 = ResNetBlock(2 * channels, 4 * channels)
    self.stage3 = nn.Sequential(*(Cell(4 * channels) for _ in range(cells_per_stage)))
    self.last_batch_norm = nn.BatchNorm2d(4 * channels)
    self.classifier = nn.Linear(4 * channels, num_classes)

  def forward(self, images):
    """Computes logits [B, num_classes] of normalized images [B, C, H, W]."""
    x = self.stem_batch_norm(self.stem_conv(images))
    x = self.reduction1(self.stage1(x))
    x = self.reduction2(self.stage2(x))
    x = torch.relu(self.last_batch_norm(self.stage3(x)))
    return self.classifier(x.mean(dim=(2, 3)))


class CifarStem(nn.Module):
  """One convolution. Its output is both inputs of the first cell."""

  halves = False  # the two outputs have one size

  def __init__(self, image_channels, channels):
    super().__init__()
    self.out_channels = 3 * channels
    self.conv = nn.Conv2d(image_channels, self.out_channels, 3, padding=1, bias=False)
    self.batch_norm = nn.BatchNorm2d(self.out_channels)

  def forward(self, images):
    x = self.batch_norm(self.conv(images))
    return x, x


class ImageNetStem(nn.Module):
  """Three convolutions of stride 2. The outputs of the last two are the inputs of the first cell."""

  halves = True  # the second output is half as large as the first one

  def __init__(self, image_channels, channels):
    super().__init__()
    self.out_channels = channels
    self.conv_1 = nn.Conv2d(image_channels, channels // 2, 3, stride=2, padding=1, bias=False)
    self.batch_norm_1 = nn.BatchNorm2d(channels // 2)
    self.conv_2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1, bias=False)
    self.batch_norm_2 = nn.BatchNorm2d(channels)
    self.last = ReluConvBatchNorm(channels, channels, kernel_size=3, stride=2)

  def forward(self, images):
    x = torch.relu(self.batch_norm_1(self.conv_1(images)))
    x = self.batch_norm_2(self.conv_2(x))
    return x, self.last(x)


class DartsNetwork(nn.Module):
  """stem → cells, with reductions at 1/3 and 2/3 of the depth → mean over the pixels → classifier."""

  def __init__(self, num_classes=NUM_CLASSES, image_channels=IMAGE_CHANNELS, channels=CHANNELS, layers=LAYERS):
    super().__init__()
    self.stem = CifarStem(image_channels, channels)
    self.cells = nn.ModuleList()
    older = newer = self.stem.out_channels  # channels of the outputs of the two cells before
    after_reduction = self.stem.halves
    for layer in range(layers):
      reduces = layer in (layers // 3, 2 * layers // 3)
      channels *= 2 if reduces else 1
      cell = (ReductionCell if reduces else NormalCell)(older, newer, channels, after_reduction)
      self.cells.append(cell)
      older, newer, after_reduction = newer, cell.out_channels, reduces
    self.classifier = nn.Linear(newer, num_classes)

  def forward(self, images):
    """Computes logits [B, num_classes] of normalized images [B, C, H, W]."""
    older, newer = self.stem(images)
    for cell in self.cells:
      older, newer = newer, cell(older, newer)
    return self.classifier(newer.mean(dim=(2, 3)))


class MobileNetwork(nn.Module):
  """stem → six stages of inverted residuals → 1×1 convolution → mean over the pixels → classifier.

  STAGES has (channels, stride, layers) of each stage, and a layer is (kernel size, expansion) or None.
  """

  def __init__(self, num_classes=NUM_CLASSES, image_channels=IMAGE_CHANNELS, channels=CHANNELS):
    super().__init__()
    self.stem_conv = nn.Conv2d(image_channels, 2 * channels, 3, stride=STEM_STRIDE, padding=1, bias=False)
    self.stem_batch_norm = nn.BatchNorm2d(2 * channels)
    self.first_block = InvertedResidual(2 * channels, channels, kernel_size=3, expansion=1)
    inputs, outputs, stages = channels, max(80 * channels, 1280), []
    for width, stride, layers in STAGES:
      first = InvertedResidual(inputs, width, *layers[0], stride)
      rest = (InvertedResidual(width, width, *layer) if layer else nn.Identity() for layer in layers[1:])
      stages.append(nn.Sequential(first, *rest))
      inputs = width
    self.stages = nn.Sequential(*stages)
    self.last_conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    self.last_batch_norm = nn.BatchNorm2d(outputs)
    self.classifier = nn.Linear(outputs, num_classes)

  def forward(self, images):
    """Computes logits [B, num_classes] of normalized images [B, C, H, W]."""
    x = nn.functional.relu6(self.stem_batch_norm(self.stem_conv(images)))
    x = self.stages(self.first_block(x))
    x = nn.functional.relu6(self.last_batch_norm(self.last_conv(x)))
    return self.classifier(x.mean(dim=(2, 3)))


class AuxiliaryHead(nn.Module):
  """A second classifier, on 8×8 features (CIFAR: pool stride 3) or 7×7 features (ImageNet: pool stride 2)."""

  def __init__(self, in_channels, num_classes, pool_stride, last_batch_norm):
    super().__init__()
    self.pool = nn.AvgPool2d(5, stride=pool_stride)
    self.conv_1 = nn.Conv2d(in_channels, 128, 1, bias=False)
    self.batch_norm_1 = nn.BatchNorm2d(128)
    self.conv_2 = nn.Conv2d(128, 768, 2, bias=False)
    self.batch_norm_2 = nn.BatchNorm2d(768) if last_batch_norm else nn.Identity()
    self.classifier = nn.Linear(768, num_classes)

  def forward(self, x):
    x = self.conv_1(self.pool(torch.relu(x)))
    x = self.conv_2(torch.relu(self.batch_norm_1(x)))
    return self.classifier(torch.relu(self.batch_norm_2(x)).flatten(1))


class NetworkWithAuxiliaryHead(DartsNetwork):
  """The network with a head after the second reduction. In training it returns (logits, auxiliary logits)."""

  def __init__(self, num_classes=NUM_CLASSES, **sizes):
    super().__init__(num_classes, **sizes)
    self.auxiliary_layer = 2 * len(self.cells) // 3
    channels, is_cifar = self.cells[self.auxiliary_layer].out_channels, not self.stem.halves
    self.auxiliary_head = AuxiliaryHead(channels, num_classes, 3 if is_cifar else 2, last_batch_norm=is_cifar)

  def forward(self, images):
    if not self.training:
      return super().forward(images)
    older, newer = self.stem(images)
    for layer, cell in enumerate(self.cells):
      older, newer = newer, cell(older, newer)
      if layer == self.auxiliary_layer:
        auxiliary_logits = self.auxiliary_head(newer)
    return self.classifier(newer.mean(dim=(2, 3))), auxiliary_logits
