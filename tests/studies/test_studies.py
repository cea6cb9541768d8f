"""Studies: their descriptions, the kept runs, tables and pages; and a whole study at toy size."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import COMPILED_FAST

from beta_darts_jax import InputError, NonFiniteLoss
from beta_darts_jax.config import default
from beta_darts_jax.spaces.space import S2
from configs import darts, robust_darts
from studies import measures
from studies.keep import keep_run
from studies.measures import percentile
from studies.records import (
  Record,
  changed_keys,
  keep,
  kept_files,
  kept_seeds,
  read_records,
  record_path,
  seeds_of,
  with_seeds,
)
from studies.run import END, fill_marks, groups_of, main, run_arms, write_pages
from studies.study import Study, known_studies, load_study
from studies.tables import equivalence_table, provenance, searches_table, unfinished

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def table(made_up_table):
  return made_up_table


def command(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'studies.run', *map(str, arguments)],
    cwd=ROOT, env=os.environ | COMPILED_FAST, capture_output=True, text=True,
  )  # fmt: skip


# ---- descriptions ----


@pytest.mark.parametrize('name', known_studies())
def test_every_study_loads(name):
  study = load_study(name)
  assert study.name == name
  assert all(config.task == 'search' and config.population.seeds > 1 for config in study.arms.values())


def test_load_study_names_what_it_expects(tmp_path):
  with pytest.raises(InputError, match=r'Did you mean centre.* Expected .* centre, clock, mechanism'):
    load_study('center')
  with pytest.raises(InputError, match='unknown study'):
    load_study(str(tmp_path / 'none.py'))
  (tmp_path / 'odd.py').write_text('def get_study():\n  return {}\n')
  with pytest.raises(InputError, match=r'odd.py: expected a function get_study\(\)'):
    load_study(str(tmp_path / 'odd.py'))
  with pytest.raises(InputError, match='study mine: unknown arms b; expected a'):
    Study(name='mine', question='?', primary='percentile', arms={'a': default()}, references={'a': 'b'})


def test_a_wrong_name_is_one_line_and_status_2():
  done = command('none')
  assert done.returncode == 2
  assert done.stderr.startswith("error: unknown study 'none'") and done.stderr.count('\n') == 1


@pytest.mark.parametrize('dataset', darts.DATASETS)
def test_the_proxy_of_robust_darts_is_that_of_darts(dataset):
  robust, plain = robust_darts.get_config(f's2,{dataset},proxy'), darts.get_config(f'{dataset},proxy')
  robust.supernet.unroll = plain.supernet.unroll
  assert {name for name in plain if robust[name] != plain[name]} == {'name', 'space'}


# ---- kept runs ----


def test_changed_keys_ignores_new_keys_and_removed_keys_without_effect():
  assert not changed_keys({'a': {'b': 1, 'c': 0}, 'd': 2}, {'a': {'b': 1}})
  assert changed_keys({'a': {'b': 2}}, {'a': {'b': 1}}) == ['a.b'] and changed_keys({}, {'a': 1}) == ['a']
  assert not changed_keys({'a': 1}, {'a': 1, 'search': {'shuffled_alpha_labels': False}})
  shuffled = {'a': 1, 'search': {'shuffled_alpha_labels': True}}
  assert changed_keys({'a': 1}, shuffled) == ['search.shuffled_alpha_labels']


def test_every_kept_arm_has_the_settings_of_its_study():
  """A change of a default or of a study cannot pass for the runs that are kept."""
  evidence = ROOT / 'docs' / 'evidence'
  folders = list(evidence.glob('*/runs'))
  assert folders
  for folder in folders:
    study = load_study(folder.parent.name)
    places = {arm: f'{study.name}/{arm}' for arm in {*study.arms, *study.closed_arms} | own_borrowed(study)}
    for arm, config in study.arms.items():
      kept_seeds(evidence, places[arm], config)  # raises if changed
    assert set(folder.glob('*.json')) == {file for place in places.values() for file in kept_files(evidence, place)}


def own_borrowed(study):
  """Returns the arms that another program wrote into the study's own folder."""
  return {arm for arm, place in study.borrowed.items() if place == f'{study.name}/{arm}'}


def test_changed_settings_of_a_kept_arm_are_refused(tmp_path):
  config, place = default(), 'mine/arm'
  assert not kept_seeds(tmp_path, place, config)
  keep(record_path(tmp_path, place), config, result={}, rows=[])
  config.parallel.cpu_devices = 2  # not a setting of the search
  assert kept_seeds(tmp_path, place, config) == [0]
  config.search.epochs = 7
  with pytest.raises(InputError, match=r'arm\.json was run with other settings \(search\.epochs\)'):
    kept_seeds(tmp_path, place, config)


