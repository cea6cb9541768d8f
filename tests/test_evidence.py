"""Measures and tests of studies, by hand; and a whole study at toy size."""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import made_up_lines
from scipy import stats

from beta_darts_jax import InputError, NasBench201
from beta_darts_jax.evidence import (
  PUBLISHED,
  baselines,
  distance,
  flips,
  measures,
  paired_p,
  parameter_free,
  percentile,
  steadiness,
  tail,
)
from beta_darts_jax.genotype import Genotype
from beta_darts_jax.nas_bench_201 import Row
from beta_darts_jax.study import _agrees, load

ROOT = pathlib.Path(__file__).parent.parent
SKIPS = '|skip_connect~0|+|skip_connect~0|none~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|'


@pytest.fixture(scope='module')
def table():
  return NasBench201({line['arch']: Row(**{k: v for k, v in line.items() if k != 'arch'}) for line in made_up_lines()})


def row(cell, **more):
  return {'genotype': cell, 'betas': {'cell': np.eye(5)[:1].repeat(6, 0).tolist()}, 'seconds': 2.0} | more


def test_percentiles(table):
  everything = [percentile(table, cell) for cell in list(table)[::1000]]
  assert percentile(table, table.optimum('cifar10_test')) == 100
  assert min(everything) == pytest.approx(0) and max(everything) <= 100
  np.testing.assert_allclose(np.mean([percentile(table, c) for c in itertools.islice(table, 0, None, 7)]), 50, atol=0.5)


def test_cells():
  published = Genotype.parse(PUBLISHED)
  assert parameter_free(published) == 1 and parameter_free(Genotype.parse(SKIPS)) == 5
  assert distance(published, published) == 0 and distance(published, Genotype.parse(SKIPS)) == 5


def test_a_history_in_numbers(table):
  history = [row(PUBLISHED)] * 8 + [row(SKIPS), row(PUBLISHED)]
  assert len(tail(history)) == 2 and tail(history[:1]) == history[:1]
  np.testing.assert_allclose(flips(history), 10 / 9)
  found = measures(history, table)
  np.testing.assert_allclose(found['percentile'], (percentile(table, PUBLISHED) + percentile(table, SKIPS)) / 2)
  assert (found['collapsed'], found['distance_to_published'], found['epochs'], found['seconds']) == (0, 0, 10, 20.0)
  assert measures(history[:9], table)['collapsed'] == 1
  diverged = measures([row(PUBLISHED), row(None)], table)
  assert set(diverged) == set(found) and diverged['percentile'] is None and diverged['genotype'] is None
  assert 'percentile' not in measures(history, None)


def test_steadiness_is_margin_over_the_spread_of_its_changes():
  margins = [0.0, 0.1, 0.4, 0.5]
  history = [row(SKIPS, betas={'cell': [[0.5 + m / 2, 0.5 - m / 2]] * 6}) for m in margins]
  np.testing.assert_allclose(steadiness(history), 0.5 / np.std(np.diff(margins), ddof=1))
  assert steadiness(history[:2]) is None


def test_exact_p_values():
  """Against SciPy's, and the smallest that n pairs can reach."""
  assert paired_p([1.0] * 6) == 2 / 2**6 and paired_p([1.0, -1.0]) == 1
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=6), rng.normal(0.7, size=6)
  mean = lambda x, axis: np.mean(x, axis=axis)
  expected = stats.permutation_test((a - b,), mean, permutation_type='samples', n_resamples=np.inf).pvalue
  np.testing.assert_allclose(paired_p(a - b), expected)


def test_baselines(table):
  found = baselines(table, 'cifar10')
  np.testing.assert_allclose(found['random cell']['percentile'], 50, atol=0.1)
  assert found['best of 50 by validation']['percentile'] > found['best of 10 by validation']['percentile'] > 80
  assert found['all 3×3']['cifar10_test'] == table.column('cifar10_test').max()
  assert found['published cell of β-DARTS']['percentile'] == percentile(table, PUBLISHED)


def command(*arguments):
  environment = os.environ | {'XLA_FLAGS': '--xla_backend_optimization_level=0'}
  done = subprocess.run(
    [sys.executable, '-m', 'beta_darts_jax.study', *map(str, arguments)],
    cwd=ROOT, env=environment, capture_output=True, text=True,
  )  # fmt: skip
  return done


def test_a_study_at_toy_size(tmp_path):
  """Two arms of two seeds, tables from what is kept, and the same tables again without a run."""
  where = ['--runs', tmp_path / 'runs', '--evidence', tmp_path / 'evidence']
  done = command('configs/studies/smoke.py', *where)
  assert done.returncode == 0, done.stderr
  folder = tmp_path / 'evidence' / 'smoke'
  kept = {arm: json.loads((folder / 'runs' / f'{arm}.json').read_text()) for arm in ('beta_darts', 'darts')}
  assert [len(record['rows']) for record in kept.values()] == [6, 6]
  assert kept['darts']['config']['search']['beta_decay_weight'] == 0 and kept['darts']['result']['environment']
  lines = (folder / 'searches.csv').read_text().splitlines()
  assert [line.split(',')[:2] for line in lines[1:]] == [[a, s] for a in ('beta_darts', 'darts') for s in '01']
  text = (folder / 'README.md').read_text()
  assert re.search(r'\| beta_darts \| 2 \|.*\| [01]\.\d{3} \|', text) and re.search(r'\| darts \| 1 \| ', text)
  (folder / 'README.md').write_text(text.replace('# Does', 'Read by people.\n\n# Does').replace('| 2 |', '| 7 |'))
  done = command('configs/studies/smoke.py', *where, '--tables-only')
  assert done.returncode == 0, done.stderr
  assert (folder / 'README.md').read_text() == f'Read by people.\n\n{text}'
  done = command('configs/studies/smoke.py', *where)
  assert done.stdout.count('kept in') == 2


def test_a_kept_arm_may_lack_values_that_came_later():
  assert _agrees({'a': {'b': 1}}, {'a': {'b': 1, 'c': 0}, 'd': 2})
  assert not _agrees({'a': {'b': 1}}, {'a': {'b': 2}}) and not _agrees({'a': 1}, {})


def test_what_is_no_study(tmp_path):
  with pytest.raises(InputError, match='no such file'):
    load(tmp_path / 'none.py')
  (tmp_path / 'odd.py').write_text('def get_study():\n  return {}\n')
  with pytest.raises(InputError, match=r'get_study\(\) gives question, arms'):
    load(tmp_path / 'odd.py')
  assert command('configs/studies/none.py').returncode == 2
