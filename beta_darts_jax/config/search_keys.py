"""The keys of a search. Its defaults are the protocol of β-DARTS on NAS-Bench-201 with CIFAR-10.

`schema.py` adds two kinds of keys: the weights of the registered regularizers after
SEARCH, and for each key with varied=True a key of the group `population`.
"""

import dataclasses

from beta_darts_jax.config.key import ABOVE_0, Key
from beta_darts_jax.config.shared_keys import CROPS, DTYPES, RATE_SCHEDULES, WORKERS
from beta_darts_jax.method.hypergradients import HYPERGRADIENTS, SOLVERS
from beta_darts_jax.method.optimizers import OPTIMIZERS
from beta_darts_jax.method.parts import ORDERS
from beta_darts_jax.method.perturbations import PERTURBATIONS
from beta_darts_jax.method.regularizers import REGULARIZERS
from beta_darts_jax.method.relaxations import STRENGTHS
from beta_darts_jax.method.samplings import RELAXATIONS
from beta_darts_jax.spaces.space import SPACES

# values of other keys, for `only_with`
_LAYERS, _CELLS_PER_STAGE = (
  ('space.name', tuple(name for name, space in SPACES.items() if space.depth_field == depth))
  for depth in ('layers', 'cells_per_stage')
)
_FINITE_DIFFERENCE = ('hypergradient.method', ('finite_difference',))
_IMPLICIT = ('hypergradient.method', ('implicit',))
_GUMBEL = ('relaxation.sampling', ('gumbel', 'soft_gumbel'))
_ONE_HOT = ('relaxation.sampling', ('gumbel',))
_PERTURBED = ('relaxation.perturbation', ('random', 'adversarial'))
_DARTS_PT = ('derivation.method', ('perturbation',))
_RETRAINED = ('retrain.epochs', ABOVE_0)
_DIAGNOSED = ('diagnostics.every_epochs', ABOVE_0)
_COST = ('search.regularizers', ('cost',))

NAME = (
  Key('task', 'search', 'kind of the run; a retraining has other keys', choices=('search',)),
  Key('name', 'nas_bench_201', 'name of the run; the default folder is runs/NAME-DATASET-SEED'),
)

SEARCH_DATA = (
  Key(
    'data.alpha_split', 'half', 'images that train α (half: half of the training images; valid: the validation set of '
    'the source, and all training images train the weights)', choices=('half', 'valid'),
  ),
  Key(
    'data.alpha_fraction', 0.0, 'fraction of the training images that trains α; then data.fraction of the training '
    'images trains the weights; 0: data.fraction of each half', below=1, only_with=('data.alpha_split', ('half',)),
  ),
  Key(
    'data.residence', 'auto', 'where the images are during the search (device: on every device; stream: batches come '
    'from the disk; auto: stream if the pixels need more than a quarter of the memory of a device)',
    choices=('auto', 'device', 'stream'),
  ),
  Key(
    'data.crops', 'padded', 'random crops of training images (padded: of images of one size, on the devices; resized: '
    'random boxes of pictures of any size, which always stream, as on ImageNet)', choices=('padded', 'resized'),
  ),
  WORKERS,
  *(dataclasses.replace(key, only_with=('data.crops', ('resized',))) for key in CROPS),
)  # fmt: skip

SPACE = (
  Key('space.name', 'nas_bench_201', 'search space', choices=SPACES),
  Key(
    'space.nodes', 0, 'number of intermediate nodes of a cell, or of layers of a stage (mobile); 0 keeps that of the '
    'space', maximum=32,
  ),
  Key(
    'space.operations', (), 'candidate operations of every edge, at least two; () keeps those of the space', items=str
  ),
  Key('space.auxiliary_skip', False, 'adds a skip connection to every edge of the supernet and of the found network'),
  Key(
    'supernet.channels', 16, 'number of channels C of the first cells; mobile: 16 gives the widths of MobileNetV2 1.0',
    above=0, maximum=4096,
  ),
  Key(
    'supernet.cells_per_stage', 5, 'number of cells N per stage', above=0, maximum=256, only_with=_CELLS_PER_STAGE
  ),
  Key('supernet.layers', 8, 'number of cells', above=0, maximum=256, only_with=_LAYERS),
  Key(
    'supernet.stem', 'cifar', 'first layers of the network (cifar: one convolution; imagenet: three of stride 2)',
    choices=('cifar', 'imagenet'), only_with=_LAYERS,
  ),
  Key(
    'supernet.unroll', True, 'compiles every cell and edge separately; False compiles in less than half the time, but '
    'then a step takes twice as long on a CPU',
  ),
  Key('supernet.dtype', 'float32', 'number format of the computation', choices=DTYPES),
)  # fmt: skip

