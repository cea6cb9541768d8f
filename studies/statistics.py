"""Tests between the arms of a study. Random draws start from a fixed seed, so a table is the same every time."""

import numpy as np
from scipy import stats


def centred_alphas(row: dict) -> np.ndarray:
  """Returns α of an epoch as a flat vector, with mean 0 on every edge: log β minus its mean over the operations."""
  alphas = [np.log(np.asarray(beta)) for beta in row['betas'].values()]
  return np.concatenate([(alpha - alpha.mean(axis=-1, keepdims=True)).ravel() for alpha in alphas])


def paired_p(differences: np.ndarray) -> float:
  """Returns the two-sided p of the sign-flip test of paired differences, [n].

  The test is exact for up to 20 pairs and has p ≥ 2/2ⁿ; for more pairs it draws 99,999 random signs.

  Example:
    >>> paired_p([1.2, 0.4, 0.9, 2.0, 0.7, 1.1])  # all six have one sign
    0.03125
  """
  if len(differences) == 1:
    return 1.0  # SciPy needs two
  count = np.inf if len(differences) <= 20 else 99_999
  test = stats.permutation_test(
    (differences,), np.mean, permutation_type='samples', n_resamples=count, batch=2**16, random_state=_generator()
  )
  return float(test.pvalue)


def energy_p(a: np.ndarray, b: np.ndarray, permutations: int = 9999) -> float:
  """Returns the p of the permutation test that two samples of vectors, [n, D] and [m, D], have one distribution.

  The statistic is the energy distance 2·E|X−Y| − E|X−X'| − E|Y−Y'| (Székely and Rizzo, 2013). Each entry is divided by
  its standard deviation over both samples, which no permutation changes. Constant entries are ignored.
  """
  both = np.concatenate(_without_constants(a, b))
  both = both / both.std(axis=0)
  distances = np.linalg.norm(both[:, None] - both[None], axis=-1)

  def statistic(x, y):  # indices
    between, within_x, within_y = (distances[np.ix_(*pair)].mean() for pair in ((x, y), (x, x), (y, y)))
    return 2 * between - within_x - within_y

  first, second = np.split(np.arange(len(both)), [len(a)])
  test = stats.permutation_test(
    (first, second), statistic, vectorized=False, n_resamples=permutations, alternative='greater',
    random_state=_generator(),
  )  # fmt: skip
  return float(test.pvalue)


def gap_of_means(a: np.ndarray, b: np.ndarray, draws: int = 9999) -> tuple[float, float]:
  """Returns (distance of the means of two samples of vectors, [n, D] and [m, D]; its upper 95 % bound).

  The distance is the root mean square over D of the difference of the means, in pooled standard deviations. The bound
  is the 95th percentile of a bootstrap within each sample. It is nearly exact for one entry and too high for many.
  Constant entries are ignored; (0, 0) if there are no others.
  """
  a, b = _without_constants(a, b)
  if not a.shape[1]:
    return 0.0, 0.0
  squares = sum(((x - x.mean(axis=0)) ** 2).sum(axis=0) for x in (a, b))
  std = np.sqrt(squares / (len(a) + len(b) - 2))

  def gap(x, y):  # indices
    return np.sqrt(np.mean(((a[x].mean(axis=0) - b[y].mean(axis=0)) / std) ** 2))

  indices = np.arange(len(a)), np.arange(len(b))
  bootstrap = stats.bootstrap(
    indices, gap, vectorized=False, n_resamples=draws, method='percentile', alternative='less',
    random_state=_generator(),
  )  # fmt: skip
  return float(gap(*indices)), float(bootstrap.confidence_interval.high)


def _without_constants(a, b):
  varies = np.ptp(np.concatenate([a, b]), axis=0) > 0
  return a[:, varies], b[:, varies]


def _generator():
  return np.random.default_rng(0)  # the same draws every time
