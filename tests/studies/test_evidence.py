"""Measures and tests of studies, by hand; and a whole study at toy size."""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import COMPILED_FAST, made_up_lines
from scipy import stats

from beta_darts_jax import InputError, NasBench201
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201 import Row
from beta_darts_jax.spaces.space import S2
from studies.measures import (
  PUBLISHED,
  baselines,
  distance,
  energy_p,
  flips,
  gap_of_means,
  logits,
  measures,
  paired_p,
  parameter_free,
  percentile,
  steadiness,
  tail,
)
from studies.run import _agrees, analyse, equivalence_table, fill, load, main, origin, records, write_up

ROOT = pathlib.Path(__file__).parents[2]
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


def test_equal_cells_share_a_percentile_and_columns_count_alike(table):
  """CIFAR-100's column turned round, ImageNet's equal throughout: (p + 100 − p + 100)/3, but for the equal ones."""
  cells = list(table)
  turned = lambda row: replace(row, cifar100_test=-row.cifar10_test, imagenet16_120_test=0.0)
  rows = {str(cell): turned(table[cell]) for cell in cells}
  for cell in cells[:2]:  # two equal cells
    rows[str(cell)] = replace(rows[str(cell)], cifar10_test=0.0, cifar100_test=0.0)
  mixed = NasBench201(rows)
  np.testing.assert_allclose([percentile(mixed, cell) for cell in cells[2::3000]], 200 / 3, atol=0.01)
  assert [percentile(mixed, cell) for cell in cells[:2]] == [pytest.approx((100 / 15_624 + 200) / 3)] * 2
  found = baselines(mixed, 'cifar10')['all 3×3']['percentile']
  assert found == percentile(mixed, PUBLISHED.replace('skip_connect', 'nor_conv_3x3'))


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
  one_moves = [row(SKIPS, betas={'cell': [[0.5 + m / 2, 0.5 - m / 2]] + [[0.9, 0.1]] * 5}) for m in margins]
  assert steadiness(one_moves) == steadiness(history)
  assert steadiness(history[:2]) is None and steadiness([history[0]] * 4) is None


def test_exact_p_values():
  """Against SciPy's, and the smallest that n pairs can reach."""
  assert paired_p([1.0] * 6) == 2 / 2**6 and paired_p([1.0, -1.0]) == 1
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=6), rng.normal(0.7, size=6)
  mean = lambda x, axis: np.mean(x, axis=axis)
  expected = stats.permutation_test((a - b,), mean, permutation_type='samples', n_resamples=np.inf).pvalue
  np.testing.assert_allclose(paired_p(a - b), expected)
  many = [1.0] * 16 + [-1.0] * 8  # more than are counted out; of equal ones it is the sign test
  np.testing.assert_allclose(paired_p(many), 2 * stats.binom.sf(15, 24, 0.5), atol=0.005)


def test_logits_are_alpha_centred_on_every_edge():
  alpha = np.random.default_rng(0).normal(size=(6, 5))
  betas = np.exp(alpha) / np.exp(alpha).sum(axis=1, keepdims=True)
  expected = alpha - alpha.mean(axis=1, keepdims=True)
  np.testing.assert_allclose(logits({'betas': {'cell': betas.tolist()}}).reshape(6, 5), expected)


def test_energy_p_against_scipy_in_one_dimension():
  """SciPy's statistic, and an exact permutation test of it, for 4 against 4."""
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(4, 1)), rng.normal(1.0, size=(4, 1))
  distance = lambda x, y: stats.energy_distance(x, y)
  expected = stats.permutation_test((a[:, 0], b[:, 0]), distance, n_resamples=np.inf, alternative='greater').pvalue
  np.testing.assert_allclose(energy_p(a, b), expected, atol=0.02)
  same, wider = rng.normal(size=(20, 30)), 3 * rng.normal(size=(20, 30))
  assert energy_p(same, wider, permutations=199) < 0.01


def test_energy_p_is_as_often_small_as_it_says():
  """Of equal distributions, five against five in 30 dimensions: p ≤ 0.1 in a tenth of 300 draws."""
  rng = np.random.default_rng(0)
  small = [energy_p(*rng.normal(size=(2, 5, 30)), permutations=99, seed=i) <= 0.1 for i in range(300)]
  assert 0.05 < np.mean(small) < 0.15


