import csv
import json
import sys
import types

import numpy as np
import pytest
from conftest import made_up_lines

from beta_darts_jax import InputError, NasBench201
from beta_darts_jax.method.diagnostics import kendall_tau, ranking_correlation
from beta_darts_jax.spaces.nas_bench_201 import ACCURACIES, find_table
from beta_darts_jax.spaces.nas_bench_201.__main__ import main

BEST = '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|'
SKIPS = '|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|'


@pytest.fixture(scope='session')
def table(table_path):
  return NasBench201.load(table_path)


@pytest.fixture(scope='module')
def lines():
  return made_up_lines()


def write(path, lines):
  with open(path, 'w', newline='') as file:
    writer = csv.DictWriter(file, lines[0].keys())
    writer.writeheader()
    writer.writerows(lines)
  return path


def test_the_table_has_the_published_rows(table):
  """Published rows of β-DARTS, β-RDARTS-L2, plain DARTS and the ImageNet16-120 optimum."""
  row = table[BEST]
  assert row.index == 9930
  accuracies = [getattr(row, name) for name in ACCURACIES]
  np.testing.assert_allclose(accuracies, [91.55, 94.36, 73.49, 73.51, 46.37, 46.34], atol=0.006)
  row = table[BEST.replace('nor_conv_3x3~2', 'nor_conv_1x1~2')]
  assert row.index == 6111 and abs(row.imagenet16_120_test - 46.71) < 0.006
  row = table[SKIPS]
  accuracies = [getattr(row, name) for name in ACCURACIES]
  np.testing.assert_allclose(accuracies, [39.77, 54.30, 15.03, 15.61, 16.43, 16.32], atol=0.006)
  assert table[table.optimum('imagenet16_120_test')].index == 857
  assert table[table.optimum('cifar100_test')].index == 9930


def test_ranks_and_baselines_of_the_benchmark(table):
  assert len(table) == 15_625
  assert table.rank(table.optimum('cifar10_test'), 'cifar10_test') == 1
  np.testing.assert_allclose(table.regret(BEST, 'cifar10_test'), 94.3733 - 94.36, atol=0.006)
  assert table.rank(BEST, 'cifar100_test') == 1
  baselines = table.baselines('cifar10')
  expected = {'random_cell_median': 90.74, 'random_cell_mean': 87.06, 'random_cell_std': 12.93}
  expected |= {'best_of_10_by_validation': 93.03, 'best_of_50_by_validation': 93.63, 'all_nor_conv_3x3': 93.76}
  for name, value in expected.items():
    assert abs(baselines[name] - value) < 0.06, name


def test_made_up_table_by_eye(lines, tmp_path):
  table = NasBench201.load(write(tmp_path / 't.csv', lines))
  all_3x3 = table.optimum('cifar10_test')
  assert set(all_3x3.normal.operations) == {'nor_conv_3x3'}
  assert table.rank(all_3x3, 'cifar10_test') == 1 and table.regret(all_3x3, 'cifar10_test') == 0
  assert (
    table.rank(SKIPS, 'cifar10_test')
    == 15_625 - sum(line['cifar10_test'] <= 50 + lines[int('111111', 5)]['index'] / 1e5 for line in lines) + 1
  )
  with pytest.raises(InputError, match='expected one of cifar10_valid'):
    table.rank(SKIPS, 'accuracy')
  with pytest.raises(InputError, match='conv_9x9'):
    table[SKIPS.replace('skip_connect~2', 'conv_9x9~2')]

  score = lambda genotypes: [g.normal.operations.count('nor_conv_3x3') for g in genotypes]
  correlation = ranking_correlation(table, 'cifar10', score, cells=200)
  assert correlation['one_shot']['tau'] > 0.75 and correlation['one_shot']['n'] == 200
  assert correlation['one_shot'] == correlation['parameters']