SEARCH = (
  Key('search.seed', 0, 'seed of the weights, of α and of the order of the images', maximum=2**32 - 1),
  Key('search.epochs', 100, 'number of epochs over the images that train the weights', above=0),
  Key(
    'search.last_epoch', 0, 'number of epochs after which the search ends; all schedules stay those of search.epochs; '
    '0: search.epochs',
  ),
  Key(
    'search.batch_size', 0, 'number of images in a batch, for the weights and for α; 0: 64, or a quarter of the '
    'smaller half of the images if that is less',
  ),
  Key(
    'search.learning_rate', 0.025, 'initial learning rate of the weights (cosine schedule, one value per epoch)',
    varied=True,
  ),
  Key('search.learning_rate_min', 0.001, 'final learning rate of the weights (cosine schedule)', varied=True),
  Key('search.warmup_epochs', 0, 'number of first epochs in which the learning rate of the weights grows linearly'),
  Key('search.momentum', 0.9, 'momentum of the weights', varied=True),
  Key('search.weight_decay', 3e-4, 'weight decay of the weights, added to their gradient', varied=True),
  Key('search.clip_norm', 5.0, 'norm to which a longer gradient of the weights is clipped', above=0, varied=True),
  Key(
    'search.weight_optimizer', 'weight_sgd', 'optimizer of the weights; those named alpha_… are refused',
    choices=OPTIMIZERS,
  ),
  Key('search.alpha_learning_rate', 3e-4, 'learning rate of α', varied=True),
  Key('search.alpha_betas', (0.5, 0.999), "decay rates of Adam's first and second moment for α", below=1),
  Key(
    'search.alpha_weight_decay', 1e-3, 'weight decay of α, added to its gradient; the same in all epochs', varied=True
  ),
  Key('search.alpha_optimizer', 'alpha_adam', 'optimizer of α; those named weight_… are refused', choices=OPTIMIZERS),
  Key('search.alpha_warmup_epochs', 0, 'number of first epochs in which α is not trained'),
  Key('search.alpha_epochs', 0, 'number of epochs after which α no longer changes; 0: all epochs train α'),
  Key(
    'search.regularizers', ('beta_decay',), 'regularizers of α and of the weights; their forces are added '
    '(docs/methods.md)',
    choices=REGULARIZERS, items=str,
  ),
  Key(
    'search.order', 'alpha_first', 'what a step updates first, α or the weights (weights_first: GDAS, ProxylessNAS, '
    'and Λ-DARTS on NAS-Bench-201)',
    choices=ORDERS,
  ),
)  # fmt: skip

SEARCH_LOOP = (
  Key(
    'search.flood_level', 0.0, 'level b of flooding, in nats: the weights minimize abs(L − b) + b for their loss L '
    '(β-DARTS++); 0 turns flooding off', varied=True,
  ),
  Key(
    'search.evaluation_images', 0, 'number of images, of those that train α, in the validation after an epoch; 0: all'
  ),
  Key(
    'search.steps_per_dispatch', 20, 'number of steps in one call of the compiled program; signals and the loss are '
    'checked between calls', above=0,
  ),
)  # fmt: skip