@pytest.fixture
def searches_that_finish(monkeypatch):
  """Replaces the search by one of one epoch, in which seed 13 diverges; returns the (seed, seeds, folder) of each call.

  As in the real one, a row has its seed and member only if there are several.
  """
  calls = []

  def run_search(config, folder):
    seeds = seeds_of(config)
    calls.append((seeds.start, len(seeds), folder.name))
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps(config.to_dict()))
    (folder / 'environment.json').write_text(json.dumps({'cores': 2, 'commit': 'abc'}))
    if seeds == range(13, 14):
      raise NonFiniteLoss('the loss is no longer finite')
    rows = [
      ({'seed': seed, 'member': i} if len(seeds) > 1 else {}) | {'epoch': 0, 'seconds': 3.0, 'genotype': None}
      for i, seed in enumerate(seeds)
    ]
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    (folder / 'result.json').write_text(json.dumps({'dataset': 'cifar10', 'environment': {'cores': 2}}))

  monkeypatch.setattr('beta_darts_jax.run_search', run_search)
  return calls


def test_an_arm_runs_in_groups_of_seeds(tmp_path, searches_that_finish):
  """Groups are kept one by one; seeds that are kept do not run again, whatever the size of the group was."""
  config = with_seeds(default(), range(8, 13))
  study = a_study(arms={'own': config, 'other': config})
  runs, evidence = tmp_path / 'runs', tmp_path / 'evidence'
  assert run_arms(study, runs, evidence, arms=['own'], seeds=[9, 10], group=1)
  assert run_arms(study, runs, evidence, arms=['own'], group=2)
  assert searches_that_finish == [(9, 1, 'own.9-9'), (10, 1, 'own.10-10'), (8, 1, 'own.8-8'), (11, 2, 'own.11-12')]
  own = read_records(study, evidence)['own']
  assert list(own.searches) == [8, 9, 10, 11, 12] and own.environments == ({'cores': 2},)
  assert list(searches_table({'own': own}, None)['seconds']) == [3.0, 3.0, 3.0, 1.5, 1.5]
  for group in (range(9, 10), range(11, 13)):
    record_path(evidence, 'mine/own', group).rename(evidence / 'mine' / 'runs' / f'own.{group.start}.old.json')
  assert unfinished(study, read_records(study, evidence)) == (
    '**Not finished.** Searches so far: 2 of 5 of own, 0 of 5 of other.'
  )
  ended = dataclasses.replace(study, ended='Own is bad enough.')
  assert unfinished(ended, read_records(study, evidence)) == (
    '**Ended.** Own is bad enough. Searches: 2 of 5 of own, 0 of 5 of other.'
  )
  assert run_arms(study, tmp_path / 'again', evidence)
  assert searches_that_finish[4:] == [(9, 1, 'own.9-9'), (11, 2, 'own.11-12'), (8, 5, 'other')]
  assert unfinished(study, read_records(study, evidence)) == ''
  assert run_arms(study, runs, evidence, group=1) and len(searches_that_finish) == 7


def test_an_arm_without_a_chosen_seed_is_named(tmp_path, searches_that_finish, capsys):
  study = a_study(arms={'own': with_seeds(default(), range(3)), 'other': with_seeds(default(), range(5, 7))})
  assert run_arms(study, tmp_path / 'runs', tmp_path, seeds=[5])
  assert 'own: has the seeds 0 to 2, none of them chosen\n' in capsys.readouterr().out
  assert searches_that_finish == [(5, 1, 'other.5-5')]


def test_a_group_that_diverged_is_kept(tmp_path, searches_that_finish):
  study = a_study(arms={'own': with_seeds(default(), range(12, 15))})
  assert run_arms(study, tmp_path / 'runs', tmp_path, group=1) and len(searches_that_finish) == 3
  own = read_records(study, tmp_path)['own']
  assert own.searches[13] == [{'seed': 13, 'epoch': 0, 'genotype': None, 'seconds': 0.0}]
  assert own.environments == ({'cores': 2},)
  with pytest.raises(NonFiniteLoss):  # no seed of the arm is left
    run_arms(a_study(arms={'own': with_seeds(default(), range(13, 14))}), tmp_path / 'again', tmp_path / 'other')


