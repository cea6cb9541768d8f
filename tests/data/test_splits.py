"""Splits by class: every class gets its share in every part. CIFAR's halves follow the index."""

import numpy as np
import pytest

from beta_darts_jax import InputError
from beta_darts_jax.data import Dataset, from_arrays
from beta_darts_jax.data.splits import divide, draw_by_class, halve, hold_out


def made_of(*sizes):
  """Labels with `sizes[k]` images of class k, mixed."""
  return np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))


def dataset_of(*sizes):
  labels = made_of(*sizes)
  return from_arrays(np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8), labels)


def counts(labels, k):
  return np.bincount(labels, minlength=k).tolist()


@pytest.mark.parametrize(
  'sizes, train, test, halves',
  [
    ((96, 4), [77, 3], [19, 1], ([39, 1], [38, 2])),
    ((37, 3), [30, 2], [7, 1], ([15, 1], [15, 1])),
    ((5,) * 20, [4] * 20, [1] * 20, ([2] * 20, [2] * 20)),
    ((2,) * 5, [1] * 5, [1] * 5, ([1, 1, 0, 0, 0], [0, 0, 1, 1, 0])),  # one image of each class cannot be halved
    ((10, 1), [8, 1], [2, 0], ([3, 1], [4, 0])),  # a class of one image trains
  ],
)
def test_every_class_gets_its_share(sizes, train, test, halves):
  dataset = dataset_of(*sizes)
  assert (counts(dataset.train[1], len(sizes)), counts(dataset.test[1], len(sizes))) == (train, test)
  assert tuple(counts(labels, len(sizes)) for _, labels in dataset.search_splits()) == halves


def test_no_image_is_lost_or_used_twice():
  labels = made_of(31, 17, 4)
  test = hold_out(labels, 10)
  rest = np.setdiff1d(np.arange(len(labels)), test)
  first, second = (rest[half] for half in halve(labels[rest]))
  assert sorted([*test, *first, *second]) == list(range(52))


def test_a_share_of_shares():
  """The shares differ from the quotas by less than one, and every class keeps an image if there are enough."""
  sizes = np.array([1000, 500, 40, 3, 1])
  for count in (5, 77, 700, 1543, 1544):
    shares = divide(sizes, count, least=np.ones(5, int), most=sizes)
    assert shares.sum() == count and shares.min() >= 1 and (shares <= sizes).all()
    if count > 700:
      assert np.abs(shares - sizes * count / sizes.sum()).max() < 1
  assert divide(sizes, 3, least=np.ones(5, int), most=sizes).tolist() == [2, 1, 0, 0, 0]
  assert np.array_equal(draw_by_class(made_of(3, 2), 5), np.arange(5))


def test_fractions_are_drawn_by_class_too():
  dataset = dataset_of(100, 50)  # 80 and 40 train
  assert counts(dataset.subset(0.5).train[1], 2) == [40, 20]
  assert [counts(labels, 2) for labels in dataset.search_labels(0.5)] == [[20, 10], [20, 10]]
  assert [counts(labels, 2) for _, labels in dataset.half('first half').search_splits()] == [[20, 10], [20, 10]]


def test_a_published_order_is_split_by_index():
  images = np.zeros((10, 1, 1, 1), np.uint8)
  whole = Dataset('x', (images, np.arange(10)), (images, np.arange(10)), 10, (0.0,), (1.0,), in_order=True)
  assert [labels.tolist() for labels in whole.search_labels()] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
  assert [labels.tolist() for labels in whole.search_labels(0.4)] == [[0, 1], [5, 6]]


def test_one_image_of_each_class_cannot_be_held_out():
  with pytest.raises(InputError, match='each class has one image'):
    from_arrays(np.zeros((3, 2, 2), np.uint8), np.arange(3))