@pytest.mark.parametrize(
  'damage, message',
  [
    (lambda lines: lines[:-1], '15624 different cells'),
    (lambda lines: [*lines[:-1], lines[0]], '15624 different cells'),
    (lambda lines: [lines[0] | {'cifar10_test': 'x'}, *lines[1:]], 'line 2 is damaged'),
    (lambda lines: [lines[0] | {'cifar10_test': 'nan'}, *lines[1:]], 'line 2 is damaged'),
    (lambda lines: [{k: v for k, v in line.items() if k != 'trials'} for line in lines], 'line 2 is damaged'),
  ],
)
def test_damaged_tables_are_refused(lines, tmp_path, damage, message):
  with pytest.raises(InputError, match=message):
    NasBench201.load(write(tmp_path / 't.csv', damage(lines)))


def test_unreadable_tables_are_refused(tmp_path):
  (tmp_path / 'binary').write_bytes(b'\xff\xfe\x00')
  for name in ('missing', 'binary'):
    with pytest.raises(InputError, match='cannot be read'):
      NasBench201.load(tmp_path / name)


def test_kendall_tau_by_hand():
  perfect = kendall_tau(range(50), range(50))
  assert perfect['tau'] == 1 and perfect['low'] > 0.999
  assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3])['tau'] == pytest.approx(4 / 6)
  noise = np.random.default_rng(0).random((2, 200))
  unrelated = kendall_tau(*noise)
  assert unrelated['low'] < 0 < unrelated['high']


class FakeApi:
  """The API of the nats_bench package for two cells."""

  def __len__(self):
    return 2

  def arch(self, index):
    return [BEST, SKIPS][index]

  def get_more_info(self, index, dataset, hp, is_random):
    assert hp == '200' and is_random is False
    base = {'cifar10-valid': 10, 'cifar10': 20, 'cifar100': 30, 'ImageNet16-120': 40}[dataset] + index
    return {'valid-accuracy': base + 0.25, 'test-accuracy': base + 0.5}

  def get_cost_info(self, index, dataset, hp):
    return {'params': 1.5, 'flops': 2.5}

  def query_by_index(self, index, dataset, hp):
    return {777: None, 888: None}


def test_a_table_is_written_from_the_files_of_natsbench(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'nats_bench', types.SimpleNamespace(create=lambda *_, **__: FakeApi()))
  out = tmp_path / 'table.csv'
  assert main(['export', '--natsbench', str(tmp_path), '--out', str(out)]) == 0
  with open(out, newline='') as file:
    first, second = csv.DictReader(file)
  assert first['arch'] == BEST and second['arch'] == SKIPS
  assert [float(first[name]) for name in ACCURACIES] == [10.25, 20.5, 30.25, 30.5, 40.25, 40.5]
  assert (second['trials'], second['parameters_cifar10']) == ('2', '1500000')
  assert main(['export', '--natsbench', str(tmp_path / 'none'), '--out', str(out)]) == 2
  assert 'no such folder' in capsys.readouterr().err


def test_find_table_names_the_missing_file_and_who_set_it(tmp_path, monkeypatch):
  missing = tmp_path / 'none.csv'
  with pytest.raises(InputError, match=f'NAS-Bench-201 table not found: {missing}$'):
    find_table(str(missing))
  monkeypatch.setenv('NAS_BENCH_201_TABLE', str(missing))
  with pytest.raises(InputError, match=r'none\.csv \(set by NAS_BENCH_201_TABLE\)$'):
    find_table()
  monkeypatch.delenv('NAS_BENCH_201_TABLE')
  assert find_table() is None


def test_query_prints_the_row_of_a_cell(table_path, capsys, monkeypatch, tmp_path):
  (tmp_path / 'genotype.json').write_text(json.dumps({'genotype': BEST}))
  for cell in (BEST, str(tmp_path), str(tmp_path / 'genotype.json')):
    assert main(['query', '--table', table_path, cell]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f'{BEST}\n') and '94.3' in printed
  assert main(['query', '--table', table_path, 'DARTS_V2']) == 2
  error = capsys.readouterr().err
  assert (
    error.startswith('error: DARTS_V2 does not belong to the search space nas_bench_201: expected 1')
    and error.count('\n') == 1
  )
  monkeypatch.delenv('NAS_BENCH_201_TABLE')
  assert main(['query', BEST]) == 2
  assert 'export' in capsys.readouterr().err
