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
from example_run import CELL, make_folder, make_population, make_retraining, make_row, make_search

from beta_darts_jax import InputError, report
from beta_darts_jax.config import default, default_retrain
from beta_darts_jax.report.run_folder import read_run_folder
from beta_darts_jax.report.sections import curves_of
from beta_darts_jax.report.tables import command, compare_runs
from beta_darts_jax.report.verdict import find_collapse, verdict
from beta_darts_jax.spaces.published import PUBLISHED

COLLAPSED = CELL.replace('nor_conv_1x1', 'skip_connect')


class Page(HTMLParser):
  """The requests of a page to other files, and its SVG elements."""

  def __init__(self, text):
    super().__init__()
    self.requests = []
    self.feed(text)
    self.drawings = [ElementTree.fromstring(svg) for svg in re.findall(r'<svg.*?</svg>', text, flags=re.DOTALL)]

  def handle_starttag(self, tag, attrs):
    links = [value for name, value in attrs if name in ('src', 'xlink:href') or (name == 'href' and tag != 'a')]
    self.requests += [link for link in links if not link.startswith('#')]


def read_page(path):
  """Returns the text of a page and the parsed page, which must load nothing from elsewhere."""
  text = path.read_text()
  page = Page(text)
  assert not page.requests and 'url(http' not in text and '@import' not in text
  return text, page


def test_page_of_a_search(tmp_path):
  path = report.write([make_search(tmp_path / 'run<b>')])
  assert path == tmp_path / 'run<b>' / 'report.html'
  text, page = read_page(path)
  assert report.write([path.parent]).read_text() == text  # the same bytes each time
  num_panels = {'cell': 1, 'edges': 6, 'benchmark': 3, 'other curves': 11}
  assert len(page.drawings) == sum(num_panels.values())
  for part in (CELL, '92.00 %, rank 7', '25.00 %', '2 × cpu', '1.00 GiB', '95.0', 'versions.jax 1.2.3', 'Finished'):
    assert part in text, part
  assert 'run<b>' not in text and f'again:{tmp_path}/run&lt;b&gt;' in text
  assert re.search(r'<tr>\s*<td>config.search.seed</td>', text)
  edge, *_ = (title.text for drawing in page.drawings for title in drawing.iter('{http://www.w3.org/2000/svg}title'))
  assert re.fullmatch(r'in → 1: nor_conv_3x3, β 0\.\d+, (leads|is behind) .+', edge)


# ---- the verdict ----

RETRAINED = {'found': {'test_accuracy': 0.972}, 'random': [{'test_accuracy': value} for value in (0.98, 0.97, 0.96)]}


def verdict_of(path, result=None, **changes):
  """The verdict on a run with three rows on digits and a result."""
  config = default()
  config.data.source = changes.pop('source', 'cifar10')
  rows = [make_row(epoch, **changes) for epoch in range(3)]
  return verdict(read_run_folder(make_folder(path, rows, result, config))).text


def test_the_verdict_with_a_table_has_the_rank_the_best_of_50_and_the_optimum(tmp_path):
  folder = make_search(tmp_path / 'run')
  text = '92.00 %, rank 7 of 15,625 (top 0.04 %), above best-of-50 (91.63), optimum 95.00'
  assert verdict(read_run_folder(folder)).text == text
  (folder / 'result.json').unlink()
  assert verdict(read_run_folder(folder)).text == (
    'Interrupted after epoch 3 of 100. So far: 92.00 %, rank 7 of 15,625 (top 0.04 %), optimum 95.00'
  )


