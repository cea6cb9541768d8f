"""report.html of run folders in every state."""

import fcntl
import html
import json
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from example_run import CELL, make_folder, make_row, make_search

from beta_darts_jax import InputError, report
from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.report.run_folder import read_run_folder
from beta_darts_jax.report.sections import curves_of
from beta_darts_jax.spaces.published import PUBLISHED

DARTS_V2 = PUBLISHED['DARTS_V2']


class Page(HTMLParser):
  """The requests of a page to other files, its scripts and its SVG elements."""

  def __init__(self, text):
    super().__init__()
    self.requests, self.num_scripts = [], 0
    self.feed(text)
    self.drawings = [ElementTree.fromstring(svg) for svg in re.findall(r'<svg.*?</svg>', text, flags=re.DOTALL)]

  def handle_starttag(self, tag, attrs):
    self.num_scripts += tag == 'script'
    links = [value for name, value in attrs if name in ('src', 'href', 'xlink:href')]
    self.requests += [link for link in links if not link.startswith('#')]


def read_page(path):
  """Returns the text of a page and the parsed page, which must load nothing from elsewhere."""
  text = path.read_text()
  page = Page(text)
  assert not page.requests and not page.num_scripts and 'url(http' not in text and '@import' not in text
  return text, page


def test_page_of_a_search(tmp_path):
  path = report.write([make_search(tmp_path / 'run<b>')])
  assert path == tmp_path / 'run<b>' / 'report.html'
  text, page = read_page(path)
  assert len(page.drawings) == 7
  for part in (CELL, '92.00 %, rank 7', '25.00 %', '2 × cpu', '1.00 GiB', '94.37', 'versions.jax 1.2.3', 'Finished.'):
    assert part in text, part
  assert 'run<b>' not in text and f'configs/again.py:{tmp_path}/run&lt;b&gt;' in text
  assert re.search(r'<tr>\s*<td>config.search.seed</td>', text)


def test_page_is_deterministic(tmp_path):
  folder = make_search(tmp_path / 'run')
  assert report.write([folder]).read_bytes() == report.write([folder]).read_bytes()


