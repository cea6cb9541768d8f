"""The regularizer `cost` in a search: where its costs come from, and what the files of the run say about them."""

import json

import numpy as np
import pytest
from small_run import DATASET, final_state, make_config, read_rows, run

from beta_darts_jax import InputError, run_search, softmax_betas
from beta_darts_jax.config import default, ignored_options
from beta_darts_jax.method.regularizers import REGULARIZERS, expected_cost
from beta_darts_jax.networks.costs import placed_operations
from beta_darts_jax.search.setup import make_search_setup

COST = {'search__regularizers': ('beta_decay', 'cost'), 'space__name': 'nas_bench_201', 'supernet__cells_per_stage': 1}


def latency_file(path, setup, **changes):
  """Writes a file as benchmarks/latency.py does: a skip connection takes 1 ms, a convolution 2 ms."""
  operations = {operation for *_, operation in placed_operations(setup.supernet, (8, 8))}
  rows = [o._asdict() | {'milliseconds': 1 + (o.name != 'skip_connect')} for o in sorted(operations)]
  path.write_text(json.dumps({'operations': rows} | changes))
  return str(path)


def test_weight_0_leaves_the_step_of_beta_darts_and_keeps_the_costs():
  setup = make_search_setup(make_config(**COST), DATASET)
  assert setup.parts.regularizers == (REGULARIZERS['beta_decay'],)
  assert make_search_setup(make_config(), DATASET).costs is None
  betas = {'cell': np.array([[0.25, 0.75]])}
  costs = setup.costs.of_cell(setup.space, setup.space.derive(betas), betas)
  # a 1×1 convolution of three cells with 2, 4 and 8 channels on 8×8, 4×4 and 2×2 pixels
  assert costs == {'unit': 'multiply_adds', 'expected': 576, 'derived': 768, 'largest': 768}


def test_latencies_come_from_a_file(tmp_path):
  setup = make_search_setup(make_config(**COST), DATASET)
  file = latency_file(tmp_path / 'latency.json', setup)
  config = make_config(**COST, cost__unit=file, search__cost_weight=1.0)
  costs = make_search_setup(config, DATASET).costs
  assert costs.record() == make_search_setup(config, DATASET).costs.record() and not setup.costs.record()
  assert costs.unit == 'milliseconds' and costs.of_operations['cell'].tolist() == [[3, 6]]  # of three cells

  rows = json.loads((tmp_path / 'latency.json').read_text())['operations']
  changed = [row | {'milliseconds': row['milliseconds'] + 1} for row in rows]
  (tmp_path / 'latency.json').write_text(json.dumps({'operations': changed}))
  assert costs.record() != make_search_setup(config, DATASET).costs.record()

  latency_file(tmp_path / 'latency.json', setup)
  config.cost.target = 20.0
  with pytest.raises(InputError, match='target=20: expected 0, or less than 6'):
    make_search_setup(config, DATASET)
  for content, message in [
    ({'operations': []}, 'has no latency for name=skip_connect, channels=2, stride=1, height=8, width=8'),
    ({'operations': [{}]}, 'expected a list "operations"'),
  ]:
    latency_file(tmp_path / 'latency.json', setup, **content)
    with pytest.raises(InputError, match=message):
      make_search_setup(config, DATASET)
  config.cost.unit = 'flops'
  with pytest.raises(InputError, match="unit='flops': expected multiply_adds, parameters or a JSON file"):
    make_search_setup(config, DATASET)


def test_a_target_without_the_regularizer_is_ignored():
  config = default()
  config.cost.target = 1e6
  assert [message.split(':')[0] for message in ignored_options(config)] == ['config.cost.target=1000000.0 is ignored']
  config.search.regularizers = ('beta_decay', 'cost')
  assert not ignored_options(config)


def test_the_expected_cost_of_a_row_is_the_penalized_one_also_with_edge_weights(tmp_path):
  more = {'space__nodes': 2, 'relaxation__edge_normalization': True, 'search__cost_weight': 1.0, 'search__epochs': 1}
  config = make_config(**COST, **more)
  run(config, tmp_path)
  (row,) = read_rows(tmp_path)
  alphas = final_state(tmp_path)['alphas']
  penalized = expected_cost(make_search_setup(config, DATASET).costs.of_operations, softmax_betas(alphas))
  assert row['cost']['expected'] == pytest.approx(float(penalized), rel=1e-5)


@pytest.mark.full
def test_a_resumed_search_refuses_other_latencies(tmp_path):
  file = tmp_path / 'latency.json'
  latency_file(file, make_search_setup(make_config(**COST), DATASET))
  more = {'data__source': 'digits', 'data__fraction': 0.1, 'search__epochs': 1, 'search__cost_weight': 1.0}
  config = make_config(**COST, **more, cost__unit=str(file))
  run_search(config, tmp_path / 'run')
  (tmp_path / 'run' / 'result.json').unlink()
  file.write_text(file.read_text().replace('"milliseconds": 2', '"milliseconds": 3'))
  with pytest.raises(InputError, match=r'different data \(latencies_sha256'):
    run_search(config, tmp_path / 'run')


@pytest.mark.full
def test_rows_and_result_of_a_population_have_the_costs(tmp_path):
  values = run(make_config(**COST, population__cost_weight=(0.0, 30.0), search__alpha_learning_rate=0.3), tmp_path)
  free, cheap = values['members']
  assert cheap['cost']['derived'] == 0 and cheap['cost']['expected'] < free['cost']['expected'] < 768
  assert [setting['cost']['mean'] for setting in values['settings']] == [c['cost']['derived'] for c in (free, cheap)]
  rows = read_rows(tmp_path)
  assert [row['cost'] for row in rows[-2:]] == [free['cost'], cheap['cost']]
