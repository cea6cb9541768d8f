"""Imports go one way, from folder to folder; some folders never see each other; some libraries stay in one folder."""

import ast
import collections
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# a folder imports only itself and what stands before it
ORDER = [
  'errors',
  'spaces',
  'networks',
  'method',
  'data',
  'runtime',
  'config',
  'retrain',
  'search',
  'report',
  'command',
  'main',
  'studies',
]
# pairs that do not see each other although the order would allow it
NEVER = {
  ('method', 'networks'),
  ('runtime', 'data'),
  *((folder, other) for folder in ('data', 'runtime') for other in ('spaces', 'networks', 'method')),
  *(('config', other) for other in ('networks', 'data', 'runtime')),
}
ONLY = {  # library → the folders that import it
  'ml_collections': {'config', 'search', 'retrain', 'command', 'studies'},  # see test_config_stops_at_setup
  'flax.linen': {'networks'},
  'grain': {'data'},
  'tensorflow_datasets': {'data'},
  'orbax': {'runtime'},
  'matplotlib': {'report', 'studies'},
  'jinja2': {'report'},
  'torch': {'retrain'},
  'safetensors': {'retrain'},
  'pandas': {'studies'},
}


def modules():
  """{path: name of its folder, or of the module itself at the top of the package}."""
  package = {p: p.relative_to(ROOT / 'beta_darts_jax').parts[0] for p in (ROOT / 'beta_darts_jax').rglob('*.py')}
  found = {path: name.removesuffix('.py') for path, name in package.items() if name != '__init__.py'}
  return found | dict.fromkeys((ROOT / 'studies').glob('*.py'), 'studies')


def imported(path):
  """The dotted names that a module imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def test_every_folder_has_a_place_in_the_order():
  assert set(modules().values()) == set(ORDER)


@pytest.mark.parametrize('folder', ORDER)
def test_imports_go_one_way(folder):
  allowed = {other for other in ORDER[: ORDER.index(folder) + 1] if (folder, other) not in NEVER}
  for path in (path for path, of in modules().items() if of == folder):
    ours = {name.split('.')[1] for name in imported(path) if name.startswith('beta_darts_jax.')}
    wrong = ours & set(ORDER) - allowed
    assert not wrong, f'{path.relative_to(ROOT)} imports {wrong}'


def test_files_and_functions_are_short():
  package = ROOT / 'beta_darts_jax'
  assert len([entry for entry in package.iterdir() if entry.name != '__pycache__' and entry.suffix != '.typed']) <= 13
  for path in package.rglob('*.py'):
    text = path.read_text()
    assert len(text.splitlines()) <= 350, path
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    long = [node.name for node in functions if node.end_lineno - node.lineno >= 60]
    assert not long, (path, long)


def code_lines(path) -> int:
  """The lines of a module without blank lines, comments, docstrings and imports."""
  text = path.read_text()
  left_out = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import | ast.ImportFrom) or (isinstance(node, ast.Expr) and is_text(node.value)):
      left_out |= set(range(node.lineno, node.end_lineno + 1))
  lines = enumerate(text.splitlines(), 1)
  return sum(1 for number, line in lines if number not in left_out and line.strip() and line.strip()[0] != '#')


def is_text(node) -> bool:
  return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_no_folder_has_more_than_1250_lines_of_code():
  """The folders networks/kernels and networks/mobile count apart from networks."""
  sizes = collections.Counter()
  for path, folder in modules().items():
    if folder != 'studies':
      name = path.parent.name
      sizes[f'networks/{name}' if name in ('kernels', 'mobile') else folder] += code_lines(path)
  assert max(sizes.values()) <= 1250, sizes


@pytest.mark.parametrize('library', ONLY)
def test_a_library_stays_in_its_folders(library):
  users = {folder for path, folder in modules().items() if any(n.startswith(library) for n in imported(path))}
  assert users <= ONLY[library]


@pytest.mark.parametrize('folder', ['search', 'retrain'])
def test_config_stops_at_setup(folder):
  """Below setup.py nothing sees a config."""
  for path in (path for path, of in modules().items() if of == folder and path.stem != 'setup'):
    seen = {name for name in imported(path) if name.startswith(('ml_collections', 'beta_darts_jax.config'))}
    assert not seen, f'{path.relative_to(ROOT)} imports {seen}'


def test_import_creates_no_array():
  """The number of CPU devices can still be set after the import: no JAX operation has run."""
  code = (
    'import beta_darts_jax, beta_darts_jax.search.run, beta_darts_jax.retrain.run, jax;'
    'jax.config.update("jax_num_cpu_devices", 3); assert len(jax.devices("cpu")) == 3'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
