"""SDARTS-RS and -ADV: a step of their official programs with the recorded noise, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rivals import Golden, agree, agree_on_weights, alpha_gradient, hyperparameters, record, start_of

from beta_darts_jax import NAS_BENCH_201, S2, Relaxation, SearchState, Supernet, make_search_step
from beta_darts_jax.method.perturbations import add_noise, attack

METHODS = {'sdarts_rs': 'SDARTS-RS', 'sdarts_adv': 'SDARTS-ADV'}


def recorded_noise(betas, key, hyper, loss):
  return add_noise(betas, hyper.regularizer_weights['noise'])


def recorded_attack(betas, key, hyper, loss):
  def watched(betas):
    value = loss(betas)
    record(VISITED, jnp.stack(list(betas.values())))
    record(LOSSES, value[None])
    return value

  attacked = attack(betas, hyper.regularizer_weights['noise'], hyper.perturbation, watched)
  record(ATTACKED, jnp.stack(list(attacked.values())))
  return attacked


# Of one attack: β after it, and the points where it takes the loss, the last of which is its start. β is [types, E, O].
ATTACKED: list = []
VISITED: list = []
LOSSES: list = []


@pytest.fixture(autouse=True)
def empty_lists():
  for recorded in (ATTACKED, VISITED, LOSSES):
    recorded.clear()


@pytest.mark.full
@pytest.mark.parametrize('name, perturbation', [('sdarts_rs', recorded_noise), ('sdarts_adv', recorded_attack)])
def test_a_step_equals_that_of_the_official_sdarts(name, perturbation):
  """The attack gets the running statistics of the official program, which its α step has moved."""
  with jax.enable_x64(True):
    supernet = Supernet(NAS_BENCH_201, 10, channels=4, cells_per_stage=1)
    step = make_search_step(supernet, (), relaxation=Relaxation(perturbation=perturbation))
    for file in (name, f'{name}_reverted') if name == 'sdarts_adv' else (name,):
      golden, method = Golden(file, NAS_BENCH_201), METHODS[name]
      start = start_of(golden, 'statistics_at_attack/' if name == 'sdarts_adv' else 'before/')
      hyper = hyperparameters(perturbation=golden['epsilon'], regularizer_weights={'noise': {'cell': golden['noise']}})
      state, metrics = step(start, golden.batch('train'), golden.batch('valid'), hyper)
      agree(method, 'gradient in α', alpha_gradient(state, start)[0]['cell'], golden['alpha_grad'])
      agree(method, 'α after a step', state.alphas['cell'], golden['alpha_after'])
      agree(method, 'loss at the perturbed β', metrics['train_loss'], golden['train_loss'])
      if name == 'sdarts_adv':
        jax.effects_barrier()
        agree(method, 'perturbed β', ATTACKED.pop()[0], golden['betas_perturbed'])
        losses = np.concatenate(LOSSES)
        agree(method, 'losses of the attack', np.concatenate([losses[-1:], losses[:-1]]), golden['attack/losses'])
        LOSSES.clear()
      if 'after/names' in golden.arrays:
        agree_on_weights(method, golden, state)


@pytest.mark.full
@pytest.mark.parametrize('name, perturbation', [('rs', recorded_noise), ('adv', recorded_attack)])
def test_sdarts_in_s2(name, perturbation):
  """Noise and attack on both cell types, and the training loss of the perturbed β."""
  golden, method = Golden('sdarts_darts_s2', S2), METHODS[f'sdarts_{name}']
  with jax.enable_x64(True):
    supernet = Supernet(S2, 10, channels=4, layers=4)
    step = make_search_step(supernet, (), relaxation=Relaxation(perturbation=perturbation))
    start = SearchState.create(golden.variables('statistics_at_attack/'), golden.alphas('alpha_before_{}'))
    noise = {'noise': golden.alphas(f'{name}/noise_{{}}')}
    hyper = hyperparameters(perturbation=golden['epsilon'], regularizer_weights=noise)
    state, metrics = step(start, golden.batch('train'), golden.batch('valid'), hyper)
    gradient = alpha_gradient(state, start)[0]
    jax.effects_barrier()
  if name == 'adv':
    agree(method, 'losses of the attack, S2', LOSSES[-1], golden['adv/loss_before'][None])
    agree(method, 'losses of the attack, S2', LOSSES[-2], golden['adv/loss_after'][None])
  for i, cell_type in enumerate(S2.cell_types):
    if name == 'adv':
      agree(method, 'path of the attack, S2', np.stack(VISITED[:-1])[:, i], golden[f'adv/path_{cell_type}'])
      agree(method, 'perturbed β, S2', ATTACKED[0][i], golden[f'adv/betas_perturbed_{cell_type}'])
    agree(method, 'gradient in α, S2', gradient[cell_type], golden[f'alpha_grad_{cell_type}'])
    agree(method, 'α after a step, S2', state.alphas[cell_type], golden[f'alpha_after_{cell_type}'])
  logits, labels = golden[f'{name}/train_logits'], golden.batch('train')[1]
  log_sums = np.log(np.exp(logits).sum(-1))
  expected = np.mean(log_sums - logits[np.arange(len(labels)), labels])
  agree(method, 'loss at the perturbed β, S2', metrics['train_loss'], expected)