METHOD = (
  Key(
    'cost.unit', 'multiply_adds', 'what the operations cost in the regularizer cost: multiply_adds, parameters, or the '
    'JSON file of their latencies that benchmarks/latency.py writes', only_with=_COST,
  ),
  Key(
    'cost.target', 0.0, 'expected cost of the cells, in the unit of the costs, below which the regularizer cost has no '
    'force; 0: no target', only_with=_COST,
  ),
  Key(
    'hypergradient.method', 'first_order', 'approximation of the gradient of the validation loss in α',
    choices=HYPERGRADIENTS,
  ),
  Key(
    'hypergradient.distance', 0.01, 'distance between w and the two points of the finite difference', above=0,
    only_with=_FINITE_DIFFERENCE, varied=True,
  ),
  Key(
    'hypergradient.solver', 'neumann', 'solver that applies the inverse Hessian (neumann: Neumann series, cg: '
    'conjugate gradients)', choices=SOLVERS, only_with=_IMPLICIT,
  ),
  Key(
    'hypergradient.terms', 10, 'number of products with the Hessian in the solver', above=0, only_with=_IMPLICIT
  ),
  Key(
    'hypergradient.rate', 0.01, 'step size of the Neumann series', above=0,
    only_with=('hypergradient.solver', ('neumann',)), varied=True,
  ),
  Key(
    'hypergradient.damping', 0.0, 'multiple of the identity that is added to the Hessian', only_with=_IMPLICIT,
    varied=True,
  ),
  Key(
    'relaxation.sampling', 'softmax', 'how β is computed from α (softmax: DARTS, gumbel: GDAS, two_paths: '
    'ProxylessNAS, soft_gumbel: SNAS, pathwise_dirichlet: DrNAS, dirichlet: DrNAS with gamma variables, sigmoid: '
    'FairDARTS)',
    choices=RELAXATIONS,
  ),
  Key(
    'relaxation.temperature', 10.0, 'temperature of the Gumbel softmax in the first epoch; it falls linearly',
    above=0, only_with=_GUMBEL, varied=True,
  ),
  Key(
    'relaxation.temperature_min', 0.1, 'temperature of the Gumbel softmax in the last epoch', above=0,
    only_with=_GUMBEL, varied=True,
  ),
  Key(
    'relaxation.undrawn_gradient', False, 'also gives a gradient to the operations that were not drawn, as the '
    'official GDAS does on NAS-Bench-201', only_with=_ONE_HOT,
  ),
  Key(
    'relaxation.perturbation', 'none', 'perturbation of β in the weight step (random: SDARTS-RS, adversarial: '
    'SDARTS-ADV)', choices=PERTURBATIONS,
  ),
  Key(
    'relaxation.epsilon', 0.03, 'largest perturbation of β in the first epoch; it grows linearly',
    only_with=_PERTURBED, varied=True,
  ),
  Key(
    'relaxation.epsilon_max', 0.3, 'largest perturbation of β after the last epoch', only_with=_PERTURBED, varied=True,
  ),
  Key(
    'relaxation.partial_channels', 1, 'K of PC-DARTS: operations compute 1/K of the channels; 1: all channels', above=0
  ),
  Key('relaxation.edge_normalization', False, 'also learns a weight for each edge (PC-DARTS)'),
  Key(
    'relaxation.auxiliary_skip', False, 'adds a skip connection to every edge of the supernet, but not of the found '
    'network; its weight falls from 1 to 0 (DARTS-)',
  ),
  Key(
    'relaxation.strength', 'mean', 'what ranks operations and edges when a cell is derived (mean: the mean of β, '
    'softmax: softmax(α), as DrNAS does in the DARTS space)', choices=STRENGTHS,
    only_with=('derivation.method', ('argmax',)),
  ),
)  # fmt: skip

