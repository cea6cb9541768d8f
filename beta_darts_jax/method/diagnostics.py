"""What a search did, measured on its supernet.

Legend: E edges, O candidate operations of an edge.
"""

import contextlib
import functools
from collections.abc import Callable

import jax
import numpy as np
from scipy import stats
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from beta_darts_jax.method.bilevel import make_alpha_step, step_keys
from beta_darts_jax.method.evaluation import make_evaluate
from beta_darts_jax.method.losses import make_loss
from beta_darts_jax.method.relaxations import Relaxation
from beta_darts_jax.spaces.genotype import Genotype

# ---- of a cell, and of β ----


def shares(genotype: Genotype) -> dict[str, float]:
  """Of the operations of all cells the share of skip connections, of `none` and of pools, 0 to 1."""
  names = [name for cell in genotype.cells for name in cell.operations]
  kinds = {'skip': 'skip_connect', 'none': 'none', 'pool': 'pool'}
  return {kind: sum(part in name for name in names) / len(names) for kind, part in kinds.items()}


def skips(genotype: Genotype) -> int:
  """Skip connections of the normal cell."""
  return genotype.normal.operations.count('skip_connect')


def entropies(betas) -> dict[str, np.ndarray]:
  """Of each edge −Σ β·log β in nats, 0 (one operation) to log O (all alike): {cell type: [E]}.

  Of β [E, O] whose rows sum to other numbers (edges that are weighed) the shares count.
  """
  return {name: stats.entropy(np.asarray(beta), axis=-1) for name, beta in betas.items()}


def variances(betas) -> dict[str, np.ndarray]:
  """Of each edge the variance of β [E, O] over its operations, what Beta-Decay bounds: {cell type: [E]}.

  Of shares, as in `entropies`.
  """
  share = lambda beta: beta / beta.sum(axis=-1, keepdims=True)
  return {name: np.var(share(np.asarray(beta)), axis=-1) for name, beta in betas.items()}


def theta(alphas, decay) -> dict[str, np.ndarray]:
  """How a decay that takes `decay` = η·λ·F(α) off the logits changes softmax(α): softmax(α − decay)/softmax(α).

  θ_k = Σ_j e^{α_j} / Σ_j e^{α_j + decay_k − decay_j}: below 1 where an operation decays by more than the β-weighted
  rest of its edge.

  Args:
    alphas: {cell type: [E, O]}, after the step without the decay.
    decay: likewise.
  """

  def one(alpha, decay):
    alpha, decay = (np.asarray(x, np.float64) for x in (alpha, decay))
    differences = decay[:, :, None] - decay[:, None, :]  # [E, k, j]
    top = np.exp(alpha - alpha.max(-1, keepdims=True))
    return top.sum(-1, keepdims=True) / np.einsum('ej,ekj->ek', top, np.exp(differences))

  return {name: one(alphas[name], decay[name]) for name in alphas}


# ---- curvature ----


def make_curvature(loss: Callable) -> Callable:
  """Builds `product(alphas, v, *arguments)`: the Hessian of loss(params, alphas, *arguments) in α times v, like α.

  `arguments` begin with params. Forward over reverse, jitted; no Hessian is formed.
  """

  @jax.jit
  def product(alphas, v, params, *arguments):
    # both gradients: see hypergradients._mixed
    gradient = lambda alphas: jax.grad(loss, argnums=(0, 1))(params, alphas, *arguments)[1]
    return jax.jvp(gradient, (alphas,), (v,))[1]

  return product


