"""The files of a run folder, read into one value."""

import dataclasses
import json
import pathlib

from beta_darts_jax.errors import InputError
from beta_darts_jax.runtime.logs import Row
from beta_darts_jax.runtime.workdir import in_use
from beta_darts_jax.search.population import setting_of


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """The contents of a run folder at the time of reading.

  Attributes:
    path: the folder.
    name: the name of the run on the page.
    config: the tree in config.json.
    environment: the tree in environment.json; {} before the run has written it.
    rows: the rows of metrics.jsonl, in order.
    result: the tree in result.json; None while the run is unfinished.
    diverged: what became non-finite; '' if the run did not diverge.
    is_running: whether a process of this machine works on the run.
  """

  path: pathlib.Path
  name: str
  config: dict
  environment: dict
  rows: list[Row]
  result: dict | None
  diverged: str
  is_running: bool

  @property
  def is_search(self) -> bool:
    """Whether the run is a search; if not, it is a retraining."""
    return self.config['task'] == 'search'

  @property
  def num_epochs(self) -> int:
    """Number of epochs in the config."""
    return self.config['search' if self.is_search else 'train']['epochs']

  @property
  def is_population(self) -> bool:
    """Whether the run has several members."""
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
    config=_read_json(path / 'config.json'),
    environment=_read_json(path / 'environment.json') or {},
    rows=_read_rows(path / 'metrics.jsonl'),
    result=_read_json(path / 'result.json'),
    diverged=diverged.read_text(errors='replace').strip() if diverged.is_file() else '',
    is_running=in_use(path),
  )


def _read_json(file: pathlib.Path):
  """Returns the value in a JSON file, None if there is no such file."""
  if not file.is_file():
    return None
  try:
    return json.loads(file.read_bytes())
  except ValueError:
    raise InputError(f'{file} is damaged: expected JSON') from None


def _read_rows(file: pathlib.Path) -> list[Row]:
  """Returns the rows of metrics.jsonl without a last line that is not complete yet."""
  if not file.is_file():
    return []
  lines = file.read_bytes().split(b'\n')[:-1]
  try:
    return [json.loads(line) for line in lines]
  except ValueError:
    raise InputError(f'{file} is damaged: expected one JSON object per line') from None
