"""The compiled programs of a search, with the data on the devices.

Legend: M members of a population; a single search is a population of one. The members share the data and the program.
What differs between them has a leading axis M, split over the mesh's axis 'population'.
"""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from beta_darts_jax.data import Dataset
from beta_darts_jax.data.batching import batch_keys
from beta_darts_jax.method.bilevel import make_step
from beta_darts_jax.method.diagnostics import make_diagnose, make_one_shot
from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.oles import restart
from beta_darts_jax.method.optimizers import Hyperparameters, Optimizer
from beta_darts_jax.method.relaxations import Relaxation
from beta_darts_jax.method.state import SearchState
from beta_darts_jax.runtime.devices import (
  compile_together,
  map_members,
  named_sharding,
  replicate,
  shard,
  shard_population,
)
from beta_darts_jax.runtime.logs import compiling
from beta_darts_jax.runtime.session import make_inspect
from beta_darts_jax.search.feeds import ResidentFeed, StreamedFeed, split_over_data, take_from_halves
from beta_darts_jax.search.setup import SearchSetup

EVALUATION_BATCH = 250  # images


def make_initial_state(setup: SearchSetup) -> Callable:
  """Builds `initial_state(seed, image)` → SearchState; `image` is a batch of one float image."""
  space, supernet, parts = setup.space, setup.supernet, setup.parts

  def initial_state(seed, image):
    weights_key, alphas_key = jax.random.split(jax.random.key(seed))
    alphas = space.init_alphas(alphas_key)
    edge_logits = parts.relaxation.init_edge_logits(jax.random.fold_in(alphas_key, 1), space)
    betas = parts.relaxation.evaluation_betas((alphas, edge_logits), Hyperparameters())
    variables = supernet.init(weights_key, image, betas)
    return SearchState.create(variables, alphas, seed, edge_logits, parts.weight_optimizer, parts.alpha_optimizer)

  return initial_state


def make_train(step: Callable, setup: SearchSetup, take: Callable | None = None) -> Callable:
  """Builds `train(states, orders, hypers, data, stop)` → states: bilevel steps of every member up to step `stop`.

  `states`, `orders` and `hypers` have the leading axis M. A single search ends early, after the step, when a loss is
  not finite.

  Args:
    step: from make_step.
    setup: the setup of the search.
    take: (state, order, data, key of α's draw) → the uint8 batches (images, labels) of a step for the weights and for
      α; None: `feeds.take_from_halves`.
  """
  take_batches = take or take_from_halves(setup)

  def take_step(member, data):
    state, order, hyper = member
    draw_key, *keys = batch_keys(state.seed, state.step)
    batches = take_batches(state, order, data, draw_key)
    train_batch, valid_batch = (
      (setup.augmentation(key, images), labels) for key, (images, labels) in zip(keys, batches, strict=True)
    )
    return step(state, train_batch, valid_batch, hyper)[0]

  step_all = map_members(take_step, setup.strategy)

  def train(states, orders, hypers, data, stop):
    is_single = len(states.step) == 1

    def train_members(members, shared):
      states, orders, hypers = members
      data, stop = shared

      def proceed(states):
        finite = jnp.isfinite(states.sums['train_loss'][0]) & jnp.isfinite(states.sums['alpha_loss'][0])
        return (states.step[0] < stop) & (finite if is_single else True)

      def take_steps(states):
        return step_all((states, orders, hypers), data)

      return lax.while_loop(proceed, take_steps, states)

    return shard_population(train_members, setup.mesh)((states, orders, hypers), (data, stop))

  return train