SELECTION = (
  Key(
    'early_stopping.eigenvalue_ratio', 0.0, 'the search stops when a/b is below this ratio; a and b are the means of '
    'the dominant eigenvalue of the Hessian of α over the previous and the last window (RobustDARTS: 0.75); 0 turns '
    'this rule off', below=1,
  ),
  Key(
    'early_stopping.eigenvalue_window', 5, 'number of epochs with diagnostics in one window of this rule', above=0,
    only_with=('early_stopping.eigenvalue_ratio', ABOVE_0),
  ),
  Key(
    'early_stopping.skips', 0, 'number of skip connections in the normal cell at which the search stops; 0 turns this '
    'rule off',
  ),
  Key(
    'derivation.epoch', 'last', 'epoch whose cell is kept (best: the highest validation accuracy)',
    choices=('last', 'best'),
  ),
  Key(
    'derivation.method', 'argmax', 'how the cell is derived from the supernet (perturbation: DARTS-PT)',
    choices=('argmax', 'perturbation'),
  ),
  Key(
    'derivation.tune_epochs', 1, 'number of epochs of training between two decisions of DARTS-PT',
    only_with=_DARTS_PT,
  ),
  Key(
    'derivation.learning_rate', 0.001, 'learning rate of the weights between two decisions of DARTS-PT',
    only_with=_DARTS_PT,
  ),
  Key(
    'derivation.train_alpha', False, 'also trains α between two decisions, as the official DARTS-PT does',
    only_with=_DARTS_PT,
  ),
  Key(
    'derivation.reset_optimizer', False, 'sets the momentum of the weights to 0 before the decisions, as the official '
    'DARTS-PT does', only_with=_DARTS_PT,
  ),
  Key(
    'derivation.images', 2000, 'number of images on which DARTS-PT measures an accuracy, from those that train α; '
    '0: all', only_with=_DARTS_PT,
  ),
  Key(
    'derivation.augment', False, 'augments these images, as the official DARTS-PT does', only_with=_DARTS_PT,
  ),
  Key(
    'diagnostics.every_epochs', 0, 'number of epochs from one diagnosis to the next (eigenvalues of the Hessian of '
    'α, change of β, discretization gap); 0 turns these diagnostics off',
  ),
  Key(
    'diagnostics.images', 2000, 'number of images on which the discretization gap is measured, from those that train α',
    above=0, only_with=_DIAGNOSED,
  ),
  Key('diagnostics.kendall_cells', 0, "number of cells for Kendall's τ in each diagnosis; 0 turns it off"),
  Key(
    'benchmark.table', '', "CSV file of the NAS-Bench-201 table; '' reads $NAS_BENCH_201_TABLE",
    only_with=('space.name', ('nas_bench_201',)),
  ),
  Key(
    'benchmark.kendall_cells', 0, "number of cells for Kendall's τ between one-shot accuracies and the table after the "
    'search; 0 turns it off',
  ),
  Key('benchmark.kendall_images', 2000, "number of images for each one-shot accuracy of Kendall's τ", above=0),
)  # fmt: skip

COMPARISON = (
  Key(
    'retrain.epochs', 0, 'number of epochs of the retraining of the found cell after the search, on all training '
    'images; 0: no retraining',
  ),
  Key('retrain.random_cells', 3, 'number of random cells that are retrained for comparison', only_with=_RETRAINED),
  Key(
    'retrain.channels', 16, 'number of channels C of the first cells of the retrained network', above=0,
    only_with=_RETRAINED,
  ),
  Key(
    'retrain.cells_per_stage', 5, 'number of cells N per stage of the retrained network', above=0,
    only_with=_CELLS_PER_STAGE,
  ),
  Key('retrain.layers', 20, 'number of cells of the retrained network', above=0, only_with=_LAYERS),
  Key('retrain.batch_size', 256, 'number of images in a batch of the retraining', above=0, only_with=_RETRAINED),
  Key('retrain.learning_rate', 0.1, 'initial learning rate of the retraining', only_with=_RETRAINED),
  Key(
    'retrain.schedule', 'cosine_steps', 'schedule of the learning rate of the retraining', choices=RATE_SCHEDULES,
    only_with=_RETRAINED,
  ),
  Key('retrain.momentum', 0.9, 'momentum of the retraining', only_with=_RETRAINED),
  Key('retrain.nesterov', True, "uses Nesterov's form of momentum in the retraining", only_with=_RETRAINED),
  Key('retrain.weight_decay', 5e-4, 'weight decay of the retraining, added to the gradient', only_with=_RETRAINED),
  Key(
    'retrain.clip_norm', 0.0, 'norm to which a longer gradient of the retraining is clipped; 0 turns clipping off',
    only_with=_RETRAINED,
  ),
  Key(
    'retrain.drop_path_rate', 0.0, 'drop path rate of the retraining after the last epoch; it grows linearly from 0',
    below=1, only_with=_RETRAINED,
  ),
)  # fmt: skip

POPULATION = (
  Key(
    'population.seeds', 1, 'number of seeds that are searched at once: search.seed, search.seed + 1, …; a population '
    'has all combinations of its seeds and values', above=0, maximum=10_000,
  ),
)  # fmt: skip

SEARCH_PARALLEL = (
  Key(
    'parallel.population', 0, 'number of devices that share the members of a population, a divisor of the number of '
    'members; 0: automatic',
  ),
  Key(
    'parallel.strategy', 'map', 'how a device computes several members (map: one after another, vmap: together)',
    choices=('map', 'vmap'),
  ),
)  # fmt: skip
