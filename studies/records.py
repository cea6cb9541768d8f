"""The kept runs of a study: config, result and every row of metrics.jsonl of each arm, one JSON file per arm."""

import json
import pathlib

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.workdir import write_json
from studies.study import Study

# keys that earlier versions had, with the value that means what this version does
REMOVED = {'search.alpha_rate_factors': [], 'search.shuffled_alpha_labels': False, 'tensorboard': False}


def record_path(evidence: pathlib.Path, place: str) -> pathlib.Path:
  """Returns the file of an arm, given as 'STUDY/ARM'."""
  study, arm = place.split('/', 1)
  return evidence / study / 'runs' / f'{arm}.json'


def plain(config: ConfigDict) -> dict:
  """Returns the config as JSON reads it back, without `parallel`, which does not change what is searched."""
  tree = json.loads(json.dumps(config.to_dict()))
  return {name: value for name, value in tree.items() if name != 'parallel'}


def changed_keys(config: dict, kept: dict) -> list[str]:
  """Returns the keys of a kept config whose values `config` does not have.

  Keys that came later may be missing in `kept`: their defaults leave a search as it was. Keys that were removed may be
  there if they had no effect.
  """
  ours, theirs = (flatten_dict(tree, sep='.') for tree in (config, kept))
  missing = object()
  in_effect = {name: value for name, value in theirs.items() if REMOVED.get(name, missing) != value}
  return [name for name, value in in_effect.items() if ours.get(name, missing) != value]


def is_kept(path: pathlib.Path, config: ConfigDict) -> bool:
  """Whether the file of an arm exists. Raises InputError if it was run with other settings."""
  if not path.is_file():
    return False
  if changed := changed_keys(plain(config), json.loads(path.read_text())['config']):
    raise InputError(
      f'{path} was run with other settings ({", ".join(changed)}): move it away, or choose another --evidence'
    )
  return True


def keep(path: pathlib.Path, config: ConfigDict, result: dict, rows: list[dict]) -> None:
  """Writes the file of an arm."""
  path.parent.mkdir(parents=True, exist_ok=True)
  write_json(path, {'config': plain(config), 'result': result, 'rows': rows}, indent=None)


def read_records(study: Study, evidence: pathlib.Path) -> dict[str, dict]:
  """Returns {arm: its file's content} of the arms that are kept, borrowed ones first."""
  paths = {arm: record_path(evidence, place) for arm, place in study.places().items()}
  return {arm: json.loads(path.read_text()) for arm, path in paths.items() if path.is_file()}


def histories(record: dict) -> dict[int, list[dict]]:
  """Returns {seed: the rows of that search} of a kept arm."""
  found: dict[int, list[dict]] = {}
  for row in record['rows']:
    found.setdefault(row.get('seed', record['config']['search']['seed']), []).append(row)
  return found
