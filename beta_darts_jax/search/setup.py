"""A checked config becomes a SearchSetup. What runs below takes the setup and never sees the config."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from beta_darts_jax.config.check import check_profile, step_range
from beta_darts_jax.config.schema import epochs_to_run, flatten, from_json, is_population, varied_keys
from beta_darts_jax.data import Augmentation, Dataset, load
from beta_darts_jax.data.augmentation import check_augmentation
from beta_darts_jax.data.sources import Residence
from beta_darts_jax.errors import InputError, naming
from beta_darts_jax.method.hypergradients import HYPERGRADIENT_SCALARS, HYPERGRADIENTS
from beta_darts_jax.method.parts import StepParts, resolve_parts
from beta_darts_jax.method.regularizers import REGULARIZERS, SCHEDULES, cost, per_step
from beta_darts_jax.method.relaxations import Relaxation
from beta_darts_jax.method.samplings import find_sampling
from beta_darts_jax.networks import Supernet, check_image_size, known_operations
from beta_darts_jax.retrain.comparison import Comparison
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.setup import NetworkOptions, resized_crops
from beta_darts_jax.runtime.devices import make_mesh, memory_of_device
from beta_darts_jax.runtime.session import SessionOptions
from beta_darts_jax.search.cost import Costs, make_costs
from beta_darts_jax.search.options import EarlyStopping, Measurements, Selection
from beta_darts_jax.search.population import make_members
from beta_darts_jax.search.schedule import HyperparameterSchedule, Member
from beta_darts_jax.spaces.nas_bench_201 import HOW_TO_GET, NasBench201, covers, find_table
from beta_darts_jax.spaces.space import SearchSpace, make_space

MEMORY_SHARE = 4  # images stream if their pixels need more than this part of a device's memory: 1/4
OFFICIAL_BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class SearchSetup:
  """Everything that a search needs, apart from the data and the folder.

  Attributes:
    dataset_name: the source of the data.
    space: what is searched.
    space_options: what makes the space, for genotype.json.
    members: the members of the population; a single search has one.
    is_population: whether the results are reported by member.
    mesh: ('population', 'data').
    strategy: 'map' or 'vmap' of the members of a device.
    supernet: the network of the space.
    costs: the costs of its operations, with the regularizer `cost`; None without.
    parts: the parts of the bilevel step.
    schedule: the hyperparameters of each epoch.
    augmentation: how training images are augmented.
    fraction, alpha_fraction: shares of the training images that are used, as in `Dataset.search_splits`.
    workers: processes that read streamed images.
    batch_size: images of each of the two batches of a step.
    evaluation_images: number of images of α's half for the validation after each epoch; 0 is all of them.
    session: sizes and logs of the run.
    early_stopping, selection, measurements: see there.
    comparison: the training of cells after the search; None without.
  """

  dataset_name: str
  space: SearchSpace
  space_options: dict
  members: tuple[Member, ...]
  is_population: bool
  mesh: jax.sharding.Mesh
  strategy: str
  supernet: Supernet
  costs: Costs | None
  parts: StepParts
  schedule: HyperparameterSchedule
  augmentation: Augmentation
  fraction: float
  alpha_fraction: float
  workers: int
  batch_size: int
  evaluation_images: int
  session: SessionOptions
  early_stopping: EarlyStopping
  selection: Selection
  measurements: Measurements
  comparison: Comparison | None

  def hyperparameters(self, member: Member, epoch: int):
    """Returns the Hyperparameters of an epoch, from 0, of a member."""
    return self.schedule.hyperparameters(member, epoch)


def make_search_space(config: ConfigDict) -> SearchSpace:
  """Returns the space that `config.space` describes. Raises InputError."""
  with naming('config.space'):
    space = make_space(**config.space.to_dict())
    known_operations(space.operation_names)
  return space


def load_search_data(options: ConfigDict) -> Dataset:
  """Loads the data set of a config's group `data`, and prints where its images are. Raises InputError."""
  crops = resized_crops(options) if options.crops == 'resized' else None
  limit = memory_of_device() // MEMORY_SHARE
  residence = Residence(options.residence, limit, crops)
  dataset = load(options.source, options.data_dir, options.image_size, options.alpha_split, residence)
  where = 'stream' if dataset.streamed else 'lie on the devices'
  reason = f'data.residence={options.residence}'
  if options.residence == 'auto':
    reason = f'{_gigabytes(dataset.num_bytes)} of pixels, and the limit is {_gigabytes(limit)}'
  print(f'the images {where} ({"data.crops=resized" if crops else reason})', flush=True)
  return dataset.half(options.part)


