"""What a search did, measured on its supernet."""

from collections.abc import Callable

import jax
import numpy as np
from scipy import stats

from beta_darts_jax.evaluation import make_evaluate


def make_one_shot(supernet, prepare, batch_size: int = 250) -> Callable:
  """Builds `accuracies(variables, genotypes, images, labels) -> [number of genotypes]`, 0 to 1.

  Of each genotype with the supernet's weights, BatchNorm on the statistics of the batch. Images are uint8 [N, H, W, C],
  labels int [N], N ≥ 2,000 for a useful ranking; the last, incomplete batch is left out.

  Args:
    supernet: with `space`, that of the genotypes.
    prepare: uint8 images → float.
    batch_size: images a batch.
  """

  def logits(arguments, images):
    variables, betas = arguments
    return supernet.apply(
      variables, images, betas, train=True, mutable=['batch_stats'], rngs={'draw': jax.random.key(0)}
    )[0]

  evaluate = make_evaluate(logits, prepare, batch_size)

  def accuracies(variables, genotypes, images, labels):
    whole = max(1, len(labels) // batch_size) * batch_size
    images, labels = images[:whole], labels[:whole]
    results = [evaluate((variables, supernet.space.one_hot(g)), images, labels)[1] for g in genotypes]
    return np.asarray(jax.device_get(results))

  return accuracies


def kendall_tau(a, b, draws: int = 1000, seed: int = 0) -> dict[str, float]:
  """Kendall's τ-b of two scores of the same items, with the 95 % bootstrap interval over items.

  Args:
    a, b: [n] scores.
    draws: bootstrap samples.
    seed: of the bootstrap.

  Returns:
    tau, low, high, n.
  """
  a, b = np.asarray(a), np.asarray(b)
  samples = np.random.default_rng(seed).integers(len(a), size=(draws, len(a)))
  taus = [stats.kendalltau(a[s], b[s]).statistic for s in samples]
  low, high = np.nanpercentile(taus, [2.5, 97.5])
  return {'tau': float(stats.kendalltau(a, b).statistic), 'low': float(low), 'high': float(high), 'n': len(a)}


def ranking_correlation(table, dataset: str, accuracy_of, cells: int, seed: int = 0) -> dict:
  """Kendall's τ of one-shot accuracies, and of the parameter count, with the table's test accuracies.

  Args:
    table: NasBench201.
    dataset: 'cifar10', 'cifar100' or 'imagenet16_120'.
    accuracy_of: list of genotypes → [n] scores.
    cells: n, drawn uniformly without repetition.
    seed: of the draw.
  """
  everything = list(table)
  picked = np.random.default_rng(seed).choice(len(everything), size=min(cells, len(everything)), replace=False)
  genotypes = [everything[i] for i in picked]
  truth = table.column(f'{dataset}_test')[picked]
  return {
    'one_shot': kendall_tau(accuracy_of(genotypes), truth),
    'parameters': kendall_tau(table.column('parameters_cifar10')[picked], truth),
  }
