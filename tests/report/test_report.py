"""report.html and its figures, from made-up run folders; nothing is compiled."""

import fcntl
import html
import json
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest

from beta_darts_jax import NAS_BENCH_201, InputError, main, report
from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.report import figures
from beta_darts_jax.report.figures import Curve
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201 import DATASETS
from beta_darts_jax.spaces.published import PUBLISHED

DARTS_V2 = PUBLISHED['DARTS_V2']
CELL = '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|'
BETAS = np.random.default_rng(0).dirichlet(np.ones(5), size=(3, 6))  # [epoch, E, O]


def row(epoch, **more):
  known = {
    f'{d}_{what}': value
    for d in DATASETS
    for what, value in (('test', 90.0 + epoch), ('test_regret', 3.0), ('test_rank', 7))
  }
  return {
    'epoch': epoch, 'train_loss': 2.0 - epoch, 'train_accuracy': 0.5, 'valid_loss': 2.5, 'valid_accuracy': 0.25,
    'beta_decay_weight': float(epoch), 'learning_rate': 0.1, 'genotype': CELL, 'skips': 1, 'benchmark': known,
    'betas': {'cell': BETAS[epoch].tolist()}, 'seconds': 2.0, 'images_per_second': 100.0,
    'diagnostics': {'entropies': {'cell': [1.0] * 6}, 'eigenvalues': [0.5, -2.0], 'continuous_accuracy': 0.4},
  } | more  # fmt: skip


def made(folder, rows, result=None, config=None, tail=''):
  """A run folder."""
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps((config or default()).to_dict()))
  (folder / 'environment.json').write_text(json.dumps({'device': 'cpu', 'devices': 2, 'versions': {'jax': '1.2.3'}}))
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows) + tail)
  if result:
    (folder / 'result.json').write_text(json.dumps(result))
  return folder


def lone(folder, **more):
  rows = [row(epoch) for epoch in range(3)]
  result = {'genotype': CELL, 'epoch': 2, 'valid_accuracy': 0.25, 'benchmark': rows[-1]['benchmark']}
  result |= {'seconds': {'compile': 3.0, 'train': 6.0}, 'memory': {'host': 2**30}, 'baselines': {'optimum': 94.37}}
  return made(folder, rows, result | more)


class Page(HTMLParser):
  """What a page asks for from elsewhere, and its SVG elements."""

  def __init__(self, text):
    super().__init__()
    self.requests, self.scripts = [], 0
    self.feed(text)
    self.drawings = [ElementTree.fromstring(svg) for svg in re.findall(r'<svg.*?</svg>', text, flags=re.DOTALL)]

  def handle_starttag(self, tag, attrs):
    self.scripts += tag == 'script'
    self.requests += [v for name, v in attrs if name in ('src', 'href', 'xlink:href') and not v.startswith('#')]


def page(path):
  text = path.read_text()
  found = Page(text)
  assert not found.requests and not found.scripts and 'url(http' not in text and '@import' not in text
  return text, found


def test_a_search(tmp_path):
  path = report.write([lone(tmp_path / 'run<b>')])
  assert path == tmp_path / 'run<b>' / 'report.html'
  text, found = page(path)
  assert len(found.drawings) == 7
  for said in (CELL, '92.00 %, rank 7', '25.00 %', '2 × cpu', '1.00 GiB', '94.37', 'versions.jax 1.2.3', 'Finished.'):
    assert said in text, said
  assert 'run<b>' not in text and f'configs/again.py:{tmp_path}/run&lt;b&gt;' in text
  assert re.search(r'<tr>\s*<td>config.search.seed</td>', text)
  before = text
  assert report.write([tmp_path / 'run<b>']).read_text() == before