def _gigabytes(num_bytes) -> str:
  return f'{num_bytes / 1e9:.3g} GB'


def find_benchmark(config: ConfigDict, space: SearchSpace, dataset_name: str) -> NasBench201 | None:
  """Loads the table of the benchmark if it has the space and the data set, and prints what is missing.

  Raises:
    InputError: the table cannot be read.
  """
  if not covers(space, dataset_name):
    if config.benchmark.kendall_cells or config.diagnostics.kendall_cells:
      print(f"no benchmark has the cells of {space.name} on {dataset_name}: Kendall's τ is left out")
    return None
  with naming('config.benchmark.table'):
    table = find_table(config.benchmark.table)
  if table is None:
    print(HOW_TO_GET)
  return table


def make_search_setup(config: ConfigDict, dataset: Dataset) -> SearchSetup:
  """Resolves a checked config of the task 'search' for a data set.

  Raises:
    InputError: the space, the batches, the devices and the data do not fit together.
  """
  space = make_search_space(config)
  members = make_members(config.search.seed, config.population.seeds, {n: config.population[n] for n in varied_keys()})
  batch_size, steps = _check_sizes(config, dataset, config.supernet.stem if space.skeleton == 'darts' else space.stem)
  if dataset.streamed and len(members) > 1:
    raise InputError(f'config.population: {dataset.name} is streamed: expected one member; start a run for each')
  with naming('config.parallel'):
    mesh = make_mesh(batch_size, len(members), config.parallel.population, config.parallel.data)
  data = config.data
  class_weights = dataset.class_weights(data.class_weights)
  sampling = find_sampling(config.relaxation.sampling)
  supernet = make_supernet(config, space, dataset.num_classes, sampling.single_path, paths=sampling.paths)
  costs = None
  if 'cost' in config.search.regularizers:
    with naming('config.cost'):
      costs = make_costs(config.cost.unit, supernet, dataset.image_shape[:2])
  parts = _make_parts(config, space, members, class_weights, costs)
  flips = data.flip and data.crops == 'padded'  # resized crops are mirrored on the host
  augmentation = Augmentation(dataset.mean, dataset.std, data.crop_padding, flips, data.cutout)
  return SearchSetup(
    dataset_name=dataset.name,
    space=space,
    space_options=config.space.to_dict(),
    members=members,
    is_population=is_population(config.population),
    mesh=mesh,
    strategy=config.parallel.strategy,
    supernet=supernet,
    costs=costs,
    parts=parts,
    schedule=make_schedule(config, steps),
    augmentation=augmentation,
    fraction=data.fraction,
    alpha_fraction=data.alpha_fraction if data.alpha_split == 'half' else 0.0,
    workers=data.workers,
    batch_size=batch_size,
    evaluation_images=config.search.evaluation_images,
    session=SessionOptions(
      epochs=epochs_to_run(config.search),
      steps_per_epoch=steps,
      steps_per_dispatch=config.search.steps_per_dispatch,
      images_per_step=2 * batch_size,
      checkpoint_every=config.checkpoint.every_steps,
      profile=step_range(config.profile),
    ),
    early_stopping=EarlyStopping(**config.early_stopping),
    selection=Selection(**config.derivation),
    measurements=Measurements(
      **config.diagnostics,
      final_kendall_cells=config.benchmark.kendall_cells,
      kendall_images=config.benchmark.kendall_images,
    ),
    comparison=_make_comparison(config, space, augmentation, class_weights) if config.retrain.epochs else None,
  )


