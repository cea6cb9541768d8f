"""Imports go one way down; only the edges of the house touch files, configs or the network."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / 'beta_darts_jax'
# each may import only what stands before it
ORDER = """
  errors environment parallel genotype spaces initialization operations skeletons supernet network
  metrics evaluation interop optimizers regularizers relaxations hypergradients losses state bilevel
  workdir nas_bench_201 diagnostics derivation data streaming checkpoint loop
  training retrain comparison population programs search config validation figures report main evidence study
""".split()  # noqa: SIM905
FILES = {'parallel', 'data', 'nas_bench_201', 'workdir', 'checkpoint', 'metrics', 'interop', 'report', 'main', 'study'}
ONLY = {
  'ml_collections': {'config', 'validation', 'main'},
  'flax': {'initialization', 'operations', 'skeletons', 'supernet', 'network', 'optimizers', 'state', 'training'},
  'grain': {'streaming'},
  'orbax': {'checkpoint'},
  'tensorflow_datasets': {'data', 'streaming'},
  'os': FILES | {'streaming', 'environment'},
  'pathlib': FILES | {'retrain'},
}
MODULES = sorted(path.stem for path in PACKAGE.glob('*.py') if path.stem != '__init__')


def imports(module):
  for node in ast.walk(ast.parse((PACKAGE / f'{module}.py').read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def test_every_module_has_a_place():
  assert sorted(ORDER) == MODULES


@pytest.mark.parametrize('module', MODULES)
def test_imports_go_down(module):
  below = set(ORDER[: ORDER.index(module)])
  ours = {name.split('.')[1] for name in imports(module) if name.startswith('beta_darts_jax.')}
  assert ours <= below, f'{module} imports {ours - below}, which stand above it'


@pytest.mark.parametrize('package', ONLY)
def test_edges_only(package):
  users = {module for module in MODULES if any(name.split('.')[0] == package for name in imports(module))}
  assert users <= ONLY[package]


def test_no_array_at_import():
  """The number of CPU devices can still be set after the import: no JAX operation has run."""
  code = (
    'import beta_darts_jax, beta_darts_jax.search, beta_darts_jax.retrain, jax;'
    'jax.config.update("jax_num_cpu_devices", 3); assert len(jax.devices("cpu")) == 3'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
