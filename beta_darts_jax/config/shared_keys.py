"""The keys that a search and a retraining share."""

from beta_darts_jax.config.key import Key

DTYPES = ('float32', 'bfloat16')
RATE_SCHEDULES = ('cosine_epochs', 'cosine_steps', 'linear_tail')

DATA = (
  Key(
    'data.source', 'cifar10', 'data set: digits, cifar10, cifar100, imagenet16_120, another name of TensorFlow '
    'Datasets (TFDS), folder:PATH or npz:PATH',
  ),
  Key('data.data_dir', '', "folder of the TFDS data sets; '' takes $TFDS_DATA_DIR, or else ~/tensorflow_datasets"),
  Key('data.image_size', 0, 'height and width of the resized images, in pixels; 0 keeps their size', maximum=4096),
  Key('data.part', 'all', 'part of the training images that is used', choices=('all', 'first half', 'second half')),
  Key('data.fraction', 1.0, 'fraction of the training images that is used', above=0, maximum=1),
  Key('data.crop_padding', 4, 'padding of random crops, in pixels; 0 turns random crops off'),
  Key('data.flip', True, 'mirrors each training image with probability ½'),
  Key(
    'data.class_weights', 'none', 'weights of the classes in the losses (balanced: the classes count the same, however '
    'many images they have)', choices=('none', 'balanced'),
  ),
  Key('data.cutout', 0, 'side of the square that cutout sets to zero, in pixels; 0 turns cutout off'),
)  # fmt: skip

WORKERS = Key('data.workers', 4, 'number of processes that read streamed images; 0 reads in the main process')
CROPS = (
  Key(
    'data.crop_scale', (0.08, 1.0), 'smallest and largest fraction of the area of random resized crops', above=0,
    maximum=1,
  ),
  Key(
    'data.color_jitter', (0.4, 0.4, 0.4, 0.2), 'strengths of the jitter of brightness, contrast, saturation and hue of '
    'resized crops', maximum=1,
  ),
  Key('data.resize', 256, 'shorter side of a test image before its central crop, in pixels'),
)  # fmt: skip

PARALLEL = (
  Key('parallel.data', 0, 'number of devices that share a batch, a divisor of its size; 0: automatic'),
  Key(
    'parallel.cpu_devices', 0, 'number of virtual CPU devices if there is no accelerator; 0: one, which uses all cores',
    maximum=128,
  ),
  Key(
    'parallel.cluster', 'auto', 'cluster that the process joins (auto: a cluster that JAX detects, such as a TPU pod, '
    'Slurm, Kubernetes or MPI; none: no cluster)', choices=('auto', 'none'),
  ),
  Key('parallel.coordinator', '', "address HOST:PORT of process 0 of a cluster that JAX does not detect; '': none"),
  Key('parallel.processes', 0, 'number of processes of a cluster that JAX does not detect'),
  Key('parallel.process', 0, 'index of this process (0 … processes − 1) in a cluster that JAX does not detect'),
)  # fmt: skip

RUN = (
  Key('checkpoint.every_steps', 0, 'number of steps between checkpoints within an epoch; 0: only after each epoch'),
  Key(
    'loggers',
    (),
    'names of loggers: tensorboard, wandb, mlflow, and those that a config file registers in bd.LOGGERS',
    items=str,
  ),
  Key(
    'profile',
    '',
    "steps that are traced for Perfetto: START:STOP means START to STOP − 1, counted from 0; '' traces none",
  ),
)
