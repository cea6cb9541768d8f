"""PC-DARTS and DARTS-: three steps of their official programs, in float64."""

import jax
import pytest
from rivals import Golden, agree, agree_on_norm, alpha_gradient, hyperparameters

from beta_darts_jax import DARTS_WITH_NONE, S1, S3, Relaxation, SearchState, Supernet, make_search_step


def take_official_steps(method, golden, step, state, hypers, edge_logits=False):
  """Three steps; compares the losses and α after each, α's first gradient, and how far every weight moved."""
  start = state
  for i, hyper in enumerate(hypers):
    before = state
    state, metrics = step(before, golden.batch('train', i), golden.batch('valid', i), hyper)
    agree_on_norm(method, state, before, golden['weight_grad_norm_of_all'][i])
    agree(method, 'training loss', metrics['train_loss'], golden['train_loss'][i])
    if i == 0:
      (alphas, logits), start_loss = alpha_gradient(state, start), metrics['alpha_loss']
    for name in golden.space.cell_types:
      agree(method, 'α after three steps', state.alphas[name], golden[f'alphas_{name}'][i])
      if edge_logits:
        agree(method, 'edge logits after three steps', state.edge_logits[name], golden[f'edge_logits_{name}'][i])
  agree(method, 'norms of the changes of the weights', golden.moved_norms(state), golden['moved_norms'])
  return alphas, logits, start_loss


@pytest.mark.full
def test_three_steps_equal_those_of_the_official_pc_darts():
  golden, relaxation = Golden('pc_darts', DARTS_WITH_NONE), Relaxation(edges=DARTS_WITH_NONE.edges)
  supernet = Supernet(DARTS_WITH_NONE, 10, channels=8, layers=4, partial_channels=4)
  with jax.enable_x64(True):
    step = make_search_step(supernet, (), relaxation=relaxation)
    edge_logits = golden.alphas('edge_logits_{}_before')
    state = SearchState.create(golden.variables(), golden.alphas('alphas_{}_before'), edge_logits=edge_logits)
    hyper = hyperparameters(learning_rate=0.1, alpha_learning_rate=6e-4)
    found = take_official_steps('PC-DARTS', golden, step, state, [hyper] * 3, edge_logits=True)
    alphas, logits, start_loss = found
    agree('PC-DARTS', 'validation loss', start_loss, golden['loss_valid'])
    for name in golden.space.cell_types:
      agree('PC-DARTS', 'gradient in α', alphas[name], golden[f'alphas_{name}_grad'])
      agree('PC-DARTS', 'gradient in the edge logits', logits[name], golden[f'edge_logits_{name}_grad'])


@pytest.mark.full
@pytest.mark.parametrize('name, space', [('s3', S3), ('s1', S1)])
def test_steps_equal_those_of_the_official_darts_minus(name, space):
  golden = Golden(f'darts_minus_{name}', space)
  with jax.enable_x64(True):
    step = make_search_step(Supernet(space, 10, channels=4, layers=4), (), relaxation=Relaxation(auxiliary_skip=True))
    start = SearchState.create(golden.variables(), golden.alphas('alphas_{}_before'))
    rates = zip(golden['step_learning_rate'], golden['step_auxiliary_skip'], strict=True)
    hypers = [hyperparameters(learning_rate=rate, auxiliary_skip=weight) for rate, weight in rates]
    take_official_steps('DARTS-', golden, step, start, hypers)
    for i, weight in enumerate(golden['auxiliary_skip']):
      hyper = hyperparameters(auxiliary_skip=weight)
      state, metrics = step(start, golden.batch('train', 0), golden.batch('valid', 0), hyper)
      agree('DARTS-', 'validation loss', metrics['alpha_loss'], golden['loss_valid'][i])
      for cell_type in space.cell_types:
        gradient = alpha_gradient(state, start)[0][cell_type]
        agree('DARTS-', 'gradient in α', gradient, golden[f'alphas_{cell_type}_grad'][i])
