"""Every value of a run with its default; validation.py says what is allowed.

A run searches (`default`: the NAS-Bench-201 protocol of β-DARTS on CIFAR-10) or
retrains a found cell (`default_retrain`: DARTS' protocol on CIFAR-10); the files
in configs/ change some of the values.
"""

import inspect
import re

from ml_collections import ConfigDict

from beta_darts_jax.errors import InputError

# scalars of config.search that are arguments of the program, so that members may differ in them
VARIED = (
  'learning_rate',
  'learning_rate_min',
  'momentum',
  'weight_decay',
  'clip_norm',
  'alpha_learning_rate',
  'alpha_weight_decay',
  'beta_decay_weight',
  'l2_weight',
  'alignment_weight',
  'flood_level',
)


def is_asked_for(settings) -> bool:
  """Whether `settings`, a mapping like `config.population`, asks for several seeds, or for values."""
  return settings['seeds'] > 1 or any(settings[name] for name in VARIED)


def _data() -> ConfigDict:
  data = ConfigDict()
  data.source = 'cifar10'  # digits, a name of TFDS, imagenet16_120, folder:PATH, npz:PATH
  data.data_dir = ''  # of TFDS; '' is $TFDS_DATA_DIR
  data.image_size = 0  # pixels to resize to; 0 leaves the images
  data.part = 'all'  # of the training images: all, first half or second half
  data.fraction = 1.0  # share of the training images that is used
  data.crop_padding = 4  # pixels; 0 is off
  data.flip = True  # half of the images are mirrored
  data.cutout = 0  # pixels; 0 is off
  return data


def _parallel() -> ConfigDict:
  """Where a run computes; a resumed run may do so elsewhere."""
  parallel = ConfigDict()
  parallel.data = 0  # devices that share a batch, a divisor of it; 0 chooses
  parallel.cpu_devices = 0  # virtual devices where there is no accelerator; 0 is one, which uses every core
  parallel.cluster = 'auto'  # joins a cluster that JAX detects (TPU pod, Slurm, Kubernetes, MPI); none looks for none
  parallel.coordinator = ''  # HOST:PORT of process 0 of any other cluster, with …
  parallel.processes = 0  # … its number of processes, and …
  parallel.process = 0  # … which of them this is
  return parallel


