"""The public surface has types, the requirements are complete, and the installed wheel runs a search."""

import ast
import importlib.metadata
import inspect
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import COMPILED_FAST

import beta_darts_jax

ROOT = pathlib.Path(__file__).parent.parent


def public_functions():
  """The functions that the package exports, and the public methods and properties of its classes."""
  public = [getattr(beta_darts_jax, name) for name in beta_darts_jax.__all__]
  for value in public:
    if inspect.isfunction(value):
      yield value
    elif inspect.isclass(value):
      for name, member in vars(value).items():
        member = member.fget if isinstance(member, property) else getattr(member, '__func__', member)
        if inspect.isfunction(member) and name[0] != '_' and name != 'replace':
          yield member


def test_public_functions_have_types():
  """py.typed promises a type of every parameter and result."""
  functions = list(public_functions())
  assert len(functions) > 20
  for function in functions:
    signature = inspect.signature(function)
    annotations = {name: p.annotation for name, p in signature.parameters.items() if name not in ('self', 'cls')}
    annotations['return'] = signature.return_annotation
    untyped = [name for name, annotation in annotations.items() if annotation is signature.empty]
    assert not untyped, (function, untyped)


def test_the_wheel_has_every_package():
  listed = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['setuptools']['packages']
  folders = (path.parent.relative_to(ROOT) for path in (ROOT / 'beta_darts_jax').rglob('__init__.py'))
  assert sorted(listed) == sorted(['beta_darts_jax.configs', *('.'.join(folder.parts) for folder in folders)])


def normalize(requirement):
  """The normalized name of a distribution, without version and extras."""
  return re.split(r'[\[<>=; ]', requirement)[0].lower().replace('_', '-')


def imported_packages(path):
  """The top-level packages that a file imports, without the standard library and our own."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add(node.module or '')
  return {name.split('.')[0] for name in names} - sys.stdlib_module_names - {'beta_darts_jax', ''}


def test_requirements_name_every_import():
  lines = [line for line in (ROOT / 'requirements.txt').read_text().splitlines() if line[:1] not in ('#', '')]
  extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']
  lines += [
    line
    for extra in ('report', 'tensorboard', 'wandb', 'mlflow', 'natsbench', 'export', 'onnx')
    for line in extras[extra]
  ]
  required = set(map(normalize, lines))
  owners = importlib.metadata.packages_distributions()
  for path in (ROOT / 'beta_darts_jax').rglob('*.py'):
    for package in imported_packages(path):
      assert {normalize(owner) for owner in owners.get(package, [package])} & required, (path.name, package)


@pytest.mark.full
def test_the_installed_wheel_runs_a_search(tmp_path):
  """In an environment of its own, with what pip installs for it, and away from the clone."""

  def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout

  pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '--quiet']
  run(*pip, 'wheel', '--no-build-isolation', '--no-deps', '--wheel-dir', tmp_path, ROOT)
  run(sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'env')
  python, (wheel,) = tmp_path / 'env' / 'bin' / 'python', tmp_path.glob('*.whl')
  run(*pip, '--python', python, 'install', f'{wheel}[report]')
  (packages,) = (tmp_path / 'env').glob('lib/python*/site-packages')
  assert run(python, '-c', 'import beta_darts_jax; print(beta_darts_jax.__file__)').startswith(str(packages))

  command = [tmp_path / 'env' / 'bin' / 'beta-darts', 'search', '--config=digits', '--workdir=run']
  small = ['search.epochs=1', 'retrain.epochs=0', 'supernet.channels=2', 'data.fraction=0.2']
  printed = run(*command, *(f'--config.{value}' for value in small), env=os.environ | COMPILED_FAST)
  assert (tmp_path / 'run' / 'result.json').is_file() and 'report    run/report.html' in printed
  assert '<svg' in (tmp_path / 'run' / 'report.html').read_text()