def _check_sizes(config, dataset, stem: str) -> tuple[int, int]:
  """Checks the sizes before anything is written. Returns (batch size, steps of an epoch). Raises InputError."""
  data = config.data
  num_weight_images, num_alpha_images = map(len, dataset.search_labels(data.fraction, data.alpha_fraction))
  smallest = min(num_weight_images, num_alpha_images)
  batch_size = config.search.batch_size or min(OFFICIAL_BATCH_SIZE, max(1, smallest // 4))
  if batch_size > smallest:
    part = 'the smaller of the training and validation sets' if dataset.valid else 'half of the training images'
    if data.alpha_fraction and not dataset.valid:
      part = 'the smaller part of the training images'
    share = f' with config.data.fraction={data.fraction}' if data.fraction < 1 else ''
    raise InputError(f'config.search.batch_size={batch_size}: expected at most {smallest}, {part}{share}')
  steps = num_weight_images // batch_size
  size = dataset.image_shape[:2]
  with naming('config.data'):
    check_image_size(size, stem)
    check_augmentation(data.crop_padding, data.cutout, size)
  num_images = len(dataset.train[1])
  if config.retrain.epochs and dataset.streamed:
    raise InputError(f'config.retrain.epochs={config.retrain.epochs}: expected 0, because the images stream')
  if config.retrain.epochs and config.retrain.batch_size > num_images:
    raise InputError(
      f'config.retrain.batch_size={config.retrain.batch_size}: expected at most {num_images}, the training images'
    )
  check_profile(config.profile, epochs_to_run(config.search) * steps)
  return batch_size, steps


def make_supernet(
  config: ConfigDict, space: SearchSpace, num_classes: int, single_path: bool, paths: int = 1
) -> Supernet:
  """Returns the supernet that `config.supernet` describes. Raises InputError."""
  options = config.supernet
  with naming('config.supernet'):
    return Supernet(
      space,
      num_classes,
      channels=options.channels,
      cells_per_stage=options.cells_per_stage,
      layers=options.layers,
      stem=options.stem,
      unroll=options.unroll,
      partial_channels=config.relaxation.partial_channels,
      single_path=single_path,
      paths=paths,
      undrawn_gradient=config.relaxation.undrawn_gradient,
      dtype=None if options.dtype == 'float32' else jnp.dtype(options.dtype),
    )


def kept_supernet(values: Mapping[str, Any], num_classes: int) -> Supernet:
  """Returns the supernet of a run's config.json, with all paths and scanned cells. Raises InputError."""
  config = from_json(values)
  return make_supernet(config, make_search_space(config), num_classes, single_path=False).clone(unroll=False)


def _make_parts(config, space, members, class_weights, costs) -> StepParts:
  """The parts of the step. Regularizers whose weight is 0 in every member are left out, and flooding likewise."""

  def is_used(name):
    return any({**config.search, **member.varied}[name] for member in members)

  options = config.hypergradient
  hypergradient = HYPERGRADIENTS[options.method]
  if options.method == 'implicit':
    hypergradient = functools.partial(hypergradient, solver=options.solver, terms=options.terms)
  relaxation = Relaxation(
    sampling=config.relaxation.sampling,
    perturbation=config.relaxation.perturbation,
    edges=space.edges if config.relaxation.edge_normalization else (),
    auxiliary_skip=config.relaxation.auxiliary_skip,
    strength=config.relaxation.strength,
  )
  available = dict(REGULARIZERS)
  if costs:
    with naming('config.cost'):
      available['cost'] = cost(costs.of_operations, config.cost.target, relaxation.sampling.mean)
  regularizers = [available[name] for name in config.search.regularizers]
  with naming('config'):
    return resolve_parts(
      regularizer=[regularizer for regularizer in regularizers if is_used(regularizer.weight)],
      hypergradient=hypergradient,
      relaxation=relaxation,
      weight_optimizer=config.search.weight_optimizer,
      alpha_optimizer=config.search.alpha_optimizer,
      flooding=is_used('flood_level'),
      order=config.search.order,
      class_weights=class_weights,
    )


def make_schedule(config: ConfigDict, steps_per_epoch: int) -> HyperparameterSchedule:
  """Returns the schedule of the hyperparameters that a checked config describes."""
  search, values = config.search, flatten(config)

  def weight_schedule(weight):
    schedule = SCHEDULES[search[weight.removesuffix('_weight') + '_schedule']]
    return functools.partial(per_step, steps_per_epoch=steps_per_epoch) if schedule is per_step else schedule

  weights = {REGULARIZERS[name].weight for name in search.regularizers}
  return HyperparameterSchedule(
    epochs=search.epochs,
    steps_per_epoch=steps_per_epoch,
    scalars={name: values[key] for name, key in varied_keys().items()},
    warmup_epochs=search.warmup_epochs,
    alpha_betas=search.alpha_betas,
    alpha_epochs=(search.alpha_warmup_epochs, search.alpha_epochs or search.epochs),
    weight_schedules={name: weight_schedule(name) for name in sorted(weights)},
    hypergradient_scalars=HYPERGRADIENT_SCALARS.get(config.hypergradient.method, ()),
  )


def _make_comparison(config, space, augmentation, class_weights) -> Comparison:
  options = dict(config.retrain)
  sizes = {name: options.pop(name) for name in ('channels', 'layers', 'cells_per_stage')}
  random_cells = options.pop('random_cells')
  return Comparison(
    network=NetworkOptions(stem=space.stem, auxiliary_skip=space.auxiliary_skip, **sizes),
    recipe=Recipe(**options, class_weights=class_weights),
    augmentation=augmentation,
    random_cells=random_cells,
    seed=config.search.seed,
  )