def default() -> ConfigDict:
  """The config of the official search."""
  config = ConfigDict()
  config.task = 'search'  # or retrain, which has other values
  config.name = 'nas_bench_201'  # names the run's folder
  config.data = _data()

  config.space = ConfigDict()
  config.space.name = 'nas_bench_201'  # or darts, darts_with_none, s1, s2, s3, s4
  config.space.nodes = 0  # intermediate nodes of a cell; 0: as the space has them
  config.space.operations = ()  # candidates of every edge, two or more; (): as the space has them
  config.space.auxiliary_skip = False  # a skip connection beside every edge, in the network too

  config.supernet = ConfigDict()
  config.supernet.channels = 16  # C of the first stage
  config.supernet.cells_per_stage = 5  # N, in NAS-Bench-201
  config.supernet.layers = 8  # cells, in the DARTS family
  config.supernet.unroll = True  # False compiles in less than half the time; on CPU a step takes twice as long
  config.supernet.dtype = 'float32'  # of the computation: float32 or bfloat16

  config.search = ConfigDict()
  config.search.seed = 0  # of the weights, α and the order of images
  config.search.epochs = 100  # through the half that trains the weights
  config.search.batch_size = 64  # of each half
  config.search.learning_rate = 0.025  # of the weights, cosine per epoch …
  config.search.learning_rate_min = 0.001  # … down to this
  config.search.momentum = 0.9  # of the weights' SGD
  config.search.weight_decay = 3e-4  # of the weights, coupled
  config.search.clip_norm = 5.0  # of the weights' gradient
  config.search.alpha_learning_rate = 3e-4  # of α's Adam
  config.search.alpha_betas = (0.5, 0.999)  # of α's Adam
  config.search.alpha_weight_decay = 1e-3  # of α, coupled, from the first epoch on
  config.search.alpha_warmup_epochs = 0  # first epochs, in which α is not trained
  config.search.alpha_epochs = 0  # α is trained up to this epoch only; 0: to the end
  config.search.alpha_rate_factors = ()  # a factor of alpha_learning_rate for each epoch; (): all 1
  config.search.shuffled_alpha_labels = False  # a control: α learns from labels dealt out at random
  config.search.regularizers = ('beta_decay',)  # see docs/methods.md; they add up
  config.search.beta_decay_weight = 50.0  # λ_max of any form of Beta-Decay …
  config.search.beta_decay_schedule = 'linear'  # … λ_max·epoch/epochs; or constant
  config.search.l2_weight = 0.0  # λ_max of l2 (coupled) and weight_decay (decoupled)
  config.search.l2_schedule = 'constant'  # or linear
  config.search.alignment_weight = 0.0  # λ_max of lambda_darts
  config.search.alignment_schedule = 'constant'  # or linear
  config.search.flood_level = 0.0  # b of flooding, abs(L − b) + b of the weights' loss (β-DARTS++), in nats; 0 is off
  config.search.evaluation_images = 0  # of the α half, validated on at the end of an epoch; 0 is all of it
  config.search.steps_per_dispatch = 20  # steps in one call; signals and the loss are looked at between calls

  config.hypergradient = ConfigDict()
  config.hypergradient.method = 'first_order'  # or second_order, finite_difference, implicit
  config.hypergradient.distance = 0.01  # of finite_difference, over the norm of the direction
  config.hypergradient.solver = 'neumann'  # of implicit: or cg
  config.hypergradient.terms = 10  # … products with the Hessian
  config.hypergradient.rate = 0.01  # … of the Neumann series
  config.hypergradient.damping = 0.0  # … added to the Hessian

  config.relaxation = ConfigDict()
  config.relaxation.sampling = 'softmax'  # or gumbel (GDAS), dirichlet (DrNAS)
  config.relaxation.temperature = 10.0  # of gumbel: falls linearly from here …
  config.relaxation.temperature_min = 0.1  # … to this
  config.relaxation.perturbation = 'none'  # of β in the weight step: random (SDARTS-RS), adversarial (SDARTS-ADV) …
  config.relaxation.epsilon = 0.03  # … within ± this in the first epoch, linearly …
  config.relaxation.epsilon_max = 0.3  # … to this
  config.relaxation.partial_channels = 1  # K: operations see a Kth of the channels (PC-DARTS)
  config.relaxation.edge_normalization = False  # the edges that enter a node are weighed, too (PC-DARTS)
  config.relaxation.auxiliary_skip = False  # in the supernet only, its weight falling from 1 to 0 (DARTS-)

  config.early_stopping = ConfigDict()
  config.early_stopping.eigenvalue_ratio = 0.0  # RobustDARTS stops at 0.75; needs diagnostics.every_epochs; 0 is off
  config.early_stopping.eigenvalue_window = 5  # epochs with diagnostics
  config.early_stopping.skips = 0  # in the normal cell, at which to stop; 0 is off

  config.derivation = ConfigDict()
  config.derivation.epoch = 'last'  # keeps the last epoch's cell; best: that of the highest validation accuracy
  config.derivation.method = 'argmax'  # or perturbation (DARTS-PT), of the last epoch
  config.derivation.tune_epochs = 1  # … of the weights between its decisions …
  config.derivation.learning_rate = 0.001  # … at this rate
  config.derivation.images = 2000  # … of the α half for each of its accuracies

  config.diagnostics = ConfigDict()
  config.diagnostics.every_epochs = 0  # eigenvalues of α's Hessian, θ, discretisation gap; 0 is off
  config.diagnostics.images = 2000  # of the α half, for the gap
  config.diagnostics.kendall_cells = 0  # and Kendall's τ of so many; 0 is off

  config.population = ConfigDict()  # many searches at once: every combination of …
  config.population.seeds = 1  # … search.seed, search.seed + 1, …
  for name in VARIED:  # … and values for config.search.NAME, as in '(0, 5, 25, 50)'; () keeps its one
    config.population[name] = ()

  config.checkpoint = ConfigDict()
  config.checkpoint.every_steps = 0  # besides the end of every epoch; 0 is off

  config.benchmark = ConfigDict()
  config.benchmark.table = ''  # CSV of NAS-Bench-201; '' is $NAS_BENCH_201_TABLE
  config.benchmark.kendall_cells = 0  # one-shot accuracies against the table, after the search; 0 is off
  config.benchmark.kendall_images = 2000  # for each of those accuracies

  config.retrain = ConfigDict()
  config.retrain.epochs = 0  # of the found cell, after the search; 0 is off
  config.retrain.random_cells = 3  # retrained the same way, for comparison
  config.retrain.channels = 16  # C of the first cells
  config.retrain.cells_per_stage = 5  # in NAS-Bench-201
  config.retrain.layers = 20  # in the DARTS family
  config.retrain.batch_size = 256  # images
  config.retrain.learning_rate = 0.1  # at first
  config.retrain.schedule = 'cosine_steps'  # or cosine_epochs, linear_tail
  config.retrain.momentum = 0.9  # of SGD
  config.retrain.nesterov = True  # momentum's form
  config.retrain.weight_decay = 5e-4  # coupled
  config.retrain.clip_norm = 0.0  # 0 is off
  config.retrain.drop_path_rate = 0.0  # grows linearly from 0

  config.parallel = _parallel()
  config.parallel.population = 0  # devices that share the members, a divisor of their number; 0 chooses
  config.parallel.strategy = 'auto'  # of the members on one device: map (one after the other) or vmap (together)
  config.tensorboard = False  # also write event files
  config.profile = ''  # START:STOP, steps to trace for Perfetto
  return config