def test_kept_seeds_of_another_arm_and_seeds_kept_twice_are_refused(tmp_path, searches_that_finish):
  study = a_study(arms={'own': with_seeds(default(), range(3))})
  run_arms(study, tmp_path / 'runs', tmp_path)
  with pytest.raises(InputError, match=r'own\.json was run with other settings \(search\.seed\)'):
    kept_seeds(tmp_path, 'mine/own', with_seeds(default(), range(1, 4)))
  config = with_seeds(study.arms['own'], range(1, 3))
  keep(record_path(tmp_path, 'mine/own', range(1, 3)), config, result={}, rows=[])
  with pytest.raises(InputError, match=r'own\.1-2\.json has seed 1, which another file of the arm has, too'):
    kept_seeds(tmp_path, 'mine/own', study.arms['own'])


def test_seeds_in_sequence_are_grouped():
  assert groups_of([3, 4, 5, 7, 8], 2) == [range(3, 5), range(5, 6), range(7, 9)]
  assert groups_of([], 2) == []


# ---- tables ----


def kept_arm(path, cells, space='nas_bench_201'):
  """Writes an arm of two searches (seeds 5 and 6) of four epochs each; a search keeps its cell."""
  betas = np.random.default_rng(len(cells[0])).dirichlet(np.ones(5), size=(2, 6))
  rows = [
    {'seed': seed, 'epoch': epoch, 'genotype': cell, 'betas': {'cell': beta.tolist()}, 'seconds': 2.0}
    for epoch in range(4)
    for seed, cell, beta in zip((5, 6), cells, betas, strict=True)
  ]
  result = {'dataset': 'cifar10', 'environment': {'device': 'cpu', 'versions': {'jax': '1.2.3'}}}
  path.parent.mkdir(parents=True, exist_ok=True)
  config = {'search': {'seed': 5}, 'space': {'name': space}}
  path.write_text(json.dumps({'config': config, 'result': result, 'rows': rows}))


def record(**changes):
  return Record(**{'config': {}, 'dataset': 'cifar10', 'environments': (), 'searches': {}, 'shares': {}} | changes)


def cells_of(text, *first):
  """The other cells of the Markdown row that begins with the cells `first`."""
  rows = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in text.splitlines() if line.startswith('|')]
  (found,) = [row for row in rows if tuple(row[: len(first)]) == first]
  return found[len(first) :]


def a_study(**changes):
  return Study(
    **{'name': 'mine', 'question': 'Which?', 'primary': 'percentile', 'arms': {'own': default()}, 'references': {}}
    | changes
  )


def test_the_pages_of_a_study_have_the_same_bytes_each_time(tmp_path, table, capsys):
  """A borrowed arm and an own arm in which one search diverged; written again, every file has the same bytes."""
  best, worst = str(table.optimum('cifar10_test')), min(map(str, table), key=lambda c: percentile(table, c))
  kept_arm(tmp_path / 'other' / 'runs' / 'theirs.json', (best, best))
  kept_arm(tmp_path / 'mine' / 'runs' / 'own.json', (worst, None))
  study = a_study(
    arms={'own': with_seeds(default(), range(5, 7)), 'missing': default()},
    references={'own': 'borrowed', 'missing': 'borrowed'},
    borrowed={'borrowed': 'other/theirs', 'away': 'elsewhere/arm'},
    closed_arms={'closed': '48735b7'},
    equivalence_pairs=(('own', 'borrowed'), ('own', 'missing')),
    equivalence_margin=1.0,
  )
  assert list(read_records(study, tmp_path)) == ['borrowed', 'own']
  write_pages(study, tmp_path, table)
  said = capsys.readouterr().out
  assert f'away: not in {tmp_path} yet; it comes from elsewhere/arm' in said
  assert f'closed: not in {tmp_path}; run by commit 48735b7, this version cannot run it' in said
  folder = tmp_path / 'mine'
  text = (folder / 'README.md').read_text()
  assert cells_of(text, 'borrowed', '2')[-3:] == ['', '', '']
  assert cells_of(text, 'own', '2')[-3:] == ['-100.00', 'borrowed', '']  # one pair has no p
  assert cells_of(text, 'own', '6', '') == ['`diverged`']
  assert cells_of(text, 'own', '6', '1 – 4')[-1] == 'diverged'
  assert cells_of(text, 'borrowed', '5', '1 – 4')[3] == '1'  # the rank of the optimum
  assert cells_of(text, 'own and borrowed')[0] == '2, 2' and 'own and missing' not in text
  assert '2 of 2 of own, 0 of 1 of missing.' in text and 'jax 1.2.3' in text
  assert cells_of(text, 'random cell')[0] == '50.00'
  csv = pd.read_csv(folder / 'searches.csv')
  assert list(csv.columns[:3]) == ['arm', 'seed', 'genotype'] and len(csv) == 4
  before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
  assert {path.name for path in before} == {'README.md', 'searches.csv', 'percentile.svg'}
  write_pages(study, tmp_path, table)
  assert all(path.read_bytes() == content for path, content in before.items())
  with pytest.raises(InputError, match='need the NAS-Bench-201 table'):
    write_pages(study, tmp_path, None)


