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
from jax.sharding import PartitionSpec

from beta_darts_jax.data import Dataset
from beta_darts_jax.data.batching import distinct_indices, epoch_order
from beta_darts_jax.method.bilevel import make_step
from beta_darts_jax.method.diagnostics import make_diagnose, make_one_shot
from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.oles import restart
from beta_darts_jax.method.optimizers import Hyperparameters
from beta_darts_jax.method.state import SearchState
from beta_darts_jax.runtime.devices import (
  compile_together,
  map_members,
  named_sharding,
  replicate,
  shard,
  shard_population,
)
from beta_darts_jax.runtime.session import make_inspect
from beta_darts_jax.search.setup import SearchSetup

EVALUATION_BATCH = 250  # images


def _split_over_data(index):
  """Splits the indices of a batch over 'data', inside a program that is already split over 'population'."""
  return lax.with_sharding_constraint(index, PartitionSpec('data'))


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


def make_train(step: Callable, setup: SearchSetup) -> Callable:
  """Builds `train(states, orders, hypers, halves, stop)` → states: bilevel steps of every member up to step `stop`.

  `states`, `orders` and `hypers` have the leading axis M. `orders` [M, steps, B] are the indices of the epoch into the
  first of `halves`, the (images, labels) for the weights and for α. At every step α's batch is drawn from the second
  half. A single search ends early, after the step, when a loss is not finite.

  Args:
    step: from make_step.
    setup: of the search.
  """

  def make_batch(half, index, key):
    images, labels = half
    index = _split_over_data(index)
    return setup.augmentation(key, images[index]), labels[index]

  def take_step(member, halves):
    state, order, hyper = member
    weights_half, alpha_half = halves
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    draw_key, train_key, valid_key = jax.random.split(key, 3)
    valid_index = distinct_indices(draw_key, len(alpha_half[1]), setup.batch_size)
    train_batch = make_batch(weights_half, order[state.step % setup.session.steps_per_epoch], train_key)
    valid_batch = make_batch(alpha_half, valid_index, valid_key)
    return step(state, train_batch, valid_batch, hyper)[0]

  step_all = map_members(take_step, setup.strategy)

  def train(states, orders, hypers, halves, stop):
    is_single = len(states.step) == 1

    def train_members(members, shared):
      states, orders, hypers = members
      halves, stop = shared

      def proceed(states):
        finite = jnp.isfinite(states.sums['train_loss'][0]) & jnp.isfinite(states.sums['alpha_loss'][0])
        return (states.step[0] < stop) & (finite if is_single else True)

      def take_steps(states):
        return step_all((states, orders, hypers), halves)

      return lax.while_loop(proceed, take_steps, states)

    return shard_population(train_members, setup.mesh)((states, orders, hypers), (halves, stop))

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
  evaluate = make_evaluate(supernet_logits, prepare, batch_size, _split_over_data)

  def evaluate_member(member, images_and_labels):
    return evaluate(member, *images_and_labels)

  return shard_population(map_members(evaluate_member, setup.strategy), setup.mesh)


