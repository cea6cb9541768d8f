"""A checked config becomes a RetrainSetup. What runs below takes the setup and never sees the config."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from beta_darts_jax.config.check import check_profile, step_range
from beta_darts_jax.data import Augmentation, Dataset, load
from beta_darts_jax.data.augmentation import check_augmentation
from beta_darts_jax.data.crops import ResizedCrops
from beta_darts_jax.data.sources import Residence
from beta_darts_jax.errors import InputError, naming
from beta_darts_jax.networks import MobileNetwork, NasBench201Network, Network, check_image_size, known_operations
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.runtime.devices import make_mesh
from beta_darts_jax.runtime.session import SessionOptions
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.lookup import find_genotype
from beta_darts_jax.spaces.published import short_name

STREAMED_SOURCE = 'imagenet2012'  # its pictures are read batch by batch, as random resized crops


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
  """The size and form of a genotype's network.

  Attributes:
    stem: 'cifar' or 'imagenet' (DARTS family), 'nas_bench_201' or 'mobile'.
    channels: C of the first cells.
    layers: cells, in the DARTS family.
    cells_per_stage: N, in NAS-Bench-201.
    auxiliary_weight: weight of the loss of the auxiliary head; 0 leaves the head out.
    auxiliary_skip: adds a skip connection to every edge.
    dtype: dtype of the computation, 'float32' or 'bfloat16'.
  """

  stem: str
  channels: int
  layers: int
  cells_per_stage: int
  auxiliary_weight: float = 0.0
  auxiliary_skip: bool = False
  dtype: str = 'float32'


AnyNetwork = Network | NasBench201Network | MobileNetwork


@dataclasses.dataclass(frozen=True)
class RetrainSetup:
  """Everything that a training needs, apart from the data and the folder.

  Attributes:
    genotype: what is trained.
    network: its module.
    auxiliary_weight: weight of the auxiliary head's loss.
    recipe: the recipe of the training.
    seed: seed of the weights and of the order of the images.
    mesh: the mesh of devices.
    fraction: share of the training images that is used.
    augmentation: how training images are augmented on the device; streamed images are augmented on the host.
    workers: processes that decode streamed images.
    session: sizes and logs of the run.
  """

  genotype: Genotype
  network: AnyNetwork
  auxiliary_weight: float
  recipe: Recipe
  seed: int
  mesh: jax.sharding.Mesh
  fraction: float
  augmentation: Augmentation
  workers: int
  session: SessionOptions


def resolve_genotype(config: ConfigDict) -> Genotype:
  """Returns the genotype that config.genotype names, and writes it into the config.

  The run keeps the cell even if its file changes later. It also keeps the skip connections of the search space.

  Raises:
    InputError: there is no such genotype, or the network cannot have it.
  """
  with naming('config.genotype'):
    genotype, auxiliary_skip = find_genotype(config.genotype)
  config.genotype = str(genotype)
  config.network.auxiliary_skip |= auxiliary_skip
  with naming('config.network'):
    check_network(genotype, NetworkOptions(**config.network))
  return genotype


def load_dataset(options: ConfigDict) -> Dataset:
  """Loads the data set of a config's group `data`. ImageNet is streamed. Raises InputError."""
  streams = options.source == STREAMED_SOURCE
  residence = Residence('stream', crops=resized_crops(options)) if streams else Residence()
  return load(options.source, options.data_dir, options.image_size, residence=residence).half(options.part)


def resized_crops(options: ConfigDict) -> ResizedCrops:
  """Returns the random resized crops that a config's group `data` describes."""
  size = options.image_size or ResizedCrops.size
  return ResizedCrops(size, options.crop_scale, options.color_jitter, options.flip, options.resize)


def make_retrain_setup(config: ConfigDict, genotype: Genotype, dataset: Dataset) -> RetrainSetup:
  """Resolves a checked config of the task 'retrain' for a genotype and a data set.

  Raises:
    InputError: the genotype, the network, the batches and the data do not fit together.
  """
  data, train = config.data, dict(config.train)
  seed, steps_per_dispatch = train.pop('seed'), train.pop('steps_per_dispatch')
  with naming('config.data'):
    recipe = Recipe(**train, class_weights=dataset.class_weights(data.class_weights))
  options = NetworkOptions(**config.network)
  with naming('config.network'):
    network = make_network(genotype, dataset.num_classes, options, dataset.image_shape[:2])
  steps = _check_sizes(config, dataset)
  with naming('config.parallel'):
    mesh = make_mesh(recipe.batch_size, data=config.parallel.data)
  return RetrainSetup(
    genotype=genotype,
    network=network,
    auxiliary_weight=options.auxiliary_weight,
    recipe=recipe,
    seed=seed,
    mesh=mesh,
    fraction=data.fraction,
    augmentation=Augmentation(dataset.mean, dataset.std, data.crop_padding, data.flip, data.cutout),
    workers=data.workers,
    session=SessionOptions(
      epochs=recipe.epochs,
      steps_per_epoch=steps,
      steps_per_dispatch=steps_per_dispatch,
      images_per_step=recipe.batch_size,
      checkpoint_every=config.checkpoint.every_steps,
      profile=step_range(config.profile),
    ),
  )


