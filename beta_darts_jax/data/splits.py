"""Which images belong to which part, by class. Each draw is a function of the labels alone.

Legend: N images, K classes.
"""

import numpy as np

_SEED = 0


def draw_by_class(labels: np.ndarray, count: int) -> np.ndarray:
  """Draws `count` of N images so that each class gets its share, rounded up or down.

  A class gets one image or more if `count` allows one per class.

  Args:
    labels: int [N].
    count: 0 … N.

  Returns:
    Indices [count], ascending.
  """
  sizes = np.bincount(labels)
  return _draw(labels, divide(sizes, count, least=np.minimum(sizes, 1), most=sizes))


def hold_out(labels: np.ndarray, count: int) -> np.ndarray:
  """Draws a test set of `count` images by class; at least one image of each class remains.

  A class of two or more images gets one test image or more, even if the test set becomes larger than `count`.
  """
  sizes = np.bincount(labels)
  least, most = np.minimum(sizes // 2, 1), np.maximum(sizes - 1, 0)
  return _draw(labels, divide(sizes, min(max(count, least.sum()), most.sum()), least, most))


def halve(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Draws two halves by class: indices [N // 2] each, ascending, without a common image."""
  half = len(labels) // 2
  first = draw_by_class(labels, half)
  rest = np.setdiff1d(np.arange(len(labels)), first)
  return first, rest[draw_by_class(labels[rest], half)]


def divide(sizes: np.ndarray, count: int, least: np.ndarray, most: np.ndarray) -> np.ndarray:
  """Divides `count` among classes in proportion to their sizes [K], by the largest remainders.

  Args:
    sizes: number of images of each class.
    count: to be divided, at most the sum of `most`.
    least: smallest share of each class; it holds only if `count` suffices for all of them.
    most: largest share of each class.

  Returns:
    The shares [K], whose sum is `count`.
  """
  quotas = sizes * count / max(1, sizes.sum())
  least = least if least.sum() <= count else np.zeros_like(sizes)
  shares = np.clip(np.floor(quotas).astype(int), least, most)
  while missing := count - shares.sum():
    step = np.sign(missing)
    is_free = shares < most if step > 0 else shares > least
    shares[np.argmax(np.where(is_free, step * (quotas - shares), -np.inf))] += step
  return shares


def _draw(labels, shares) -> np.ndarray:
  """Draws `shares[k]` images of each class k."""
  order = np.random.default_rng(_SEED).permutation(len(labels))
  by_class = order[np.argsort(labels[order], kind='stable')]
  sizes = np.bincount(labels)
  rank_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
  return np.sort(by_class[rank_in_class < np.repeat(shares, sizes)])