class SearchPrograms:
  """What a search computes on the devices; the methods take and return states [M].

  Attributes:
    compile_seconds: the time that tracing and compiling took.
  """

  def __init__(self, setup: SearchSetup, dataset: Dataset):
    self._setup = setup
    self._replicate = functools.partial(replicate, mesh=setup.mesh)
    self._shard = functools.partial(shard, mesh=setup.mesh, axis='population')
    halves = dataset.search_splits(setup.fraction)
    self._num_images = len(halves[0][1])
    self._halves = self._replicate(halves)
    # a part of α's half is drawn, because the images of a folder are in the order of their classes
    self._order = None if dataset.in_order else np.random.default_rng(0).permutation(len(halves[1][1]))
    self._evaluated = self._replicate(self._sample(halves[1], setup.evaluation_images))
    self._epoch_arguments = functools.lru_cache(maxsize=1)(self._place_epoch_arguments)
    seeds = np.array([member.seed for member in setup.members], np.uint32)
    image = np.zeros((1, *dataset.image_shape), np.float32)
    self._initial_arguments = self._shard(seeds), self._replicate(image)
    started = time.perf_counter()
    self._compile(dataset.normalize)
    self.compile_seconds = time.perf_counter() - started
    self._jit_on_demand(dataset.normalize)

  def _compile(self, normalize):
    """Compiles what every search runs."""
    setup = self._setup
    split, whole = named_sharding(setup.mesh, 'population'), named_sharding(setup.mesh)
    initial_states = map_members(make_initial_state(setup), 'map')
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split),
      jax.eval_shape(initial_states, *self._initial_arguments),
    )
    train = make_train(make_step(setup.supernet, setup.parts), setup)
    evaluate = make_evaluate_members(setup, normalize, len(self._evaluated[1]))
    orders, hypers = self._epoch_arguments(0)
    self._train, self._evaluate, self._initial_states = compile_together(
      jax.jit(train, donate_argnums=0, out_shardings=split).lower(
        shapes, orders, hypers, self._halves, self._replicate(np.int32(0))
      ),
      jax.jit(evaluate, out_shardings=whole).lower((shapes, hypers), self._evaluated),
      jax.jit(initial_states, out_shardings=split).lower(*self._initial_arguments),
    )

  def _jit_on_demand(self, normalize):
    """Prepares what is compiled when it is first called."""
    setup, relaxation = self._setup, self._setup.parts.relaxation
    split, whole = named_sharding(setup.mesh, 'population'), named_sharding(setup.mesh)

    def set_betas(states, member, betas, decided):
      alphas = relaxation.with_decided(take_member(states.alphas, member), betas, decided)
      return states.replace(alphas=jax.tree.map(lambda all, one: all.at[member].set(one), states.alphas, alphas))

    def reset_weight_optimizer(states):
      start = functools.partial(restart, setup.parts.weight_optimizer(Hyperparameters()).init)
      return states.replace(weight_optimizer_state=jax.vmap(start)(states.weight_optimizer_state, states.params))

    def augmented(images):
      key = jax.random.fold_in(jax.random.key(0), jnp.sum(images, dtype=jnp.uint32))  # a key for each batch
      return setup.augmentation(key, images)

    def take_member(tree, member):
      return jax.tree.map(lambda x: x[member], tree)

    def first_batches(halves):
      return [(normalize(images[: setup.batch_size]), labels[: setup.batch_size]) for images, labels in halves]

    quick = setup.supernet.clone(unroll=False)  # quick to compile
    self._set_betas = jax.jit(set_betas, out_shardings=split)
    self.reset_weight_optimizer = jax.jit(reset_weight_optimizer, out_shardings=split)
    self._take_member = jax.jit(take_member, out_shardings=whole)
    self._first_batches = jax.jit(first_batches)
    self._mean_betas = jax.jit(jax.vmap(relaxation.mean), out_shardings=whole)
    self._strengths = jax.jit(jax.vmap(relaxation.strengths), out_shardings=whole)
    whole_edges = quick.clone(single_path=False)
    self._one_shot = {
      augment: make_one_shot(whole_edges, prepare) for augment, prepare in ((False, normalize), (True, augmented))
    }
    self._diagnose = make_diagnose(quick, setup.parts)
    self._inspect = make_inspect(setup.mesh)

  def _place_hypers(self, epoch, **changes):
    """Hyperparameters of an epoch, [M] float32 on the devices, with some of them changed."""
    setup = self._setup
    hypers = [setup.hyperparameters(member, epoch).replace(**changes) for member in setup.members]
    return self._shard(jax.tree.map(lambda *values: np.array(values, np.float32), *hypers))

  def _place_epoch_arguments(self, epoch):
    setup = self._setup
    orders = [epoch_order(member.seed, epoch, self._num_images, setup.batch_size) for member in setup.members]
    return self._shard(np.stack(jax.device_get(orders))), self._place_hypers(epoch)

  # ---- training ----

  def initial_states(self) -> SearchState:
    """Returns the states at step 0."""
    return self._initial_states(*self._initial_arguments)

  def train(self, states: SearchState, epoch: int, until: int) -> SearchState:
    """Returns the states at step `until`; a single search stops at the first step with a non-finite loss.

    `states` are donated: they cannot be used afterwards.
    """
    return self._train(states, *self._epoch_arguments(epoch), self._halves, self._replicate(np.int32(until)))

  def tune(self, states: SearchState, epoch: int, member: int, betas, decided, until: int) -> tuple[SearchState, bool]:
    """Sets α of one member's decided edges so that their mean β is proportional to `betas`; then trains for DARTS-PT.

    The weights are trained, and α if selection.train_alpha. The other members are trained, too. `states` are donated.

    Args:
      states: of all members.
      epoch: number that determines the order of the images.
      member: index.
      betas: {cell type: [E, O]}.
      decided: {cell type: bool [E]}.
      until: step.

    Returns:
      (states, whether the state of the member is finite).
    """
    setup = self._setup
    orders, _ = self._epoch_arguments(epoch)
    fixed = {} if setup.selection.train_alpha else {'alpha_learning_rate': 0.0}
    last_epoch = min(setup.session.epochs, setup.schedule.alpha_epochs[1]) - 1  # the last one in which α moves
    hypers = self._place_hypers(last_epoch, learning_rate=setup.selection.learning_rate, **fixed)
    arguments = map(self._replicate, (np.int32(member), betas, decided))
    states = self._set_betas(states, *arguments)
    states = self._train(states, orders, hypers, self._halves, self._replicate(np.int32(until)))
    return states, bool(self._inspect(states).finite[member])

  # ---- evaluation ----

  def evaluate(self, states: SearchState, epoch: int):
    """Returns (loss in nats, top-1, top-5 accuracy 0 … 1), [M] each, of the supernets on images of α's half."""
    _, hypers = self._epoch_arguments(epoch)
    return jax.device_get(self._evaluate((states, hypers), self._evaluated))

  def mean_betas(self, states: SearchState) -> dict[str, np.ndarray]:
    """Returns the mean of β on the host, {cell type: [M, E, O]}."""
    return jax.device_get(self._mean_betas(states.architecture))

  def strengths(self, states: SearchState) -> dict[str, np.ndarray]:
    """Returns the weights from which cells are derived on the host, {cell type: [M, E, O]}."""
    is_mean = self._setup.parts.relaxation.strength == 'mean'  # then both are one program
    return self.mean_betas(states) if is_mean else jax.device_get(self._strengths(states.architecture))

  def one_shot(
    self, states: SearchState, member: int, betas: list[dict], count: int, epoch: int | None = None, augment=False
  ):
    """Returns the accuracies [n] of a member's weights under each of n given β, on `count` images of α's half.

    If `count` is 0, all images of the half are used. `augment` augments them, in the same way for each β. With `epoch`,
    the auxiliary skip connections of DARTS- have the weight of that epoch; without, they are left out.
    """
    setup = self._setup
    images, labels = self._sample(self._halves[1], count)
    if epoch is not None:
      hyper = jax.tree.map(np.float32, setup.hyperparameters(setup.members[member], epoch))
      betas = [setup.parts.relaxation.with_skip(beta, hyper) for beta in betas]
    state = self._take_member(states, self._replicate(np.int32(member)))
    return self._one_shot[augment](state.variables, betas, images, labels)

  def _sample(self, arrays, count: int):
    """Returns `count` images and labels of α's half, all if `count` is 0 or too large."""
    if not 0 < count < len(arrays[1]):
      return arrays
    return tuple(array[:count] if self._order is None else array[self._order[:count]] for array in arrays)

  def diagnose(self, states: SearchState, member: int, epoch: int) -> dict:
    """Returns the expensive diagnostics of a member, as from diagnostics.make_diagnose."""
    _, hypers = self._epoch_arguments(epoch)
    state, hyper = self._take_member((states, hypers), self._replicate(np.int32(member)))
    return self._diagnose(state, *self._first_batches(self._halves), hyper)
