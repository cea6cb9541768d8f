"""Measurements of what a search did: its cells, its β, the curvature in α, the supernet as a ranking.

Legend: E edges, O candidate operations of an edge.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import scipy  # loads its modules when they are first used
from jax.flatten_util import ravel_pytree

from beta_darts_jax.method.bilevel import make_alpha_step, step_keys
from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.parts import StepParts
from beta_darts_jax.spaces.genotype import Genotype

# ---- of a cell, and of β ----


def operation_shares(genotype: Genotype) -> dict[str, float]:
  """Returns the shares, 0 … 1, of skip connections, of `none` and of pools among the operations of all cells."""
  names = [name for cell in genotype.cells for name in cell.operations]
  kinds = {'skip': 'skip_connect', 'none': 'none', 'pool': 'pool'}
  return {kind: sum(part in name for name in names) / len(names) for kind, part in kinds.items()}


def num_skips(genotype: Genotype) -> int:
  """Returns the number of skip connections of the normal cell, or of all stages of a chain."""
  return genotype.main_operations.count('skip_connect')


def entropies(betas) -> dict[str, np.ndarray]:
  """Returns the entropy of each edge, −Σ β·log β in nats, from 0 (one operation) to log O (all equal).

  Args:
    betas: {cell type: [E, O]}. Rows that do not sum to 1 (edge normalization) are normalized first.

  Returns:
    {cell type: [E]}.
  """
  return {name: scipy.stats.entropy(np.asarray(beta), axis=-1) for name, beta in betas.items()}


def variances(betas) -> dict[str, np.ndarray]:
  """Returns the variance of β over the operations of each edge, which Beta-Decay bounds: {cell type: [E]}.

  Args:
    betas: {cell type: [E, O]}. Rows that do not sum to 1 (edge normalization) are normalized first.
  """

  def variance(beta):
    beta = np.asarray(beta)
    return np.var(beta / beta.sum(axis=-1, keepdims=True), axis=-1)

  return {name: variance(beta) for name, beta in betas.items()}


def beta_change_ratio(alphas, decay) -> dict[str, np.ndarray]:
  """Returns θ = softmax(α − decay)/softmax(α), the change of β by a decay of the logits: {cell type: [E, O]}.

  θ_k = Σ_j e^{α_j} / Σ_j e^{α_j + decay_k − decay_j}. β of an operation falls where θ < 1.

  Args:
    alphas: {cell type: [E, O]}, after the step without the decay.
    decay: η·λ·F(α), likewise.
  """

  def ratio(alpha, decay):
    alpha, decay = (np.asarray(x, np.float64) for x in (alpha, decay))
    differences = decay[:, :, None] - decay[:, None, :]  # [E, k, j]
    top = np.exp(alpha - alpha.max(-1, keepdims=True))
    return top.sum(-1, keepdims=True) / np.einsum('ej,ekj->ek', top, np.exp(differences))

  return {name: ratio(alphas[name], decay[name]) for name in alphas}


# ---- curvature ----


def make_curvature(loss: Callable) -> Callable:
  """Builds `product(alphas, v, params, *arguments)`: the Hessian of loss(params, alphas, *arguments) in α, times v.

  The product is computed forward over reverse and jitted. No Hessian is formed.
  """

  @jax.jit
  def product(alphas, v, params, *arguments):
    # Both gradients are computed for the reason given in hypergradients._mixed_derivative.
    def gradient(alphas):
      return jax.grad(loss, argnums=(0, 1))(params, alphas, *arguments)[1]

    return jax.jvp(gradient, (alphas,), (v,))[1]

  return product


def eigenvalues(product: Callable, alphas, exact: int = 64, count: int = 5) -> np.ndarray:
  """Returns the dominant eigenvalues of a symmetric operator on trees like α, largest magnitude first.

  Args:
    product: v → H·v.
    alphas: a tree of that form.
    exact: with up to this many numbers in the tree, H is written out, and all its eigenvalues are returned.
    count: number of eigenvalues that Lanczos iterations (ARPACK) find for a larger tree.

  Raises:
    ArithmeticError: a product is not finite, or the iterations do not converge.
  """
  flat, unravel = ravel_pytree(jax.device_get(alphas))

  def times(v):
    result = product(jax.device_get(unravel(v.astype(flat.dtype))))
    result = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(jax.device_get(result))]).astype(np.float64)
    if not np.isfinite(result).all():
      raise ArithmeticError('the Hessian of α is not finite')
    return result

  if flat.size <= exact:
    matrix = np.stack([times(v) for v in np.eye(flat.size)])
    values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
  else:
    start = np.random.default_rng(0).standard_normal(flat.size)  # the same in every process
    operator = scipy.sparse.linalg.LinearOperator((flat.size, flat.size), times, dtype=np.float64)
    try:
      values = scipy.sparse.linalg.eigsh(operator, k=count, v0=start, tol=1e-4, return_eigenvectors=False)
    except scipy.sparse.linalg.ArpackError as error:
      raise ArithmeticError(str(error)) from None
  return values[np.argsort(-np.abs(values))]


def make_diagnose(supernet, parts: StepParts) -> Callable:
  """Builds `diagnose(state, train_batch, valid_batch, hyper)` → dict: the expensive diagnostics of one search.

  The dict has 'eigenvalues', the dominant ones of ∇²_α L_valid on the batch at the mean of β. If there are regularizers
  of α, it also has 'theta' {cell type: [E, O]}: their `beta_change_ratio` in one α step on the batches, optimizer
  included.
  """
  loss = make_loss(supernet.clone(single_path=False), parts.class_weights)

  def valid_loss(params, alphas, state, batch, hyper):
    betas = parts.relaxation.with_skip(parts.relaxation.mean((alphas, state.edge_logits)), hyper)
    return loss(params, betas, state.batch_stats, batch, step_keys(state)[0])[0]

  curvature = make_curvature(valid_loss)
  step_without = make_alpha_step(supernet, dataclasses.replace(parts, regularizers=()))
  step_with = make_alpha_step(supernet, parts)

  @jax.jit
  def both_alphas(state, train_batch, valid_batch, hyper):
    arguments = state, train_batch, valid_batch, hyper, step_keys(state)[0]
    return step_without(*arguments)[0].alphas, step_with(*arguments)[0].alphas

  def diagnose(state, train_batch, valid_batch, hyper):
    def product(v):
      return curvature(state.alphas, v, state.params, state, valid_batch, hyper)

    measured = {}
    with contextlib.suppress(ArithmeticError):  # the search continues without eigenvalues
      measured['eigenvalues'] = eigenvalues(product, state.alphas)[:5].tolist()
    if parts.alpha_regularizers:
      without, decayed = jax.device_get(both_alphas(state, train_batch, valid_batch, hyper))
      decay = {name: without[name] - decayed[name] for name in without}
      ratios = beta_change_ratio(without, decay)
      measured['theta'] = {name: value.tolist() for name, value in ratios.items()}
    return measured

  return diagnose


# ---- the supernet as a ranking ----


def make_one_shot(supernet, prepare: Callable, batch_size: int = 250) -> Callable:
  """Builds `accuracies(variables, betas, images, labels) -> [n]`, 0 … 1: the supernet under each of n given β.

  `betas` is a list of {cell type: [E, O]}; `space.one_hot(genotype)` gives that of one cell. BatchNorm uses the
  statistics of the batch. Images are uint8 [N, H, W, C], labels int [N]; a useful ranking needs N ≥ 2,000. The last,
  incomplete batch is left out.

  Args:
    supernet: a module.
    prepare: uint8 images → float.
    batch_size: images of a batch.
  """

  def logits(arguments, images):
    variables, betas = arguments
    output, _ = supernet.apply(
      variables, images, betas, train=True, mutable=['batch_stats'], rngs={'draw': jax.random.key(0)}
    )
    return output

  @functools.cache
  def evaluate_in_batches(size):
    return make_evaluate(logits, prepare, size)

  def accuracies(variables, betas, images, labels):
    size = min(batch_size, len(labels))  # a batch that is filled with copies would have other statistics
    whole = len(labels) // size * size
    evaluate = evaluate_in_batches(size)
    results = [evaluate((variables, beta), images[:whole], labels[:whole])[1] for beta in betas]
    return np.asarray(jax.device_get(results))

  return accuracies


def kendall_tau(a, b, draws: int = 1000, seed: int = 0) -> dict[str, float]:
  """Returns Kendall's τ-b of two scores of the same items, with its 95 % bootstrap interval over items.

  Args:
    a, b: [n] scores.
    draws: bootstrap samples.
    seed: seed of the bootstrap.

  Returns:
    {'tau', 'low', 'high', 'n'}.
  """
  a, b = np.asarray(a), np.asarray(b)
  samples = np.random.default_rng(seed).integers(len(a), size=(draws, len(a)))
  taus = [scipy.stats.kendalltau(a[s], b[s]).statistic for s in samples]
  low, high = np.nanpercentile(taus, [2.5, 97.5])
  return {'tau': float(scipy.stats.kendalltau(a, b).statistic), 'low': float(low), 'high': float(high), 'n': len(a)}


def ranking_correlation(table, dataset: str, accuracy_of: Callable, cells: int, seed: int = 0) -> dict:
  """Returns Kendall's τ of one-shot accuracies and of parameter counts with the test accuracies of a table.

  Args:
    table: NasBench201.
    dataset: 'cifar10', 'cifar100' or 'imagenet16_120'.
    accuracy_of: list of n genotypes → [n] scores.
    cells: n, drawn uniformly without repetition.
    seed: seed of the draw.

  Returns:
    {'one_shot', 'parameters'}, each as from `kendall_tau`.
  """
  everything = list(table)
  picked = np.random.default_rng(seed).choice(len(everything), size=min(cells, len(everything)), replace=False)
  genotypes = [everything[i] for i in picked]
  truth = table.column(f'{dataset}_test')[picked]
  return {
    'one_shot': kendall_tau(accuracy_of(genotypes), truth),
    'parameters': kendall_tau(table.column('parameters_cifar10')[picked], truth),
  }