def test_constant_entries_say_nothing():
  """As the one logit of an edge with one candidate."""
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(5, 3)), rng.normal(1.0, size=(5, 3))
  with_constant = lambda x: np.insert(x, 1, 0.5, axis=1)
  for test in (lambda *x: energy_p(*x, permutations=99), lambda *x: gap_of_means(*x, draws=99)):
    assert test(with_constant(a), with_constant(b)) == test(a, b)
  assert energy_p(np.ones((5, 2)), np.ones((5, 2)), permutations=99) == 1
  assert gap_of_means(np.ones((5, 2)), np.ones((5, 2)), draws=9) == (0, 0)


def test_gap_of_means():
  """Of shifted copies the gap is the shift in standard deviations; the bound covers a known gap in 95 % of draws."""
  rng = np.random.default_rng(0)
  a = rng.normal(size=(20, 3))
  np.testing.assert_allclose(gap_of_means(a, a + 2 * a.std(axis=0, ddof=1), draws=9)[0], 2)
  samples = lambda gap, size: (rng.normal(size=(20, size)), rng.normal(gap, size=(20, size)))
  covered = [gap_of_means(*samples(1.0, 1), draws=199, seed=i)[1] > 1.0 for i in range(300)]
  assert 0.9 < np.mean(covered) < 0.98
  covered = [gap_of_means(*samples(0.5, 30), draws=99, seed=i)[1] > 0.5 for i in range(100)]
  assert np.mean(covered) >= 0.95


def test_baselines(table):
  found = baselines(table, 'cifar10')
  np.testing.assert_allclose(found['random cell']['percentile'], 50, atol=0.1)
  assert found['best of 50 by validation']['percentile'] > found['best of 10 by validation']['percentile'] > 80
  assert found['all 3×3']['cifar10_test'] == table.column('cifar10_test').max()
  assert found['published cell of β-DARTS']['percentile'] == percentile(table, PUBLISHED)
  np.testing.assert_allclose(found['random cell']['parameter_free'], 3.6)
  np.testing.assert_allclose(found['random cell']['collapsed'], stats.binom.sf(2, 6, 3 / 5))  # three of five operations


def command(*arguments):
  environment = os.environ | COMPILED_FAST
  done = subprocess.run(
    [sys.executable, '-m', 'studies.run', *map(str, arguments)],
    cwd=ROOT, env=environment, capture_output=True, text=True,
  )  # fmt: skip
  return done


def test_a_study_at_toy_size(tmp_path):
  """Two arms of two seeds, tables from what is kept, and the same tables again without a run."""
  where = ['--runs', tmp_path / 'runs', '--evidence', tmp_path / 'evidence']
  done = command('studies/smoke.py', *where)
  assert done.returncode == 0, done.stderr
  folder = tmp_path / 'evidence' / 'smoke'
  kept = {arm: json.loads((folder / 'runs' / f'{arm}.json').read_text()) for arm in ('beta_darts', 'darts')}
  assert [len(record['rows']) for record in kept.values()] == [6, 6]
  assert kept['darts']['config']['search']['beta_decay_weight'] == 0 and kept['darts']['result']['environment']
  lines = (folder / 'searches.csv').read_text().splitlines()
  assert [line.split(',')[:2] for line in lines[1:]] == [[a, s] for a in ('beta_darts', 'darts') for s in '01']
  text = (folder / 'README.md').read_text()
  assert re.search(r'\| beta_darts \| 2 \|.*\| darts \| [01]\.\d{3} \|', text) and re.search(r'\| darts \| 1 \| ', text)
  (folder / 'README.md').write_text(text.replace('# Does', 'Read by people.\n\n# Does').replace('| 2 |', '| 7 |'))
  done = command('studies/smoke.py', *where, '--tables-only')
  assert done.returncode == 0, done.stderr
  assert (folder / 'README.md').read_text() == f'Read by people.\n\n{text}'
  done = command('studies/smoke.py', *where)
  assert done.stdout.count('kept in') == 2


