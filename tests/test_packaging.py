"""The wheel holds all that a search needs: installed by itself, away from the clone, its command works."""

import ast
import importlib.metadata
import inspect
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tomllib

from conftest import COMPILED_FAST

import beta_darts_jax

ROOT = pathlib.Path(__file__).parent.parent


def test_the_public_surface_is_typed():
  """What py.typed promises: every parameter and result of what the package exports."""
  public = [getattr(beta_darts_jax, name) for name in beta_darts_jax.__all__]
  methods = [vars(thing).items() for thing in public if inspect.isclass(thing)]
  plain = lambda of: of.fget if isinstance(of, property) else getattr(of, '__func__', of)
  ours = [plain(method) for of_class in methods for name, method in of_class if name[0] != '_' and name != 'replace']
  functions = [f for f in (*public, *ours) if inspect.isfunction(f)]
  assert len(functions) > 20
  for function in functions:
    signature = inspect.signature(function)
    said = {name: p.annotation for name, p in signature.parameters.items() if name not in ('self', 'cls')}
    untyped = [name for name, of in {**said, 'return': signature.return_annotation}.items() if of is signature.empty]
    assert not untyped, (function, untyped)


def test_requirements_name_every_import():
  """The environment of the test below borrows what is installed here, so nothing may be missing from the list."""
  normal = lambda name: re.split(r'[\[<>=; ]', name)[0].lower().replace('_', '-')
  lines = [line for line in (ROOT / 'requirements.txt').read_text().splitlines() if line[:1] not in ('#', '')]
  extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']
  lines += [line for extra in ('report', 'tensorboard', 'natsbench') for line in extras[extra]]
  required = set(map(normal, lines))
  owners = importlib.metadata.packages_distributions()
  for path in (ROOT / 'beta_darts_jax').rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, 'module', None) or '']
      for top in {name.split('.')[0] for name in names} - sys.stdlib_module_names - {'beta_darts_jax', ''}:
        ours = {normal(owner) for owner in owners.get(top, [top])}
        assert ours & required, (path.name, top)


def test_the_wheel_in_a_clean_environment(tmp_path, pytestconfig):
  """With --full pip brings what the wheel needs; else it is lent by this environment, without what is ours."""
  full = pytestconfig.getoption('full')
  pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '--quiet']
  run = lambda *command, **more: subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, **more)
  build = ['wheel', '--no-build-isolation', '--no-deps', '--wheel-dir', tmp_path, ROOT]
  assert (built := run(*pip, *build)).returncode == 0, built.stderr
  run(sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'env')
  python, (wheel,) = tmp_path / 'env' / 'bin' / 'python', tmp_path.glob('*.whl')
  installed = run(*pip, '--python', python, 'install', *([] if full else ['--no-deps']), f'{wheel}[report]')
  assert installed.returncode == 0, installed.stderr
  (packages,) = (tmp_path / 'env').glob('lib/python*/site-packages')
  if not full:  # (a .pth file named in a .pth file, as this package is where it is editable, is not read)
    (packages / 'dependencies.pth').write_text(sysconfig.get_paths()['purelib'])
  where = run(python, '-c', 'import beta_darts_jax; print(beta_darts_jax.__file__)')
  assert where.stdout.startswith(str(packages)), where

  command = [tmp_path / 'env' / 'bin' / 'beta-darts', '--config=configs/digits.py', '--workdir=run']
  small = ['search.epochs=1', 'retrain.epochs=0', 'supernet.channels=2', 'data.fraction=0.2']
  environment = os.environ | COMPILED_FAST
  done = run(*command, *(f'--config.{value}' for value in small), env=environment)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'run' / 'result.json').is_file() and 'report    run/report.html' in done.stdout
  assert '<svg' in (tmp_path / 'run' / 'report.html').read_text()
