"""The files of a run folder, read into one value."""

import dataclasses
import json
import pathlib

from beta_darts_jax.config.schema import epochs_to_run
from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.logs import Row
from beta_darts_jax.runtime.workdir import in_use, read_json
from beta_darts_jax.search.population import setting_of


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """The contents of a run folder at the time of reading."""

  path: pathlib.Path
  name: str  # of the run on the page
  config: dict
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
  def is_population(self) -> bool:
    return len(self.member_rows) > 1 or 'members' in (self.result or {})

  @property
  def member_rows(self) -> dict[int, list[Row]]:
    """{member: its rows}. A single run is member 0."""
    rows_by_member: dict[int, list[Row]] = {}
    for row in self.rows:
      rows_by_member.setdefault(row.get('member', 0), []).append(row)
    return rows_by_member

  @property
  def member_results(self) -> dict[int, dict]:
    """{member: its result}; {} while the run is unfinished. A single run is member 0."""
    if self.result is None:
      return {}
    return {member['member']: member for member in self.result.get('members', [self.result | {'member': 0}])}

  def setting_text(self, member: int) -> str:
    """Returns `name value, …` for what distinguishes a member besides its seed; '' while the run is unfinished."""
    setting = setting_of(self.member_results.get(member, {})) if self.is_population else {}
    return ', '.join(f'{name} {value:g}' for name, value in setting.items() if isinstance(value, int | float))


def read_run_folder(path) -> RunFolder:
  """Reads the folder of a run, finished or not.

  Raises:
    InputError: `path` is not a run folder, or one of its files is not JSON.
  """
  path = pathlib.Path(path)
  if not (path / 'config.json').is_file():
    raise InputError(f'{path} is not a run folder: it has no config.json')
  diverged = path / 'diverged.txt'
  return RunFolder(
    path=path if path.name else path.resolve(),
    name=path.resolve().name,
    config=read_json(path / 'config.json', 'expected JSON'),
    environment=_read_if_there(path / 'environment.json') or {},
    rows=_read_rows(path / 'metrics.jsonl'),
    result=_read_if_there(path / 'result.json'),
    diverged=diverged.read_text(errors='replace').strip() if diverged.is_file() else '',
    is_running=in_use(path),
  )


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