def test_a_study_asks_for_its_table_before_it_computes(tmp_path, monkeypatch, capsys):
  (file := tmp_path / 'mine.py').write_text(
    'from beta_darts_jax.config import default\n'
    'def get_study():\n'
    "  return dict(question='?', reference='a', primary='percentile', arms=dict(a=default()))\n"
  )
  monkeypatch.delenv('NAS_BENCH_201_TABLE', raising=False)
  monkeypatch.setattr('studies.run.run_arms', lambda *_: pytest.fail('it computes'))
  with pytest.raises(SystemExit) as ended:
    main([str(file), '--runs', str(tmp_path / 'runs'), '--evidence', str(tmp_path / 'evidence')])
  said = capsys.readouterr().err
  assert ended.value.code == 2
  assert said.startswith('error: the tables of mine need the benchmark') and said.count('\n') == 1
  assert list(tmp_path.iterdir()) == [file]


def test_a_kept_arm_may_lack_values_that_came_later():
  assert _agrees({'a': {'b': 1}}, {'a': {'b': 1, 'c': 0}, 'd': 2})
  assert not _agrees({'a': {'b': 1}}, {'a': {'b': 2}}) and not _agrees({'a': 1}, {})


def kept_arm(path, cells, shift=0.0, space='nas_bench_201'):
  """Writes an arm of two seeds of four epochs of these cells."""
  betas = np.random.default_rng(len(cells[0])).dirichlet(np.ones(5), size=(2, 6)) + shift
  rows = [
    row(cell, seed=seed, epoch=epoch, betas={'cell': (betas[i] / betas[i].sum(-1, keepdims=True)).tolist()})
    for epoch in range(4)
    for i, (seed, cell) in enumerate(zip((5, 6), cells, strict=True))
  ]
  result = {'dataset': 'cifar10', 'environment': {'device': 'cpu', 'versions': {'jax': '1.2.3'}}}
  path.parent.mkdir(parents=True, exist_ok=True)
  config = {'search': {'seed': 5}, 'space': {'name': space}}
  path.write_text(json.dumps({'config': config, 'result': result, 'rows': rows}))


def test_a_write_up(tmp_path, table, capsys):
  """A borrowed arm, one of its own with a search that diverged, and their equivalence; drawn the same every time."""
  best, worst = str(table.optimum('cifar10_test')), min(map(str, table), key=lambda c: percentile(table, c))
  kept_arm(tmp_path / 'other' / 'runs' / 'theirs.json', (best, best))
  kept_arm(tmp_path / 'mine' / 'runs' / 'own.json', (worst, None))
  study = {
    'name': 'mine',
    'question': 'Which?',
    'arms': {'own': None, 'not yet': None},
    'reference': 'borrowed',
    'primary': 'percentile',
    'borrowed': {'borrowed': 'other/theirs'},
    'equivalence': {'pairs': [('own', 'borrowed'), ('own', 'not yet')], 'margin': 1.0},
  }
  assert list(records(study, tmp_path)) == ['borrowed', 'own']
  write_up(study, tmp_path, table)
  folder = tmp_path / 'mine'
  text, drawn = (folder / 'README.md').read_text(), (folder / 'percentile.svg').read_bytes()
  assert '| borrowed | 2 |' in text and '| -100.00 | borrowed | 1.000 |' in text
  assert '| own | 6 |  | `diverged` |' in text
  assert '| own and borrowed | 2, 2 |' in text and 'not yet' not in text and 'jax 1.2.3' in text
  assert '| random cell | 50.00 |' in text
  with pytest.raises(InputError, match='need the benchmark'):
    write_up(study, tmp_path, None)
  assert 'not in' not in capsys.readouterr().out
  write_up(study | {'borrowed': study['borrowed'] | {'away': 'other/none'}}, tmp_path, table)
  assert f'away: not in {tmp_path} yet; it is to come from other/none' in capsys.readouterr().out
  assert (folder / 'README.md').read_text() == text and (folder / 'percentile.svg').read_bytes() == drawn


def test_equivalence_is_shown_below_the_margin_only():
  rng = np.random.default_rng(0)

  def arm(shift):
    betas = np.exp(rng.normal(size=(20, 6, 5)) + shift * np.arange(5))
    rows = [{'seed': i, 'betas': {'cell': (b / b.sum(-1, keepdims=True)).tolist()}} for i, b in enumerate(betas)]
    return {'config': {'search': {'seed': 0}}, 'rows': rows}

  kept = {'one': arm(0), 'like it': arm(0), 'other': arm(2)}
  study = {'equivalence': {'pairs': [('one', 'like it'), ('one', 'other')], 'margin': 1.0}}
  like, other = equivalence_table(study, kept).splitlines()[2:]
  assert '| one and like it | 20, 20 | 0.' in like and '| 1.00 | yes | 0.' in like
  assert '| one and other | 20, 20 | ' in other and '| 1.00 | not shown | 1e-04 |' in other