def test_a_kept_run_is_an_arm_of_its_study(tmp_path, table, monkeypatch):
  """Two epochs of an unfinished search: the pages have its cells, epochs and distance beside what is published."""
  cell = measures.PUBLISHED
  rows = [{'epoch': epoch, 'genotype': cell, 'betas': {'cell': [[1.0]]}, 'seconds': 1.0} for epoch in range(2)]
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text(json.dumps(default().to_dict()))
  (tmp_path / 'run' / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  study = a_study(arms={}, closed_arms={'beta_darts_seed_0': '48735b7'})
  monkeypatch.setattr('studies.keep.load_study', lambda name: study)
  with pytest.raises(InputError, match='beta_darts_seed_0'):
    keep_run(tmp_path / 'run', 'mine/darts', tmp_path)
  keep_run(tmp_path / 'run', 'mine/beta_darts_seed_0', tmp_path)
  page = tmp_path / 'page.md'
  page.write_text(f'<!-- study mine: claims, epochs -->\n{END}\n')
  write_pages(study, tmp_path, table, (page,))
  text = page.read_text()
  assert cells_of(text, 'beta_darts_seed_0', '94.36, 73.51, 46.34')[1:] == ['1', '2 of 100', '0.00']
  assert cells_of(text, 'darts')[1] == 'not run'
  assert cells_of(text, 'beta_darts_seed_0', '0', '1 – 2')[4] == '0'


def test_write_pages_of_a_space_without_a_benchmark(tmp_path, table):
  cell = str(S2.random_genotype(np.random.default_rng(0)))
  kept_arm(tmp_path / 'mine' / 'runs' / 'own.json', (cell, cell), space='s2')
  skips = S2.parse(cell).normal.operations.count('skip_connect')
  for given in (None, table):
    write_pages(a_study(primary='parameter_free'), tmp_path, given)
    assert cells_of((tmp_path / 'mine' / 'README.md').read_text(), 'own', '5') == [f'{skips}.00', f'`{cell}`']
    assert not (tmp_path / 'mine' / 'percentile.svg').exists()


def test_equivalence_is_shown_only_below_the_margin():
  rng = np.random.default_rng(0)

  def arm(shift):
    betas = np.exp(rng.normal(size=(20, 6, 5)) + shift * np.arange(5))
    cells = {i: {'cell': (b / b.sum(-1, keepdims=True)).tolist()} for i, b in enumerate(betas)}
    return record(searches={i: [{'betas': cell}] for i, cell in cells.items()})

  records = {'one': arm(0), 'similar': arm(0), 'other': arm(2)}
  pairs = (('one', 'similar'), ('one', 'other'))
  study = a_study(arms=dict.fromkeys(records, default()), equivalence_pairs=pairs, equivalence_margin=1.0)
  text = equivalence_table(study, records)
  assert cells_of(text, 'one and similar', '20, 20')[2:4] == ['1.00', 'yes']
  assert cells_of(text, 'one and other', '20, 20')[2:] == ['1.00', 'not shown', '1e-04']


def test_provenance_names_arms_that_ran_in_one_place_together():
  one, two = ({'device': 'cpu', 'versions': {'jax': version}} for version in '12')
  a, b, c, both = (record(environments=places) for places in ((one,), (two,), (one,), (one, two)))
  assert provenance({'a': a, 'b': b, 'c': c}) == 'a and c: device cpu, jax 1; b: device cpu, jax 2'
  assert provenance({'a': a, 'c': c}) == 'device cpu, jax 1'
  assert provenance({'a': a, 'both': both}) == 'a and both: device cpu, jax 1; both: device cpu, jax 2'


def test_searches_table_divides_the_seconds_of_a_population():
  rows = {seed: [{'genotype': None, 'seconds': 2.0}] for seed in (5, 6)}
  alone, together = (record(searches=rows, shares=dict.fromkeys(rows, number)) for number in (1, 2))
  searches = searches_table({'alone': alone, 'together': together}, None)
  assert list(searches['seconds']) == [2.0, 2.0, 1.0, 1.0]


def test_the_parts_of_a_study_replace_the_text_between_its_marks():
  parts = {'summary': 'S', 'seeds': '', 'provenance': 'P'}
  text = 'a\n<!-- study one: provenance, summary -->\nold\n<!-- end of study -->\nb\n<!-- study two: x -->'
  expected = 'a\n<!-- study one: provenance, summary -->\n\nP\n\nS\n\n<!-- end of study -->\nb\n<!-- study two: x -->'
  assert fill_marks(text, 'one', parts, 'page') == fill_marks(expected, 'one', parts, 'page') == expected
  assert fill_marks(text, 'three', parts, 'page') == text
  with pytest.raises(InputError, match=r'page: .* unknown part all; expected summary, seeds, provenance'):
    fill_marks(text.replace('provenance, ', 'all, '), 'one', parts, 'page')
  with pytest.raises(InputError, match='has no <!-- end of study -->'):
    fill_marks(text, 'two', parts, 'page')


# ---- the command ----


@pytest.mark.full
def test_a_study_at_toy_size(tmp_path, monkeypatch, capsys):
  """Two arms of two seeds; the tables again without a run, to the same bytes; a second run finds every arm kept."""
  folders = ['--runs', f'{tmp_path}/runs', '--evidence', f'{tmp_path}/evidence']
  done = command('smoke', *folders)
  assert done.returncode == 0, done.stderr
  folder = tmp_path / 'evidence' / 'smoke'
  kept = {arm: json.loads((folder / 'runs' / f'{arm}.json').read_text()) for arm in ('beta_darts', 'darts')}
  assert [len(record['rows']) for record in kept.values()] == [6, 6]
  assert kept['darts']['config']['search']['beta_decay_weight'] == 0 and kept['darts']['result']['environment']
  searches = pd.read_csv(folder / 'searches.csv')
  assert list(zip(searches['arm'], searches['seed'], strict=True)) == [(arm, seed) for arm in kept for seed in (0, 1)]
  text = (folder / 'README.md').read_text()
  assert cells_of(text, 'beta_darts', '2')[-2] == 'darts' and cells_of(text, 'darts', '2')[-1] == ''
  csv = (folder / 'searches.csv').read_bytes()
  (folder / 'README.md').write_text(f'Written by hand.\n\n{text}'.replace('parameter_free', 'damaged'))
  monkeypatch.setattr('beta_darts_jax.set_up', lambda *_, **__: None)
  assert main(['smoke', *folders, '--tables-only']) == 0
  assert (folder / 'README.md').read_text() == f'Written by hand.\n\n{text}'
  assert (folder / 'searches.csv').read_bytes() == csv
  assert main(['smoke', *folders]) == 0 and capsys.readouterr().out.count('kept in') == 2


def test_a_study_asks_for_its_table_before_it_computes(tmp_path, monkeypatch, capsys):
  monkeypatch.delenv('NAS_BENCH_201_TABLE', raising=False)
  monkeypatch.setattr('studies.run.run_arms', lambda *_: pytest.fail('it computes'))
  assert main(['clock', '--runs', str(tmp_path / 'runs'), '--evidence', str(tmp_path / 'evidence')]) == 2
  said = capsys.readouterr().err
  assert said.startswith('error: the tables of clock need the NAS-Bench-201 table') and said.count('\n') == 1
  assert not list(tmp_path.iterdir())


def test_wrong_arms_and_groups_are_one_line(capsys):
  for options, line in (
    (['--arms', 'beta'], '--arms: unknown beta; expected some of beta_darts, darts'),
    (['--seeds', '0', '7'], '--seeds: unknown 7; expected some of 0, 1'),
    (['--group', '0'], '--group: expected at least 1, got 0'),
  ):
    assert main(['smoke', *options]) == 2
    assert capsys.readouterr().err == f'error: {line}\n'


def test_a_stopped_study_has_status_75(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr('studies.run.run_arms', lambda *_: False)
  monkeypatch.setattr('beta_darts_jax.set_up', lambda *_, **__: None)
  assert main(['smoke', '--runs', str(tmp_path), '--evidence', str(tmp_path)]) == 75
  assert 'the same command continues' in capsys.readouterr().err