def test_the_verdict_without_a_table_compares_the_retrained_cell_with_the_random_cells(tmp_path):
  result = {'genotype': CELL, 'epoch': 2, 'retrain': RETRAINED, 'dataset': 'digits'}
  text = verdict_of(tmp_path / 'retrained', result, benchmark=None, source='digits')
  assert text == '97.20 % after retraining, above 2 of 3 random cells (96.00 … 98.00 %)'
  result['retrain'] = RETRAINED | {'random': RETRAINED['random'][:1]}
  text = verdict_of(tmp_path / 'one', result, benchmark=None, source='digits')
  assert text == '97.20 % after retraining, not above the random cell (98.00 %)'
  result = {'genotype': CELL, 'epoch': 2, 'valid_accuracy': 0.9}
  text = verdict_of(tmp_path / 'not retrained', result, benchmark=None, source='digits')
  assert 'not known' in text and '90' not in text  # the accuracy of the supernet is no verdict


def test_the_verdict_on_a_population_has_the_mean_of_the_best_and_of_the_worst_setting(tmp_path):
  text = verdict(read_run_folder(make_population(tmp_path / 'run'))).text
  assert text == (
    '91.15 ± 0.13 % (n = 4) with beta_decay_weight 5, the best of 2 settings; '
    '90.20 ± 0.16 % (n = 5) with beta_decay_weight 0; optimum 94.00'
  )
  folder = make_population(tmp_path / 'with baselines', baselines={'best_of_50_by_validation': 93.0})
  assert '; not above best-of-50 (93.00); optimum' in verdict(read_run_folder(folder)).text


def test_runs_are_compared_by_mean_and_spread_of_their_members(tmp_path):
  folders = [make_population(tmp_path / 'population'), make_search(tmp_path / 'single')]
  population, single = compare_runs([read_run_folder(folder) for folder in folders])
  assert (population['cifar10 test, %'], single['cifar10 test, %']) == ('90.62 ± 0.52', '92.00')
  assert {'cifar100 test, %', 'imagenet16_120 test, %'} <= single.keys()


@pytest.mark.parametrize(
  'cell, warnings', [(CELL, []), (COLLAPSED, ['most operations of the cell have no weights: 4 of 6.'])]
)
def test_a_cell_whose_operations_have_mostly_no_weights_gets_a_warning(cell, warnings, tmp_path):
  rows = [make_row(0, genotype=cell)]
  assert find_collapse(read_run_folder(make_folder(tmp_path / 'running', rows))) == []
  assert find_collapse(read_run_folder(make_folder(tmp_path / 'run', rows, {'genotype': cell, 'epoch': 0}))) == warnings
  members = [{'member': k, 'seed': k, 'genotype': text, 'epoch': 0} for k, text in enumerate((CELL, cell))]
  rows = [make_row(0, member=k, genotype=member['genotype']) for k, member in enumerate(members)]
  population = read_run_folder(make_folder(tmp_path / 'population', rows, {'members': members}))
  assert find_collapse(population) == (['in 1 of 2 cells most operations have no weights.'] if warnings else [])


def test_a_published_cell_or_chain_gets_no_warning(tmp_path):
  """Except that of AmoebaNet, in which six of ten operations have no weights."""
  for name in PUBLISHED.keys() - {'AMOEBANET'}:
    result = {'genotype': str(PUBLISHED[name]), 'epoch': 0}
    assert find_collapse(read_run_folder(make_folder(tmp_path / name, [make_row(**result)], result))) == []


# ---- pages ----