def test_where_arms_ran_is_said_once_or_of_each():
  record = lambda version: {'result': {'environment': {'device': 'cpu', 'versions': {'jax': version}}}}
  kept = {'a': record('1'), 'b': record('2'), 'c': record('1')}
  assert origin(kept) == 'a and c: device cpu, jax 1; b: device cpu, jax 2'
  assert origin({'a': kept['a'], 'c': kept['c']}) == 'device cpu, jax 1'


def test_a_stopped_study_says_so_to_the_shell(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr('studies.run.run_arms', lambda *_: False)
  monkeypatch.setattr('beta_darts_jax.runtime.devices.set_up', lambda *_, **__: None)
  with pytest.raises(SystemExit) as ended:
    main([str(ROOT / 'studies/smoke.py'), '--runs', str(tmp_path), '--evidence', str(tmp_path)])
  assert ended.value.code == 75 and 'the same command goes on' in capsys.readouterr().err


def test_a_population_shares_its_seconds():
  rows = [row(None, seed=seed) for seed in (5, 6)]
  alone, together = (
    {'config': {'search': {'seed': 5}}, 'rows': [r | more for r in rows]} for more in ({}, {'member': 0})
  )
  found = analyse({'alone': alone, 'together': together}, None)
  assert [found[arm][5]['seconds'] for arm in found] == [2.0, 1.0]


def test_a_write_up_of_a_space_without_a_benchmark(tmp_path, table):
  cell = str(S2.random_genotype(np.random.default_rng(0)))
  kept_arm(tmp_path / 'mine' / 'runs' / 'own.json', (cell, cell), space='s2')
  study = {'name': 'mine', 'question': 'Which?', 'arms': {'own': None}, 'reference': 'own', 'borrowed': {}}
  study |= {'primary': 'parameter_free', 'equivalence': {'pairs': [], 'margin': 0.0}}
  for known in (None, table):
    write_up(study, tmp_path, known)
    skips = S2.parse(cell).normal.operations.count('skip_connect')
    assert f'| own | 5 | {skips}.00 | `{cell}` |' in (tmp_path / 'mine' / 'README.md').read_text()
    assert not (tmp_path / 'mine' / 'percentile.svg').exists()


def test_pages_are_filled_between_marks():
  parts = {'summary': 'S', 'seeds': '', 'origin': 'O'}
  text = 'a\n<!-- study one: origin, summary -->\nold\n<!-- end of study -->\nb\n<!-- study two: x -->'
  expected = 'a\n<!-- study one: origin, summary -->\n\nO\n\nS\n\n<!-- end of study -->\nb\n<!-- study two: x -->'
  assert fill(text, 'one', parts, 'page') == fill(expected, 'one', parts, 'page') == expected
  assert fill(text, 'three', parts, 'page') == text
  twice = f'{text}: y -->\n{text}'
  assert fill(twice, 'one', parts, 'page') == twice.replace('old', '\nO\n\nS\n')
  with pytest.raises(InputError, match=r'page: .* asks for all; there are summary, seeds, origin'):
    fill(text.replace('origin, ', 'all, '), 'one', parts, 'page')
  with pytest.raises(InputError, match='has no <!-- end of study -->'):
    fill(text, 'two', parts, 'page')


@pytest.mark.parametrize('path', sorted((ROOT / 'configs' / 'studies').glob('*.py')), ids=lambda path: path.stem)
def test_every_study_loads(path):
  if path.stem != 'proxy':  # a config, not a study
    study = load(path)
    assert all(config.task == 'search' and config.population.seeds > 1 for config in study['arms'].values())


def test_what_is_no_study(tmp_path):
  with pytest.raises(InputError, match='no such file'):
    load(tmp_path / 'none.py')
  (tmp_path / 'odd.py').write_text('def get_study():\n  return {}\n')
  with pytest.raises(InputError, match=r'get_study\(\) gives question, arms'):
    load(tmp_path / 'odd.py')
  assert command('studies/none.py').returncode == 2