def eigenvalues(product: Callable, alphas, exact: int = 64, count: int = 5) -> np.ndarray:
  """The dominant eigenvalues of a symmetric operator on trees like α, by magnitude, largest first.

  Args:
    product: v → H·v.
    alphas: a tree of that form.
    exact: up to this many numbers H is written out, and all its eigenvalues are returned.
    count: how many Lanczos iterations (ARPACK) find of a larger one.

  Raises:
    ArithmeticError: a product is not finite, or the iterations do not converge.
  """
  leaves, tree = jax.tree.flatten(jax.device_get(alphas))
  ends = np.cumsum([leaf.size for leaf in leaves])
  size = ends[-1]

  def times(v):
    parts = zip(np.split(v, ends[:-1]), leaves, strict=True)
    result = product(tree.unflatten([part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in parts]))
    flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(jax.device_get(result))]).astype(np.float64)
    if not np.isfinite(flat).all():
      raise ArithmeticError('the Hessian of α is not finite')
    return flat

  if size <= exact:
    matrix = np.stack([times(v) for v in np.eye(size)])
    found = np.linalg.eigvalsh((matrix + matrix.T) / 2)
  else:
    start = np.random.default_rng(0).standard_normal(size)  # the same in every process
    operator = LinearOperator((size, size), times, dtype=np.float64)
    try:
      found = eigsh(operator, k=count, v0=start, tol=1e-4, return_eigenvectors=False)
    except ArpackError as error:
      raise ArithmeticError(str(error)) from None
  return found[np.argsort(-np.abs(found))]


def make_diagnose(supernet, regularizer, hypergradient, relaxation: Relaxation, flooding: bool) -> Callable:
  """Builds `diagnose(state, train_batch, valid_batch, hyper)` of one member's state: the dear diagnostics.

  `eigenvalues`: the dominant ones of ∇²_α L_valid on the batch, at the mean of β. `theta`: {cell type: [E, O]}, how
  the regularizers change softmax(α) in one α step on these batches, Adam and all; not without any.
  """
  loss = make_loss(supernet.clone(sampled=False))

  def valid_loss(params, alphas, state, batch, hyper):
    betas = relaxation.with_skip(relaxation.mean((alphas, state.edge_logits)), hyper)
    return loss(params, betas, state.batch_stats, batch, step_keys(state)[0])[0]

  curvature = make_curvature(valid_loss)

  @jax.jit
  def both_steps(state, train_batch, valid_batch, hyper):
    step = lambda used: make_alpha_step(supernet, used, hypergradient, relaxation, flooding)
    after = lambda used: step(used)(state, train_batch, valid_batch, hyper, step_keys(state)[0])[0].alphas
    return after(()), after(regularizer)

  def diagnose(state, train_batch, valid_batch, hyper):
    product = lambda v: curvature(state.alphas, v, state.params, state, valid_batch, hyper)
    found = {}
    with contextlib.suppress(ArithmeticError):  # the search goes on without them
      found['eigenvalues'] = eigenvalues(product, state.alphas)[:5].tolist()
    if regularizer:
      without, moved = jax.device_get(both_steps(state, train_batch, valid_batch, hyper))
      decay = {name: without[name] - moved[name] for name in without}
      found['theta'] = {name: value.tolist() for name, value in theta(without, decay).items()}
    return found

  return diagnose


# ---- the supernet as a ranking ----


def make_one_shot(supernet, prepare, batch_size: int = 250) -> Callable:
  """Builds `accuracies(variables, betas, images, labels) -> [number of betas]`, 0 to 1.

  Of the supernet under each of a list of β ({cell type: [E, O]}; `space.one_hot(genotype)` makes it one cell), with
  BatchNorm on the statistics of the batch. Images are uint8 [N, H, W, C], labels int [N], N ≥ 2,000 for a useful
  ranking; the last, incomplete batch is left out.

  Args:
    supernet: a module.
    prepare: uint8 images → float.
    batch_size: images a batch.
  """

  def logits(arguments, images):
    variables, betas = arguments
    return supernet.apply(
      variables, images, betas, train=True, mutable=['batch_stats'], rngs={'draw': jax.random.key(0)}
    )[0]

  @functools.cache
  def evaluate_of(size):
    return make_evaluate(logits, prepare, size)

  def accuracies(variables, betas, images, labels):
    size = min(batch_size, len(labels))  # a batch filled up with copies would have other statistics
    whole = len(labels) // size * size
    images, labels, evaluate = images[:whole], labels[:whole], evaluate_of(size)
    results = [evaluate((variables, beta), images, labels)[1] for beta in betas]
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