def test_page_of_an_unfinished_search_shows_the_epochs_so_far(tmp_path):
  folder = make_folder(tmp_path / 'run', [make_row(0)], unfinished_line='{"epoch": 1, "trai')
  text, _ = read_page(report.write([folder]))
  assert 'Interrupted after epoch 1 of 100.' in text and CELL in text
  with open(folder / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert 'Running, after epoch 1 of 100.' in read_page(report.write([folder]))[0]
  (folder / 'diverged.txt').write_text('the loss is <nan>\n')
  assert 'Diverged (the loss is &lt;nan&gt;) after epoch 1 of 100.' in read_page(report.write([folder]))[0]


def test_page_of_a_run_without_epochs_or_without_result(tmp_path):
  config = default()
  config.search.epochs = 1
  text, _ = read_page(report.write([make_folder(tmp_path / 'last epoch', [make_row(0)], config=config)]))
  assert 'Interrupted after epoch 1 of 1. The final result is missing.' in text
  text, page = read_page(report.write([make_folder(tmp_path / 'new', [])]))
  assert 'before the end of epoch 1 of 100.' in text and not page.drawings


def test_page_of_a_population_folds_the_members(tmp_path):
  config = default()
  config.population.seeds = 10
  rows = [make_row(epoch, member=k, seed=k) for epoch in range(2) for k in range(10)]
  rows[-1] |= dict.fromkeys(['genotype', 'betas', 'benchmark', 'diagnostics', 'valid_accuracy'])  # member 9 diverged
  members = [
    {'member': k, 'seed': k, 'genotype': CELL if k < 9 else None, 'epoch': 1, 'beta_decay_weight': 5.0 * (k > 4)}
    for k in range(10)
  ]
  folder = make_folder(tmp_path / 'run', rows, {'members': members, 'settings': []}, config)
  text, page = read_page(report.write([folder]))
  assert 'The page shows 8 of 9 members.' in text and 'diverged' in text
  assert text.count('<details>') == 8 + 1  # members, and the settings of the run
  assert len(page.drawings) == 8 * 2 + 5
  labels = [curve.label for curve in curves_of(read_run_folder(folder), is_alone=True)]
  assert labels == ['beta_decay_weight 0'] * 5 + ['beta_decay_weight 5'] * 5


def make_retraining(path):
  config = default_retrain()
  config.genotype = str(DARTS_V2)
  rows = [
    {'epoch': e, 'train_loss': 1.0, 'test_accuracy': 0.5, 'learning_rate': 0.1, 'seconds': 1.0, 'images_per_second': 1}
    for e in range(2)
  ]
  result = {'genotype': str(DARTS_V2), 'test_accuracy': 0.5, 'parameters': 1234567}
  return make_folder(path, rows, result, config)


def test_page_of_a_retraining(tmp_path):
  text, page = read_page(report.write([make_retraining(tmp_path / 'run')]))
  assert '50.00 %' in text and '1,234,567' in text and len(page.drawings) == 2 + 2


def test_page_of_several_runs_with_png_files(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = report.write([make_retraining(tmp_path / 'trained'), make_search(tmp_path / 'run')], png=True)
  assert str(path) == 'report.html'
  text, page = read_page(path)
  assert 'Cell of trained' in text and 'Cell of run' in text
  files = sorted(file.name for file in report.figures_folder(path).iterdir())
  assert len(files) == len(page.drawings)
  assert files[:4] == ['01_cell.png', '02_cell.png', '03_cell.png', '04_betas.png']


@pytest.mark.parametrize(
  'name', ["a<b>&'q $x$", *(pytest.param(name, marks=pytest.mark.full) for name in ('with space', 'x$\\foo$y', '_'))]
)
def test_names_of_runs_may_have_any_characters(tmp_path, name):
  folder = make_search(tmp_path / name)
  text, _ = read_page(report.write([folder, make_search(tmp_path / 'other' / 'run')], out=tmp_path / 'page.html'))
  command = html.unescape(re.search(r'python -m beta_darts_jax.main.*', text)[0].split('</')[0])
  assert shlex.split(command)[4:] == [f'configs/again.py:{folder}', '--workdir', f'{folder}-again']
  text, _ = read_page(report.write([folder, make_search(tmp_path / 'other' / name)], out=tmp_path / 'page.html'))
  assert str(tmp_path / 'other') in html.unescape(re.search('<title>(.*)</title>', text)[1])


def test_command_of_a_run_with_own_parts_uses_its_config_file(tmp_path):
  search, training = default(), default_retrain()
  search.space.operations = ('none', 'turn', 'nor_conv_1x1', 'shift', 'avg_pool_3x3')
  training.genotype = CELL.replace('nor_conv_3x3', 'shift').replace('skip_connect', 'turn')
  for config, rows in ((search, [make_row(0, genotype=training.genotype)]), (training, [])):
    folder = make_folder(tmp_path / config.task, rows, config=config)
    text, _ = read_page(report.write([folder]))
    assert f'--config FILE --workdir {folder}-again  # the config file adds shift, turn' in text
    assert 'again.py' not in text
    environment = {'devices': 1, 'device': 'cpu', 'command': 'python -m this --config own.py'}
    (folder / 'environment.json').write_text(json.dumps(environment))
    text, _ = read_page(report.write([folder]))
    assert f'own.py --workdir {folder}-again' in text  # repeats the run
    assert f'own.py --workdir {folder}  #' in text  # resumes the run
  search = default()
  search.search.regularizers, search.search.alpha_optimizer = ('beta_decay', 'spread'), 'alpha_lion'
  text, _ = read_page(report.write([make_folder(tmp_path / 'parts', [make_row(0)], config=search)]))
  assert 'the config file adds alpha_lion, spread' in text and 'again.py' not in text


@pytest.mark.parametrize('file, content', [('result.json', b'{"genotype'), ('metrics.jsonl', b'{"epoch": 0}\n\xff\n')])
def test_file_that_is_not_json_is_named(tmp_path, file, content):
  folder = make_search(tmp_path / 'run')
  (folder / file).write_bytes(content)
  with pytest.raises(InputError, match=rf'run/{file} is damaged: expected'):
    report.write([folder])


def test_folder_without_a_run_and_page_that_cannot_be_written_raise(tmp_path):
  with pytest.raises(InputError, match=r'is not a run folder: it has no config\.json'):
    report.write([tmp_path])
  folder = make_search(tmp_path / 'run')
  with pytest.raises(InputError, match=r'cannot write .*: it is a folder'):
    report.write([folder], out=tmp_path)
  with pytest.raises(InputError, match=r'cannot write .*: No such file or directory'):
    report.write([folder], out=tmp_path / 'missing' / 'page.html')


@pytest.mark.parametrize('library', ['matplotlib', 'jinja2'])
def test_missing_library_raises_with_the_command_that_installs_it(tmp_path, monkeypatch, library):
  monkeypatch.setitem(sys.modules, library, None)
  with pytest.raises(InputError, match=r"pip install 'beta-darts-jax\[report\]'"):
    report.write([make_search(tmp_path / 'run')])


def test_package_is_imported_without_matplotlib_and_jinja2():
  """A search must work without the extra [report]."""
  code = (
    'import sys; import beta_darts_jax.report, beta_darts_jax.main, beta_darts_jax.search.run;'
    'assert not {"matplotlib", "jinja2"} & set(sys.modules)'
  )
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_page_says_what_was_read(tmp_path):
  path = make_search(tmp_path / 'run')
  part = {'images': 1000, 'of_each_class': [400, 600]}
  facts = {'image_shape': [8, 8, 1], 'classes': ['cat', 'dog'], 'train': part, 'test': part | {'images': 50}}
  environment = {'device': 'cpu', 'devices': 1, 'data': facts | {'mean': [0.5], 'std': [0.2], 'pixels': [0, 255]}}
  (path / 'environment.json').write_text(json.dumps(environment))
  text, _ = read_page(report.write([path]))
  assert '1,000 training and 50 test images of 8×8×1, pixels 0 … 255, mean 0.500, std 0.200; 2 classes, ' in text
  assert 'sha256' not in text and 'of_each_class' not in text