def test_a_running_search(tmp_path):
  """Epochs so far; what is being written is not read; without any epoch there is a page, too."""
  folder = made(tmp_path / 'run', [row(0)], tail='{"epoch": 1, "trai')
  text, _ = page(report.write([folder]))
  assert 'Not finished, and nobody works on it: 1 of 100 epochs' in text and CELL in text
  with open(folder / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert 'Running: 1 of 100 epochs. ' in page(report.write([folder]))[0]
  (folder / 'diverged.txt').write_text('the loss is <nan>\n')
  assert 'Diverged (the loss is &lt;nan&gt;): 1 of 100 epochs' in page(report.write([folder]))[0]
  config = default()
  config.search.epochs = 1
  text, _ = page(report.write([made(tmp_path / 'compares', [row(0)], config=config)]))
  assert '1 of 1 epochs, not yet what follows them. ' in text
  text, found = page(report.write([made(tmp_path / 'fresh', [])]))
  assert '0 of 100 epochs' in text and not found.drawings


def test_a_population(tmp_path):
  config = default()
  config.population.seeds = 10
  rows = [row(epoch, member=k, seed=k) for epoch in range(2) for k in range(10)]
  rows[-1] |= {'genotype': None, 'betas': None, 'benchmark': None, 'diagnostics': None, 'valid_accuracy': None}
  members = [
    {'member': k, 'seed': k, 'genotype': CELL, 'epoch': 1, 'beta_decay_weight': 5.0 * (k > 4)} for k in range(9)
  ]
  members.append({'member': 9, 'seed': 9, 'genotype': None, 'epoch': 1, 'beta_decay_weight': 5.0})
  folder = made(tmp_path / 'run', rows, {'members': members, 'settings': []}, config)
  text, found = page(report.write([folder]))
  assert '8 of 9 members are drawn.' in text and text.count('<details>') == 9 and 'diverged' in text
  assert len(found.drawings) == 8 * 2 + 5
  curves = report.curves_of(report.Run(folder), alone=True)
  assert [curve.label for curve in curves] == ['beta_decay_weight 0'] * 5 + ['beta_decay_weight 5'] * 5


def test_a_training_beside_a_search(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = default_retrain()
  config.genotype = str(DARTS_V2)
  rows = [
    {'epoch': e, 'train_loss': 1.0, 'test_accuracy': 0.5, 'learning_rate': 0.1, 'seconds': 1.0, 'images_per_second': 1}
    for e in (0, 1)
  ]
  result = {'genotype': str(DARTS_V2), 'test_accuracy': 0.5, 'parameters': 1234567}
  trained = made(tmp_path / 'trained', rows, result, config)
  text, found = page(report.write([trained]))
  assert '50.00 %' in text and '1,234,567' in text and len(found.drawings) == 2 + 2
  path = report.write([trained, lone(tmp_path / 'run')], png=True)
  assert str(path) == 'report.html'
  text, _ = page(path)
  assert 'Cell of trained' in text and 'Cell of run' in text
  drawn = {file.name for file in (tmp_path / 'report_figures').iterdir()}
  assert {'Cell_of_trained_1.png', 'Cell_of_trained_2.png', 'Losses_and_accuracies.png'} <= drawn


def test_bands_and_lines_have_the_numbers():
  rows = [row(epoch) for epoch in range(3)]
  axes = figures.betas(Curve('', rows), NAS_BENCH_201, 'cell').axes[4]
  tops = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
  sums = np.cumsum(np.concatenate([np.full((1, 5), 0.2), BETAS[:, 4]]), axis=1)  # [1 + epochs, O]
  for o, vertices in enumerate(tops):
    assert set(np.round(sums[:, o], 6)) <= set(np.round(vertices, 6))
  figure = figures.training([Curve('a', rows), Curve('b', rows[:2])])
  lines = figure.axes[0].get_lines()
  np.testing.assert_array_equal(lines[0].get_xydata(), [[1, 2.0], [2, 1.0], [3, 0.0]])
  assert lines[0].get_color() != figure.axes[0].get_lines()[-1].get_color()
  heights = [axes.get_lines()[-1].get_ydata()[0] for axes in figures.benchmark([Curve('a', rows[:1])]).axes]
  assert heights == [93.0] * 3
  assert figures.measured([Curve('a', [{'epoch': 0}])]) is None
  eigenvalues = figures.measured([Curve('a', rows)]).axes[1].get_lines()[0].get_ydata()
  np.testing.assert_array_equal(eigenvalues, [-2.0] * 3)


@pytest.mark.parametrize('genotype', [Genotype.parse(CELL), DARTS_V2], ids=['NAS-Bench-201', 'DARTS'])
def test_a_cell_has_an_arrow_an_edge_as_thick_as_its_strength(genotype):
  cell = genotype.normal
  strengths = [0.1 * (e + 1) for e in range(len(cell.edges))]
  axes = figures.cell(cell, strengths).axes[0]
  arrows = axes.patches[: len(cell.edges)]
  widths = np.array([arrow.get_linewidth() for arrow in arrows])
  np.testing.assert_allclose(widths - 0.8, 4 * np.array(strengths) / strengths[-1])
  assert len(axes.patches) == len(cell.edges) + len(cell.concat)
  texts = [text.get_text().replace('\n', '_') for text in axes.texts]
  assert sorted(cell.operations) == sorted(text for text in texts if '_' in text or text == 'none')


@pytest.mark.parametrize('genotype', [Genotype.parse(CELL), *PUBLISHED.values()], ids=['NAS-Bench-201', *PUBLISHED])
def test_every_label_is_on_its_arrow_and_every_arrow_in_the_picture(genotype):
  for cell in genotype.cells:
    figure = figures.cell(cell)
    figure.canvas.draw()
    axes = figure.axes[0]
    for arrow, text in zip(axes.patches, axes.texts[: len(cell.edges)], strict=False):
      path = arrow.get_path().transformed(axes.transData)
      assert path.intersects_bbox(text.get_window_extent(), filled=False), text.get_text()
      extents = path.get_extents()
      assert axes.bbox.x0 <= extents.x0 < extents.x1 <= axes.bbox.x1
      assert axes.bbox.y0 <= extents.y0 < extents.y1 <= axes.bbox.y1


def test_a_run_has_a_page_when_it_ends_stopped_or_finished(tmp_path, capsys):
  folder = made(tmp_path / 'run', [row(0)])
  page = folder / 'report.html'
  main.add_report(folder)
  assert 'Not finished' in page.read_text() and str(page) in capsys.readouterr().out
  os.utime(page, (1, 1))
  (folder / 'result.json').write_text(json.dumps({'genotype': CELL, 'seconds': {}}))
  main.add_report(folder)
  assert 'Finished' in page.read_text() and str(page) in capsys.readouterr().out
  before = page.stat().st_mtime_ns
  main.add_report(folder)
  assert page.stat().st_mtime_ns == before
  page.unlink()
  with mock.patch('beta_darts_jax.report.page.write', side_effect=KeyboardInterrupt):  # while it is written
    main.add_report(folder)
  assert capsys.readouterr().err == 'no report: interrupted\n' and not page.exists()


@pytest.mark.parametrize('name', ['with space', "a<b>&'q", '$x$', 'x$\\foo$y', '_'])
def test_names_of_runs_are_names(tmp_path, name):
  folder = lone(tmp_path / name)
  text, _ = page(report.write([folder, lone(tmp_path / 'other' / 'run')], out=tmp_path / 'page.html'))
  command = html.unescape(re.search(r'python -m beta_darts_jax.main.*', text)[0].split('</')[0])
  assert shlex.split(command)[4:] == [f'configs/again.py:{folder}', '--workdir', f'{folder}-again']
  text, _ = page(report.write([folder, lone(tmp_path / 'other' / name)], out=tmp_path / 'page.html'))
  assert str(tmp_path / 'other') in html.unescape(re.search('<title>(.*)</title>', text)[1])


def test_a_legend_names_what_is_drawn():
  rows = [row(epoch) for epoch in range(3)]
  trained = [{'epoch': epoch, 'train_loss': 1.0, 'test_loss': 2.0} for epoch in range(3)]
  curves = [Curve('search', rows), Curve('other', rows), Curve('training', trained)]
  names = lambda figure: [text.get_text() for text in figure.legends[0].get_texts()]
  assert names(figures.architecture(curves)) == ['search', 'other']
  assert names(figures.training(curves)) == ['search', 'other', 'training']


def test_a_run_with_operations_of_its_own_is_repeated_from_its_config_file(tmp_path):
  search, training = default(), default_retrain()
  search.space.operations = ('none', 'turn', 'nor_conv_1x1', 'shift', 'avg_pool_3x3')
  training.genotype = CELL.replace('nor_conv_3x3', 'shift').replace('skip_connect', 'turn')
  for config, rows in ((search, [row(0, genotype=training.genotype)]), (training, [])):
    folder = made(tmp_path / config.task, rows, config=config)
    text, _ = page(report.write([folder]))
    assert f'--config FILE --workdir {folder}-again  # the config file adds shift, turn' in text
    assert 'again.py' not in text
    (folder / 'environment.json').write_text(
      '{"devices": 1, "device": "cpu", "command": "python -m this --config own.py"}'
    )
    text, _ = page(report.write([folder]))
    assert f'own.py --workdir {folder}-again' in text and f'own.py --workdir {folder}  #' in text  # to go on with it


@pytest.mark.parametrize(
  'file, content',
  [
    ('config.json', '[]'),
    ('config.json', '{"task": "search"}'),
    ('environment.json', '{"a'),
    ('result.json', '[1]'),
    ('result.json', '{}'),
    ('metrics.jsonl', '3\n'),
    ('metrics.jsonl', '{}\n'),
    ('metrics.jsonl', b'\xff\n'),
  ],
)
def test_damaged_files_are_named(tmp_path, file, content):
  (lone(tmp_path / 'run') / file).write_bytes(content if isinstance(content, bytes) else content.encode())
  with pytest.raises(InputError, match=f'{file} is damaged'):
    report.write([tmp_path / 'run'])


@pytest.mark.parametrize(
  'file, content',
  [
    ('config.json', {'task': 'search', 'search': {}, 'space': {}, 'data': []}),
    ('config.json', {'task': ['search'], 'search': {}, 'space': {}, 'data': {}}),
    ('environment.json', {'x': 1}),
    ('result.json', {'members': [{}]}),
    ('result.json', {'genotype': CELL, 'epoch': 99, 'seconds': {}}),
    ('metrics.jsonl', {'epoch': 'x'}),
  ],
)
def test_files_that_say_something_else_are_one_line(tmp_path, file, content):
  (lone(tmp_path / 'run') / file).write_text(json.dumps(content) + '\n')
  with pytest.raises(InputError, match=r'run\b.* is damaged') as refused:
    report.write([tmp_path / 'run'])
  assert '\n' not in str(refused.value) and not list(tmp_path.glob('run/*report*'))


def test_a_finished_run_without_rows_is_no_page(tmp_path):
  (lone(tmp_path / 'run') / 'metrics.jsonl').unlink()
  with pytest.raises(InputError, match=r'its metrics\.jsonl has no rows'):
    report.write([tmp_path / 'run'])


def test_figures_of_names_alike_are_files_of_their_own(tmp_path):
  report.write([lone(tmp_path / 'a-b'), lone(tmp_path / 'a_b')], out=tmp_path / 'page.html', png=True)
  names = [file.name for file in (tmp_path / 'page_figures').iterdir()]
  assert len([name for name in names if name.startswith('Cell')]) == 2 and all(name.isascii() for name in names)


def test_mistakes_get_one_line(tmp_path):
  with pytest.raises(InputError, match='is not the folder of a run'):
    report.write([tmp_path])
  broken = made(tmp_path / 'broken', [row(0)], tail='}\n')
  with pytest.raises(InputError, match=r'metrics\.jsonl is damaged'):
    report.write([broken])
  for arguments in (
    ['--report', 'none'],
    ['--report', 'a', '--workdir', 'b'],
    ['--png', '--config', 'configs/digits.py'],
  ):
    done = subprocess.run(
      [sys.executable, '-m', 'beta_darts_jax.main', *arguments], capture_output=True, text=True, cwd='.'
    )
    assert done.returncode == 2 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
