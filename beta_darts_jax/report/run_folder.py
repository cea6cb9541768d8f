"""The files of a run folder, read into one value."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

from flax.traverse_util import flatten_dict

from beta_darts_jax.config.schema import DEFAULTS, epochs_to_run, varied_keys
from beta_darts_jax.errors import InputError
from beta_darts_jax.report.method import method_name
from beta_darts_jax.runtime.files import read_json
from beta_darts_jax.runtime.logs import Row
from beta_darts_jax.runtime.workdir import in_use
from beta_darts_jax.search.population import make_members
from beta_darts_jax.spaces.space import SearchSpace, make_space


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """The contents of a run folder at the time of reading. A single run has one member, number 0."""

  path: pathlib.Path
  name: str  # of the run on the page
  config: dict
  space: SearchSpace | None  # of a search
  environment: dict  # {} before the run has written environment.json
  rows: list[Row]
  result: dict | None  # None while the run is unfinished
  diverged: str  # what became non-finite; '' if the run did not diverge
  is_running: bool  # whether a process of this machine works on the run

  @property
  def is_search(self) -> bool:
    """Whether the run is a search; if not, it is a retraining."""
    return self.config['task'] == 'search'

  @property
  def num_epochs(self) -> int:
    return epochs_to_run(self.config['search']) if self.is_search else self.config['train']['epochs']

  @property
  def seed(self) -> int:
    """The first seed."""
    return self.config['search' if self.is_search else 'train']['seed']

  @property
  def dataset(self) -> str:
    return (self.result or {}).get('dataset', self.config['data']['source'])

  @property
  def method(self) -> str:
    """The name of the method, such as darts, or its parts in words."""
    return method_name(flatten_dict(self.config, sep='.')) if self.is_search else 'retraining'

  @property
  def seconds(self) -> float:
    """The duration of the run, or of its finished epochs. The members share their seconds."""
    if self.result is not None and 'seconds' in self.result:
      return sum(self.result['seconds'].values())
    return sum(row['seconds'] for row in next(iter(self.member_rows.values()), []))

  @property
  def is_population(self) -> bool:
    return len(self.member_rows) > 1 or 'members' in (self.result or {})

  @functools.cached_property
  def member_rows(self) -> dict[int, list[Row]]:
    """{member: its rows}."""
    rows_by_member: dict[int, list[Row]] = {}
    for row in self.rows:
      rows_by_member.setdefault(row.get('member', 0), []).append(row)
    return rows_by_member

  def values(self, member: int = 0) -> dict[str, Any]:
    """Returns the result of a member with its row of the same epoch; the last row while the run is unfinished."""
    rows, finished = self.member_rows.get(member, []), self.result or {}
    result: dict = next((one for one in finished.get('members', [finished]) if one.get('member', 0) == member), {})
    row = next((row for row in rows if row['epoch'] == result.get('epoch')), rows[-1] if rows else {})
    return {**row, **result}

  def setting(self, member: int) -> dict[str, float]:
    """Returns the varied values of a member."""
    if not self.is_population:
      return {}
    population = self.config['population']
    varied = {name: population.get(name, ()) for name in varied_keys()}
    members = make_members(self.seed, population['seeds'], varied)
    return dict(members[member].varied) if member < len(members) else {}

  def setting_text(self, member: int) -> str:
    """Returns `name value, …` for what distinguishes a member besides its seed."""
    return ', '.join(f'{name} {value:g}' for name, value in self.setting(member).items())


def is_run_folder(path: pathlib.Path) -> bool:
  """Returns whether a folder is that of a run: its config.json has a `task` of this program, or is damaged."""
  try:
    config = json.loads((path / 'config.json').read_bytes())
  except OSError:
    return False
  except ValueError:  # reading the run names it as damaged
    return True
  return isinstance(config, dict) and config.get('task') in tuple(DEFAULTS)


def read_run_folder(path) -> RunFolder:
  """Reads the folder of a run, finished or not.

  Raises:
    InputError: `path` is not a run folder, one of its files is not JSON, or this version does not know its space.
  """
  path = pathlib.Path(path)
  if not is_run_folder(path):
    raise InputError(f'{path} is not a run folder: it has no config.json of a run')
  diverged = path / 'diverged.txt'
  config = read_json(path / 'config.json', 'expected JSON')
  return RunFolder(
    path=path if path.name else path.resolve(),
    name=path.resolve().name,
    config=config,
    space=_read_space(path, config) if config['task'] == 'search' else None,
    environment=_read_if_there(path / 'environment.json') or {},
    rows=_read_rows(path / 'metrics.jsonl'),
    result=_read_if_there(path / 'result.json'),
    diverged=diverged.read_text(errors='replace').strip() if diverged.is_file() else '',
    is_running=in_use(path),
  )


def _read_space(path: pathlib.Path, config: dict) -> SearchSpace:
  try:
    return make_space(**config['space'])
  except (InputError, KeyError, TypeError) as error:  # the keys of another version
    raise InputError(f'{path}: this version does not know the search space of the run ({error})') from None


def _read_if_there(file: pathlib.Path) -> dict | None:
  return read_json(file, 'expected JSON') if file.is_file() else None


def _read_rows(file: pathlib.Path) -> list[Row]:
  """Returns the rows of metrics.jsonl without a last line that is not complete yet."""
  if not file.is_file():
    return []
  lines = file.read_bytes().split(b'\n')[:-1]
  try:
    return [json.loads(line) for line in lines]
  except ValueError:
    raise InputError(f'{file} is damaged: expected one JSON object per line') from None