def make_evaluate_members(setup: SearchSetup, prepare: Callable, num_images: int) -> Callable:
  """Builds `evaluate((states, hypers), (images, labels))` → (loss, top-1, top-5 accuracy) [M] of the supernets."""
  relaxation = setup.parts.relaxation

  def supernet_logits(arguments, images):
    state, hyper = arguments
    betas = relaxation.evaluation_betas(state.architecture, hyper)
    return setup.supernet.apply(state.variables, images, betas, rngs={'draw': jax.random.key(state.seed)})

  devices = setup.mesh.shape['data']  # they share a batch of the evaluation, too
  batch_size = max(1, min(EVALUATION_BATCH, num_images) // devices) * devices
  evaluate = make_evaluate(supernet_logits, prepare, batch_size, split_over_data)

  def evaluate_member(member, images_and_labels):
    return evaluate(member, *images_and_labels)

  return shard_population(map_members(evaluate_member, setup.strategy), setup.mesh)


def take_member(tree, member):
  """Returns the arrays of one member from arrays [M, …]."""
  return jax.tree.map(lambda x: x[member], tree)


def make_set_betas(relaxation: Relaxation) -> Callable:
  """Builds `set_betas(states, member, betas, decided)` → states, as in `SearchPrograms.tune`."""

  def set_betas(states, member, betas, decided):
    alphas = relaxation.with_decided(take_member(states.alphas, member), betas, decided)
    return states.replace(alphas=jax.tree.map(lambda all, one: all.at[member].set(one), states.alphas, alphas))

  return set_betas


def make_reset_weight_optimizer(optimizer: Optimizer) -> Callable:
  """Builds `reset(states)` → states in which the optimizer of the weights starts again."""
  start = functools.partial(restart, optimizer(Hyperparameters()).init)

  def reset(states):
    return states.replace(weight_optimizer_state=jax.vmap(start)(states.weight_optimizer_state, states.params))

  return reset


class SearchPrograms:
  """What a search computes on the devices; the methods take and return states [M].

  Attributes:
    state_shapes: the shapes, dtypes and shardings of the states.
    compile_seconds: the time that tracing and compiling took; 0 before `compile`.
  """

  def __init__(self, setup: SearchSetup, dataset: Dataset):
    self._setup = setup
    self._replicate = functools.partial(replicate, mesh=setup.mesh)
    self._shard = functools.partial(shard, mesh=setup.mesh, axis='population')
    self._feed = StreamedFeed(setup, dataset) if dataset.streamed else ResidentFeed(setup, dataset)
    self._evaluated = self._replicate(self._feed.sample(setup.evaluation_images))
    self._hypers = functools.lru_cache(maxsize=1)(self._place_hypers)
    seeds = np.array([member.seed for member in setup.members], np.uint32)
    image = np.zeros((1, *dataset.image_shape), np.float32)
    self._initial_arguments = self._shard(seeds), self._replicate(image)
    self._make_initial_states = map_members(make_initial_state(setup), 'map')
    self.state_shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=named_sharding(setup.mesh, 'population')),
      jax.eval_shape(self._make_initial_states, *self._initial_arguments),
    )
    self._prepare = dataset.normalize
    self.compile_seconds = 0.0
    self._jit_on_demand(dataset.normalize)

  def compile(self) -> None:
    """Compiles what every epoch runs, once. A search that resumes after its last step does not need it."""
    if self.compile_seconds:
      return
    started = time.perf_counter()
    setup, shapes = self._setup, self.state_shapes
    split, whole = named_sharding(setup.mesh, 'population'), named_sharding(setup.mesh)
    train = make_train(make_step(setup.supernet, setup.parts), setup, self._feed.take)
    evaluate = make_evaluate_members(setup, self._prepare, len(self._evaluated[1]))
    hypers, block = self._hypers(0), self._feed.example()
    inputs = shapes, block.orders, hypers, block.data, block.stop
    with compiling():
      self._train, self._evaluate, self._initial_states = compile_together(
        setup.mesh,
        jax.jit(train, donate_argnums=0, out_shardings=split).lower(*inputs),
        jax.jit(evaluate, out_shardings=whole).lower((shapes, hypers), self._evaluated),
        jax.jit(self._make_initial_states, out_shardings=split).lower(*self._initial_arguments),
      )
    self.compile_seconds = time.perf_counter() - started

  def _jit_on_demand(self, normalize):
    """Prepares what is compiled when it is first called."""
    setup, relaxation = self._setup, self._setup.parts.relaxation
    split, whole = named_sharding(setup.mesh, 'population'), named_sharding(setup.mesh)

    def augmented(images):
      key = jax.random.fold_in(jax.random.key(0), jnp.sum(images, dtype=jnp.uint32))  # a key for each batch
      return setup.augmentation(key, images)

    quick = setup.supernet.clone(unroll=False)  # quick to compile
    self._set_betas = jax.jit(make_set_betas(relaxation), out_shardings=split)
    reset = make_reset_weight_optimizer(setup.parts.weight_optimizer)
    self._reset_weight_optimizer = jax.jit(reset, out_shardings=split)
    self._take_member = jax.jit(take_member, out_shardings=whole)
    self._normalize = jax.jit(normalize)
    self._mean_betas = jax.jit(jax.vmap(relaxation.mean), out_shardings=whole)
    self._mean_of_operations = jax.jit(jax.vmap(relaxation.sampling.mean), out_shardings=whole)
    self._strengths = jax.jit(jax.vmap(relaxation.strengths), out_shardings=whole)
    whole_edges = quick.clone(single_path=False)
    self._one_shot = make_one_shot(whole_edges, normalize)
    self._one_shot_augmented = make_one_shot(whole_edges, augmented)
    self._diagnose = make_diagnose(quick, setup.parts)
    self._inspect = make_inspect(setup.mesh)

  def _place_hypers(self, epoch, **changes):
    """Hyperparameters of an epoch, [M] float32 on the devices, with some of them changed."""
    setup = self._setup
    hypers = [setup.hyperparameters(member, epoch).replace(**changes) for member in setup.members]
    return self._shard(jax.tree.map(lambda *values: np.array(values, np.float32), *hypers))

  # ---- training ----

  def initial_states(self) -> SearchState:
    """Returns the states at step 0."""
    self.compile()
    return self._initial_states(*self._initial_arguments)

  def train(self, states: SearchState, epoch: int, until: int) -> SearchState:
    """Returns the states at step `until`; a single search stops at the first step with a non-finite loss.

    `states` are donated: they cannot be used afterwards.
    """
    return self._advance(states, epoch, self._hypers(epoch), until)

  def _advance(self, states, epoch, hypers, until):
    self.compile()
    for block in self._feed.blocks(states, epoch, until):
      jax.block_until_ready(states)  # at most the block of this call and the next one are on the devices
      states = self._train(states, block.orders, hypers, block.data, block.stop)
    return states

  def tune(self, states: SearchState, epoch: int, member: int, betas, decided, until: int) -> tuple[SearchState, bool]:
    """Sets α of one member's decided edges so that their mean β is proportional to `betas`; then trains for DARTS-PT.

    The weights are trained, and α if selection.train_alpha. The other members are trained, too. `states` are donated.

    Args:
      states: the states of all members.
      epoch: number that determines the order of the images.
      member: index.
      betas: {cell type: [E, O]}.
      decided: {cell type: bool [E]}.
      until: step.

    Returns:
      (states, whether the state of the member is finite).
    """
    setup = self._setup
    fixed = {} if setup.selection.train_alpha else {'alpha_learning_rate': 0.0}
    last_epoch = min(setup.session.epochs, setup.schedule.alpha_epochs[1]) - 1  # the last one in which α moves
    hypers = self._place_hypers(last_epoch, learning_rate=setup.selection.learning_rate, **fixed)
    arguments = map(self._replicate, (np.int32(member), betas, decided))
    states = self._advance(self._set_betas(states, *arguments), epoch, hypers, until)
    return states, bool(self._inspect(states).finite[member])

  def reset_weight_optimizer(self, states: SearchState) -> SearchState:
    """Returns the states with the optimizer of the weights at its start. Operations that OLES stopped stay stopped."""
    return self._reset_weight_optimizer(states)

  # ---- evaluation ----

  def evaluate(self, states: SearchState, epoch: int):
    """Returns (loss in nats, top-1, top-5 accuracy 0 … 1), [M] each, of the supernets on images of α's half."""
    return jax.device_get(self._evaluate((states, self._hypers(epoch)), self._evaluated))

  def mean_betas(self, states: SearchState) -> dict[str, np.ndarray]:
    """Returns the mean of β on the host, {cell type: [M, E, O]}."""
    return jax.device_get(self._mean_betas(states.architecture))

  def mean_of_operations(self, states: SearchState) -> dict[str, np.ndarray]:
    """Returns the mean of β without the weights of the edges on the host, {cell type: [M, E, O]}."""
    return jax.device_get(self._mean_of_operations(states.alphas))

  def strengths(self, states: SearchState) -> dict[str, np.ndarray]:
    """Returns the weights from which cells are derived on the host, {cell type: [M, E, O]}."""
    is_mean = self._setup.parts.relaxation.strength == 'mean'  # then both are one program
    return self.mean_betas(states) if is_mean else jax.device_get(self._strengths(states.architecture))

  def one_shot(
    self, states: SearchState, member: int, betas: list[dict], count: int, epoch: int | None = None, augment=False
  ):
    """Returns the accuracies [n] of a member's weights under each of n given β, on `count` images of α's half.

    If `count` is 0, all images of the half are used; a streamed search uses at most feeds.SAMPLE. `augment` augments
    them, in the same way for each β. With `epoch`, the auxiliary skip connections of DARTS- have the weight of that
    epoch; without, they are left out.
    """
    setup = self._setup
    images, labels = self._feed.sample(count)
    if epoch is not None:
      hyper = jax.tree.map(np.float32, setup.hyperparameters(setup.members[member], epoch))
      betas = [setup.parts.relaxation.with_skip(beta, hyper) for beta in betas]
    state = self._take_member(states, self._replicate(np.int32(member)))
    one_shot = self._one_shot_augmented if augment else self._one_shot
    return one_shot(state.variables, betas, images, labels)

  def diagnose(self, states: SearchState, member: int, epoch: int) -> dict:
    """Returns the expensive diagnostics of a member, as from diagnostics.make_diagnose."""
    state, hyper = self._take_member((states, self._hypers(epoch)), self._replicate(np.int32(member)))
    batches = [(self._normalize(images), labels) for images, labels in self._feed.fixed_batches()]
    return self._diagnose(state, *batches, hyper)
