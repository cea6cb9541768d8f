"""What README and docs say is so: their code runs, and what they name exists."""

import ast
import importlib.util
import json
import pathlib
import re
import shlex
import tomllib
import typing

import pytest

import beta_darts_jax as bd
from beta_darts_jax.config import DEFAULTS, keys_of
from beta_darts_jax.config.check import check
from beta_darts_jax.config.schema import varied_keys
from beta_darts_jax.runtime.logs import Diagnostics, Row

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {
  str(path.relative_to(ROOT)): path
  for path in [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
}
BLOCK = re.compile(r'^(?P<mark><!-- not run: needs [^\n]* -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```', re.M | re.S)
REGISTRIES = (
  bd.OPERATIONS,
  bd.REGULARIZERS,
  bd.RELAXATIONS,
  bd.PERTURBATIONS,
  bd.HYPERGRADIENTS,
  bd.LOGGERS,
  bd.OPTIMIZERS,
  bd.SCALARS,
  bd.SCHEDULES,
)
OWN = ('own_operation', 'own_regularizer', 'own_relaxation', 'own_optimizer')


def blocks(page: str, language: str) -> list[str]:
  """The fenced blocks of a page in a language, without those that are marked as not run."""
  found = BLOCK.finditer(PAGES[page].read_text())
  return [match['code'] for match in found if match['language'] == language and not match['mark']]


PAGES_WITH_PYTHON, PAGES_WITH_COMMANDS = (
  [page for page in PAGES if blocks(page, language)] for language in ('python', 'sh')
)
in_every_page = pytest.mark.parametrize('page', PAGES)


def prose(page: str) -> str:
  """A page without its fenced blocks."""
  return BLOCK.sub('', PAGES[page].read_text())


def load_config(name: str, *arguments):
  """The checked config of a file in configs/."""
  spec = importlib.util.spec_from_file_location(name, ROOT / 'configs' / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return check(module.get_config(*arguments))


@pytest.fixture(autouse=True)
def registries():
  """Forgets what a page or a config file registers."""
  before = [dict(registry) for registry in REGISTRIES]
  yield
  for registry, entries in zip(REGISTRIES, before, strict=True):
    registry.clear()
    registry.update(entries)


# ---- code ----


def test_most_pages_have_code_and_commands():
  assert len(PAGES_WITH_PYTHON) >= 8 and len(PAGES_WITH_COMMANDS) >= 10


@pytest.mark.parametrize('page', PAGES_WITH_PYTHON)
def test_the_python_blocks_of_a_page_run(page):
  """They run in turn. A block that is a config file also runs alone, and gives a config that is allowed."""
  namespace = {}
  for block in blocks(page, 'python'):
    exec(compile(block, page, 'exec'), namespace)
    if 'def get_config(' in block:
      alone = {}
      exec(compile(block, page, 'exec'), alone)
      check(alone['get_config']())


def commands(text: str) -> list[list[str]]:
  """The words of each command in a shell script, without `srun`, `nohup` and variables; quoted scripts included."""
  text = re.sub(r'(^|\s)#.*', '', text.replace('\\\n', ' '))
  lexer = shlex.shlex(text, posix=True, punctuation_chars='\n;&|')
  lexer.whitespace, lexer.whitespace_split, lexer.commenters = ' ', True, ''
  found: list[list[str]] = [[]]
  for word in lexer:
    if not word.strip('\n;&|'):
      found.append([])
    elif '\n' in word:
      found += [*commands(word), []]
    elif found[-1] or not (word in ('srun', 'nohup') or re.match(r'\w+=', word)):
      found[-1].append(word)
  return [words for words in found if words]


def commands_of(page: str) -> list[list[str]]:
  return [words for block in blocks(page, 'sh') for words in commands(block)]


def calls(page: str, module: str) -> list[list[str]]:
  """The arguments of each `python -m MODULE` in a page."""
  found = []
  for words in commands_of(page):
    if len(words) > 2 and words[0].endswith('python') and words[1:3] == ['-m', module]:
      found.append(words[3:])
  return found


@pytest.mark.parametrize('page', PAGES_WITH_COMMANDS)
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of ml_collections, which loads the config file
def test_the_commands_of_a_page_parse(page, parse_line):
  ours = [words[1:] for words in commands_of(page) if words[0].endswith('beta-darts')]
  for arguments in [*calls(page, 'beta_darts_jax.main'), *ours]:
    if not any('again' in argument for argument in arguments):  # that config needs a run
      parse_line(arguments)


@in_every_page
def test_studies_targets_and_extras_of_a_page_exist(page):
  targets = re.search(r'^\.PHONY: (.*)', (ROOT / 'Makefile').read_text(), re.M)[1].split()
  extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']
  text = PAGES[page].read_text()
  for words in [*commands_of(page), *map(str.split, re.findall(r'`(make [^`]+)`', text))]:
    if words[0] == 'make':
      assert {word for word in words[1:] if '=' not in word} <= set(targets), words
  assert set(re.findall(r"'?\.\[(\w+)\]'?", text)) <= set(extras)
  studies = re.findall(r'(?:STUDY=|beta-darts study )(\w+)', text) + [words[0] for words in calls(page, 'studies.run')]
  for study in set(studies) - {'NAME'}:
    assert (ROOT / 'studies' / f'{study}.py').is_file(), study


# ---- names ----


@in_every_page
def test_the_config_keys_of_a_page_exist(page):
  keys = {key.name for task in DEFAULTS for key in keys_of(task)}
  for name in ('own_regularizer', 'own_relaxation'):  # pages show the keys of their scalars
    load_config(name)
  keys |= {key.name for task in DEFAULTS for key in keys_of(task)}
  known = keys | {'.'.join(key.split('.')[: i + 1]) for key in keys for i in range(key.count('.'))}
  groups = '|'.join({key.split('.')[0] for key in keys if '.' in key} - {'data', 'task'})
  text = PAGES[page].read_text()
  named = re.findall(r'config\.((?:\w+\.)*\w+)', text) + re.findall(rf'`((?:{groups})\.\w+)(?:=[^`]*)?`', prose(page))
  not_keys = {'py', 'json', 'KEY', 'default', 'default_retrain', 'search_keys', 'retrain_keys', 'shared_keys'}
  assert {name for name in named if name.split('.')[-1] not in not_keys} <= known


@in_every_page
def test_the_python_names_of_a_page_exist(page):
  text = PAGES[page].read_text()
  for dotted in {*re.findall(r'\bbeta_darts_jax(?:\.\w+)+', text), *re.findall(r'\bstudies\.\w+\.\w+\b', text)}:
    assert exists(dotted.removesuffix('.py')), dotted
  for name in set(re.findall(r'\bbd\.((?:\w+\.)*\w+)', text)):
    assert exists(f'beta_darts_jax.{name}'), name


def exists(dotted: str) -> bool:
  """Whether a dotted name is a module, or an attribute or field within one."""
  parts = dotted.split('.')
  for n in range(len(parts), 0, -1):
    try:
      found = importlib.import_module('.'.join(parts[:n]))
      break
    except ModuleNotFoundError:
      continue
  for name in parts[n:]:
    if not hasattr(found, name):
      return name in getattr(found, '__annotations__', {})
    found = getattr(found, name)
  return True


@in_every_page
def test_the_paths_of_a_page_exist(page):
  named = re.findall(
    r'\b((?:configs|studies|tests|benchmarks|notebooks)/[\w/]+\.(?:py|md|ipynb))', PAGES[page].read_text()
  )
  for path in named:
    assert (ROOT / path).is_file(), path
  for path in re.findall(r'`((?:\w+/)+\w+\.py)`', prose(page)):
    assert (ROOT / path).is_file() or (ROOT / 'beta_darts_jax' / path).is_file(), path


@in_every_page
def test_the_links_of_a_page_lead_somewhere(page):
  for target in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', prose(page)):
    path, _, anchor = ''.join(target).partition('#')
    if '://' in path:
      continue
    file = PAGES[page].parent / path if path else PAGES[page]
    assert file.exists(), path
    if anchor:
      headings = re.findall(r'^#+ (.*)', file.read_text(), re.M)
      assert anchor in {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}, anchor


def test_the_readme_is_short():
  assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


def test_the_row_of_metrics_in_the_docs_is_the_row_of_the_code():
  tables = prose('docs/runs.md').split('## A line of')[1].split('## The page')[0]
  cells = [line.split('|')[1] for line in tables.splitlines() if line.startswith('| `')]
  named = [name for cell in cells for name in re.findall(r'`(\w+)`', cell)]
  assert named == [*typing.get_type_hints(Row), *typing.get_type_hints(Diagnostics)]


# ---- the examples of own parts ----


@pytest.mark.parametrize('name', OWN)
def test_the_example_of_an_own_part_registers_and_uses_the_part(name):
  before = [set(registry) for registry in REGISTRIES]
  load_config(name)
  new = {entry for registry, names in zip(REGISTRIES, before, strict=True) for entry in registry if entry not in names}
  source = (ROOT / 'configs' / f'{name}.py').read_text()
  docstring = ast.get_docstring(ast.parse(source))
  assert new and f'configs/{name}.py' in docstring
  body = source.split('def get_config')[1]
  assert all(f"'{part}'" in body or f"hyper.scalars['{part}']" in source for part in new)


@pytest.mark.full
@pytest.mark.parametrize('name', OWN)
def test_an_example_of_an_own_part_is_a_whole_run(name, tmp_path):
  config = small(load_config(name))
  result = bd.run_search(config, tmp_path / 'run')
  assert result.genotype == bd.run_search(config, tmp_path / 'run').genotype  # reads the finished run
  assert (tmp_path / 'run' / 'report.html').is_file()
  if name == 'own_operation':
    retrain = load_config(name, 'retrain')
    retrain.genotype, retrain.train.epochs = str(tmp_path / 'run'), 1
    assert bd.run_retrain(retrain, tmp_path / 'trained').genotype == result.genotype


@pytest.mark.full
@pytest.mark.parametrize('name, scalar', [('own_regularizer', 'spread_weight'), ('own_relaxation', 'noise')])
def test_a_scalar_of_an_own_part_varies_in_a_population_and_may_be_zero(name, scalar, tmp_path):
  config = small(load_config(name))
  if name == 'own_regularizer':
    config.search.spread_schedule = 'constant'
  config.population[scalar] = (0.0, 10.0)
  assert scalar in varied_keys()
  result = bd.run_search(config, tmp_path)
  assert [member[scalar] for member in result.values['members']] == [0.0, 10.0]
  rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert rows[0]['betas'] != rows[1]['betas']  # the same seed: only λ differs


def small(config):
  """One epoch of a smaller supernet on fewer images."""
  config.search.epochs, config.space.nodes, config.supernet.channels, config.data.fraction = 1, 2, 2, 0.2
  return config