def _check_sizes(config, dataset) -> int:
  """Checks the sizes before anything is written, and returns the steps of an epoch. Raises InputError."""
  data, batch_size = config.data, config.train.batch_size
  images, size = int(len(dataset.train[1]) * data.fraction), dataset.image_shape[0]
  if dataset.streamed and (data.crop_padding, data.cutout) != (0, 0):
    raise InputError(f'{dataset.name} is streamed: expected config.data.crop_padding=0 and config.data.cutout=0')
  if dataset.streamed and data.resize < size:
    raise InputError(f'config.data.resize={data.resize}: expected the image size, {size}, or more')
  with naming('config.data'):
    check_augmentation(data.crop_padding, data.cutout, dataset.image_shape[:2])
  if batch_size > images:
    raise InputError(f'config.train.batch_size={batch_size}: expected at most {images}, the training images')
  check_profile(config.profile, config.train.epochs * (images // batch_size))
  return images // batch_size


class _Family(NamedTuple):
  """The genotypes of a skeleton: what they are, the stems of their networks, and a config that trains these."""

  kind: str
  stems: tuple[str, ...]
  config: str


_FAMILIES = {
  'nas_bench_201': _Family('one cell', ('nas_bench_201',), 'configs/retrain_nas_bench_201.py'),
  'darts': _Family('of the DARTS family', ('cifar', 'imagenet'), 'configs/retrain_cifar10.py'),
  'mobile': _Family('a chain of stages', ('mobile',), 'configs/mobile.py:cifar10,retrain'),
}


def check_network(genotype: Genotype, options: NetworkOptions) -> None:
  """Checks that the genotype belongs to the stem, has what the options ask for, and has known operations only.

  Raises:
    InputError: it does not.
  """
  known_operations(name for cell in genotype.cells for name in cell.operations)
  if options.stem == 'imagenet' and options.channels < 2:
    raise InputError(f'channels={options.channels}: expected 2 or more with stem=imagenet')
  family = _FAMILIES[genotype.skeleton]
  has_wrong_stem = options.stem not in family.stems
  has_wrong_head = genotype.skeleton != 'darts' and options.auxiliary_weight > 0
  has_wrong_skips = genotype.skeleton == 'mobile' and options.auxiliary_skip
  if has_wrong_stem or has_wrong_head or has_wrong_skips:
    expected = [f'stem={" or ".join(family.stems)}']
    expected += ['auxiliary_weight=0'] if has_wrong_head else []
    expected += ['auxiliary_skip=False'] if has_wrong_skips else []
    raise InputError(f'{short_name(genotype)} is {family.kind}: expected {", ".join(expected)}, as in {family.config}')


def make_network(
  genotype: Genotype, num_classes: int, options: NetworkOptions, image_size: tuple[int, int]
) -> AnyNetwork:
  """Returns the network of a genotype, by its skeleton: a Network, NasBench201Network or MobileNetwork.

  Args:
    genotype: the cells.
    num_classes: size of the logits.
    options: size and form.
    image_size: height and width in pixels.

  Raises:
    InputError: the images do not fit, or the genotype does not belong to the stem.
  """
  check_network(genotype, options)
  auxiliary, dtype = options.auxiliary_weight > 0, None if options.dtype == 'float32' else jnp.dtype(options.dtype)
  check_image_size(image_size, options.stem, auxiliary)
  if genotype.skeleton == 'mobile':
    return MobileNetwork(genotype, num_classes, channels=options.channels, dtype=dtype)
  shared: dict[str, Any] = {
    'channels': options.channels,
    'auxiliary_skip': options.auxiliary_skip,
    'dtype': dtype,
  }
  if genotype.skeleton == 'nas_bench_201':
    return NasBench201Network(genotype, num_classes, cells_per_stage=options.cells_per_stage, **shared)
  return Network(genotype, num_classes, layers=options.layers, stem=options.stem, auxiliary=auxiliary, **shared)