def default_retrain() -> ConfigDict:
  """The config of DARTS' retraining on CIFAR-10."""
  config = ConfigDict()
  config.task = 'retrain'  # or search, which has other values
  config.name = 'retrain_cifar10'  # names the run's folder
  config.genotype = ''  # a run's folder, a file, a published name (DARTS_V2, PC_DARTS_CIFAR, …) or the text itself
  config.data = _data()
  config.data.cutout = 16
  config.data.workers = 4  # of streamed ImageNet: processes that decode; 0 is this one
  config.data.crop_scale = (0.08, 1.0)  # … share of the area of random resized crops
  config.data.color_jitter = (0.4, 0.4, 0.4, 0.2)  # … brightness, contrast, saturation, hue
  config.data.resize = 256  # … pixels of the shorter side before the central crop of evaluation

  config.network = ConfigDict()
  config.network.stem = 'cifar'  # cifar or imagenet (the DARTS family), or nas_bench_201
  config.network.channels = 36  # C of the first cells
  config.network.layers = 20  # cells, in the DARTS family
  config.network.cells_per_stage = 5  # N, in NAS-Bench-201
  config.network.auxiliary_weight = 0.4  # of the auxiliary head's loss; 0 leaves the head out
  config.network.auxiliary_skip = False  # a skip connection beside every edge; a run's folder sets it
  config.network.dtype = 'float32'  # of the computation: float32 or bfloat16

  config.train = ConfigDict()
  config.train.seed = 0  # of the weights and the order of images
  config.train.epochs = 600  # through the training images
  config.train.batch_size = 96  # images
  config.train.learning_rate = 0.025  # at first
  config.train.schedule = 'cosine_epochs'  # to 0, a level an epoch; or cosine_steps, or linear_tail (ImageNet's)
  config.train.warmup_epochs = 0  # linear (the official ImageNet program warms up for batches above 256 only)
  config.train.momentum = 0.9  # of SGD
  config.train.nesterov = False  # momentum's form
  config.train.weight_decay = 3e-4  # coupled
  config.train.clip_norm = 5.0  # 0 is off
  config.train.label_smoothing = 0.0  # share of the other classes
  config.train.drop_path_rate = 0.2  # grows linearly from 0: rate·epoch/epochs
  config.train.ema_decay = 0.0  # of a moving average of the weights, evaluated in their place; 0 is off
  config.train.steps_per_dispatch = 20  # steps in one call; signals and the loss are looked at between calls

  config.checkpoint = ConfigDict()
  config.checkpoint.every_steps = 0  # besides the end of every epoch; 0 is off

  config.parallel = _parallel()
  config.tensorboard = False  # also write event files
  config.profile = ''  # START:STOP, steps to trace for Perfetto
  return config


DEFAULTS = {'search': default, 'retrain': default_retrain}


def described(task: str) -> list[tuple[str, str, str]]:
  """(key without `config.`, default, meaning) of every value of a task, from this file: in its order, its comments."""
  source = re.sub(
    r'= (_\w+)\(\)', lambda called: inspect.getsource(globals()[called[1]]), inspect.getsource(DEFAULTS[task])
  )
  assigned = re.findall(r'^ +(?:config\.)?([a-z][\w.]*) = .*?(?:  # (.*))?$', source, flags=re.MULTILINE)
  of_varied = 'values for search.{}, a tuple of numbers; () keeps its one'
  meanings = {name: said for name, said in assigned if said} | {
    f'population.{name}': of_varied.format(name) for name in VARIED
  }
  names = [name for name, _ in assigned]
  place = lambda leaf: names.index(leaf[0] if leaf[0] in names else 'population.seeds')
  values = sorted(leaves(DEFAULTS[task]()), key=place)
  return [(name, repr(value), meanings.get(name, '')) for name, value in values]


def reference(config: ConfigDict) -> ConfigDict:
  """The defaults of the task of `config`. Raises InputError."""
  task = config.get('task', 'search')
  if task not in DEFAULTS:
    raise InputError(f'config.task={task!r}: allowed are {", ".join(DEFAULTS)}')
  return DEFAULTS[task]()


def leaves(config: ConfigDict, prefix: str = ''):
  """Yields (dotted key, value) of every value."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from leaves(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value