def test_page_of_an_unfinished_search_shows_the_epochs_so_far(tmp_path):
  folder = make_folder(tmp_path / 'run', [make_row(0)], unfinished_line='{"epoch": 1, "trai')
  text, _ = read_page(report.write([folder]))
  assert 'Interrupted after epoch 1 of 100.' in text and CELL in text
  with open(folder / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert verdict(read_run_folder(folder)).text.startswith('Running, after epoch 1 of 100. So far: 90.00 %')
  (folder / 'diverged.txt').write_text('the loss is <nan>\n')
  text = verdict(read_run_folder(folder)).text
  assert text.startswith('Diverged (the loss is <nan>) after epoch 1 of 100. So far: 90.00 %')


def test_page_of_a_run_without_epochs_or_without_result(tmp_path):
  config = default()
  config.search.epochs = 1
  text, _ = read_page(report.write([make_folder(tmp_path / 'last epoch', [make_row(0)], config=config)]))
  assert 'Interrupted after epoch 1 of 1. The final result is missing.' in text
  text, page = read_page(report.write([make_folder(tmp_path / 'new', [])]))
  assert 'before the end of epoch 1 of 100.' in text and not page.drawings


def test_page_of_a_population_has_the_values_and_cells_and_folds_the_leads(tmp_path):
  folder = make_population(tmp_path / 'run')
  text, page = read_page(report.write([folder]))
  assert 'The page shows the first 8 members' in text and 'diverged' in text
  assert text.count('<details>') == 8 + 1  # members, and the settings of the run
  assert len(page.drawings) == 1 + 1 + 8 * (1 + 6) + 3 + 11
  assert 'cost of the cell, M parameters' in text and '1 of at most 3 M parameters, expected 2' in text
  labels = [curve.label for curve in curves_of(read_run_folder(folder), is_alone=True)]
  assert labels == ['beta_decay_weight 0'] * 5 + ['beta_decay_weight 5'] * 5


def test_page_of_a_retraining(tmp_path):
  text, page = read_page(report.write([make_retraining(tmp_path / 'run')]))
  assert '50.00 % test accuracy' in text and '1,234,567' in text and len(page.drawings) == 2 + 5


def test_page_of_several_runs_with_png_files(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = report.write([make_retraining(tmp_path / 'trained'), make_search(tmp_path / 'run')], png=True)
  assert str(path) == 'report.html'
  text, page = read_page(path)
  assert 'trained: the normal cell.' in text and 'run: the cell of epoch 3.' in text
  assert re.search(
    r'data-name="config\.">task</td>\s*<td data-name="trained">retrain</td>\s*<td data-name="run">search', text
  )
  files = sorted(file.name for file in report.figures_folder(path).iterdir())
  assert len(files) == len(page.drawings)
  assert files[:4] == ['01_cell.png', '02_cell.png', '03_cell.png', '04_leads.png']


@pytest.mark.parametrize(
  'name', ["a<b>&'q $x$", *(pytest.param(name, marks=pytest.mark.full) for name in ('with space', 'x$\\foo$y', '_'))]
)
def test_names_of_runs_may_have_any_characters(tmp_path, name):
  folder = make_search(tmp_path / name)
  text, _ = read_page(report.write([folder, make_search(tmp_path / 'other' / 'run')], out=tmp_path / 'page.html'))
  again = html.unescape(re.search('beta-darts search .*', text)[0].split('</')[0])
  assert shlex.split(again)[3:] == [f'again:{folder}', '--workdir', f'{folder}-again']
  text, _ = read_page(report.write([folder, make_search(tmp_path / 'other' / name)], out=tmp_path / 'page.html'))
  assert str(tmp_path / 'other') in html.unescape(re.search('<title>(.*)</title>', text)[1])


def test_command_of_a_run_with_own_parts_uses_its_config_file(tmp_path):
  search, training, parts = default(), default_retrain(), default()
  search.space.operations = ('none', 'turn', 'nor_conv_1x1', 'shift', 'avg_pool_3x3')
  training.genotype = CELL.replace('nor_conv_3x3', 'shift').replace('skip_connect', 'turn')
  parts.search.regularizers, parts.search.alpha_optimizer = ('beta_decay', 'spread'), 'alpha_lion'
  runs = {
    'search': (search, 'shift, turn'),
    'retrain': (training, 'shift, turn'),
    'parts': (parts, 'alpha_lion, spread'),
  }
  for name, (config, own) in runs.items():
    folder = make_folder(tmp_path / name, [], config=config)
    text = command(read_run_folder(folder), 'again')
    task = config.task
    assert text == f'beta-darts {task} --config FILE --workdir again  # the config file adds {own}'
    environment = {'devices': 1, 'device': 'cpu', 'command': 'python -m this --config own.py'}
    (folder / 'environment.json').write_text(json.dumps(environment))
    text = command(read_run_folder(folder), 'again')
    assert text == f'python -m this --config own.py --workdir again  # the config file adds {own}'


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
    'import sys; import beta_darts_jax.report, beta_darts_jax.command.line, beta_darts_jax.search.run;'
    'assert not {"matplotlib", "jinja2"} & set(sys.modules)'
  )
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_page_says_what_was_read_and_by_which_program(tmp_path):
  path = make_search(tmp_path / 'run')
  part = {'images': 1000, 'of_each_class': [400, 600]}
  facts = {'image_shape': [8, 8, 1], 'classes': ['cat', 'dog'], 'train': part, 'test': part | {'images': 50}}
  kept = {'started': '2026-02-03T04:05:06+00:00', 'version': '9.8.7', 'commit': 'abc123'}
  environment = kept | {
    'warnings': ['α moves by <b>'],
    'device': 'cpu',
    'devices': 1,
    'data': facts | {'mean': [0.5], 'std': [0.2], 'pixels': [0, 255]},
  }
  (path / 'environment.json').write_text(json.dumps(environment))
  text, _ = read_page(report.write([path]))
  assert '1,000 training and 50 test images of 8×8×1, pixels 0 … 255, mean 0.500, std 0.200; 2 classes, ' in text
  assert 'sha256' not in text and 'of_each_class' not in text
  assert text.index('rank 7 of') < text.index('Warning: α moves by &lt;b&gt;') < text.index('<dt>')
  assert all(f'<dd>{value}</dd>' in text for value in ('2026-02-03 04:05', '9.8.7', 'abc123', '0:00:09'))


# ---- several pages ----


def test_index_of_a_folder_has_a_row_and_the_cells_of_each_run(tmp_path):
  report.write([make_search(tmp_path / 'a b')])
  make_retraining(tmp_path / 'trained')
  (make_search(tmp_path / 'damaged') / 'result.json').write_text('{')
  report.write([make_search(tmp_path / 'more' / 'c')])
  make_folder(tmp_path / 'more' / 'c' / 'copy', [])  # in a run, so it is not a run of the folder
  (tmp_path / 'more' / 'config.json').write_text('{"model": {"task": 1}}')  # of another program
  (tmp_path / 'vit').mkdir()
  (tmp_path / 'vit' / 'config.json').write_text('{"task": "classification"}')  # likewise
  (make_search(tmp_path / 'cut') / 'config.json').write_text('{"task": "sea')
  for name, space in (('other space', {'name': 'mine'}), ('other key', {'name': 's1', 'depth': 3})):
    config = json.loads((make_search(tmp_path / name) / 'config.json').read_text())
    (tmp_path / name / 'config.json').write_text(json.dumps(config | {'space': space}))
  path = report.write([tmp_path])
  assert path == tmp_path / 'index.html'
  text, page = read_page(path)
  links = [('a%20b/report.html', 'a b'), ('more/c/report.html', 'more/c')]
  assert re.findall('<a href="(.*?)">(.*?)</a>', text) == links
  assert len(page.drawings) == 2 * 1 + 2 and 'copy' not in text
  assert 'damaged/result.json is damaged' in text and 'cut/config.json is damaged' in text
  for name in ('other space', 'other key'):
    assert f'{name}: this version does not know the search space of the run' in text


def test_watched_page_loads_itself_again_until_the_run_ends(tmp_path, monkeypatch):
  folder = make_folder(tmp_path / 'run', [])
  monkeypatch.setattr('beta_darts_jax.report.page.time.sleep', lambda _: lock.close())
  with open(folder / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    texts = [page.read_text() for page in report.watch([folder])]
  assert ['location.reload' in text for text in texts] == [True, False]
