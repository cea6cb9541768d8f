"""The compiled programs of a retraining: an epoch is a loop of training steps, and the moving average is evaluated."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from beta_darts_jax.config import default_retrain
from beta_darts_jax.config.check import check
from beta_darts_jax.data import Augmentation, Dataset, streaming
from beta_darts_jax.data.batching import epoch_order
from beta_darts_jax.data.lazy import as_lazy
from beta_darts_jax.method.losses import cross_entropy
from beta_darts_jax.retrain.programs import ResidentPrograms, StreamedPrograms
from beta_darts_jax.retrain.recipe import Recipe
from beta_darts_jax.retrain.run import compile_programs
from beta_darts_jax.retrain.setup import make_retrain_setup
from beta_darts_jax.retrain.step import make_train_step
from beta_darts_jax.runtime.devices import make_mesh, replicate
from beta_darts_jax.spaces.published import PUBLISHED


class ScaledLogits:
  """A network whose logits are linear in the image. The drop-path rate r scales them by 1 − r."""

  def init(self, key, images):
    return {'params': {'w': 0.1 * jax.random.normal(key, (images[0].size, 4))}, 'batch_stats': {}}

  def apply(self, variables, images, rate=0.0, *, train, mutable=None, rngs=None):
    logits = (1 - rate) * images.reshape(len(images), -1) @ variables['params']['w']
    return (logits, {'batch_stats': {}}) if mutable else logits


def random_part(seed, count):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, 8, 8, 3), np.uint8), np.arange(count, dtype=np.int32) % 4


BATCH_SIZE, STEPS_PER_EPOCH = 8, 4
DATASET = Dataset('random', random_part(0, 32), random_part(1, 20), 4, (0.5,) * 3, (0.25,) * 3)
AUGMENTATION = Augmentation(DATASET.mean, DATASET.std, crop_padding=1)
RECIPE = Recipe(
  epochs=4, batch_size=BATCH_SIZE, learning_rate=0.1, schedule='cosine_steps', drop_path_rate=0.4, ema_decay=0.5
)
SEED, EPOCH = 5, 3
FIRST_STEP = EPOCH * STEPS_PER_EPOCH
OPTIONS = {'recipe': RECIPE, 'seed': SEED, 'auxiliary_weight': 0.0}


def make_resident():
  return ResidentPrograms(ScaledLogits(), DATASET, augmentation=AUGMENTATION, mesh=make_mesh(8), **OPTIONS)


def resident_batches():
  """The augmented batches of the epoch. The keys of the augmentation depend on the seed and the step."""
  images, labels = DATASET.train
  for step, rows in enumerate(np.asarray(epoch_order(SEED, EPOCH, len(labels), BATCH_SIZE)), FIRST_STEP):
    key = jax.random.fold_in(jax.random.key(SEED), step)
    yield AUGMENTATION(key, images[rows]), labels[rows]


def make_streamed():
  train, test = ((as_lazy(images), labels) for images, labels in (DATASET.train, DATASET.test))
  dataset = dataclasses.replace(DATASET, train=train, test=test)
  return StreamedPrograms(ScaledLogits(), dataset, mesh=make_mesh(8), workers=0, **OPTIONS)


def streamed_batches():
  images, labels = DATASET.train
  batches = streaming.train_batches((as_lazy(images), labels), SEED, BATCH_SIZE, FIRST_STEP, 0, np.arange(BATCH_SIZE))
  for images, labels in itertools.islice(batches, STEPS_PER_EPOCH):
    yield DATASET.normalize(images), labels


@pytest.mark.parametrize('make, batches', [(make_resident, resident_batches), (make_streamed, streamed_batches)])
def test_the_last_epoch_is_a_loop_of_steps_and_the_moving_average_is_evaluated(make, batches):
  programs, step = make(), jax.jit(make_train_step(ScaledLogits(), RECIPE))
  start = programs.initial_state().replace(step=replicate(np.int32(FIRST_STEP), make_mesh(8)))
  expected = jax.tree.map(jnp.copy, start)  # `train` donates its state
  for (images, labels), rate in zip(batches(), RECIPE.learning_rates(EPOCH, STEPS_PER_EPOCH), strict=True):
    expected = step(expected, images, labels, rate, RECIPE.drop_path_rate_in(EPOCH))
  trained = programs.train(start, EPOCH, FIRST_STEP + STEPS_PER_EPOCH)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), trained, expected)

  images, labels = DATASET.test
  logits = ScaledLogits().apply(expected.average, DATASET.normalize(images), train=False)
  loss, top_1, _ = programs.evaluate(trained)
  np.testing.assert_allclose(loss, cross_entropy(logits, labels), rtol=1e-5)
  np.testing.assert_allclose(top_1, np.mean(np.argmax(logits, -1) == labels), rtol=1e-6)


def test_a_training_on_half_of_the_images_has_half_of_the_steps():
  config = default_retrain()
  config.update_from_flattened_dict(
    {'data.fraction': 0.5, 'data.cutout': 0, 'train.batch_size': BATCH_SIZE, 'network.auxiliary_weight': 0.0}
  )
  setup = make_retrain_setup(check(config), PUBLISHED['DARTS_V2'], DATASET)
  programs = compile_programs(dataclasses.replace(setup, network=ScaledLogits()), DATASET)
  assert programs.steps_per_epoch == setup.session.steps_per_epoch == STEPS_PER_EPOCH // 2
