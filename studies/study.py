"""The description of a study: a question, its arms (settings), and the pairs of arms that are compared."""

import dataclasses
import difflib
import importlib
import os
import pathlib
import runpy
from collections.abc import Mapping

from ml_collections import ConfigDict

from beta_darts_jax.config.check import check
from beta_darts_jax.errors import InputError

SPED_UP_COMMIT = '48735b7'  # the last one that can run the studies in which α is sped up


@dataclasses.dataclass(frozen=True)
class Study:
  """A question and the arms that answer it. Each arm is a population of searches over seeds.

  Attributes:
    name: name of the study's file and of its folder under docs/evidence.
    question: the title of the study's page.
    primary: the measure that is tested; a key of `studies.measures.measures`.
    arms: the config of each arm.
    references: {arm: the arm it is compared with}. The two are paired by seed.
    borrowed: {arm: 'STUDY/ARM'}, arms that another study keeps.
    closed_arms: {arm: commit} of arms that this version cannot run. The last version that can is that commit. Their
      kept runs are data like any other.
    equivalence_pairs: arms whose final α should have the same distribution.
    equivalence_margin: largest difference of mean α that counts as equivalent, in standard deviations over seeds.
    ended: a sentence that says why the study ended before all its searches ran; '' if it did not.

  Raises:
    InputError: a config has a wrong value, or a reference is not an arm.
  """

  name: str
  question: str
  primary: str
  arms: Mapping[str, ConfigDict]
  references: Mapping[str, str]
  borrowed: Mapping[str, str] = dataclasses.field(default_factory=dict)
  closed_arms: Mapping[str, str] = dataclasses.field(default_factory=dict)
  equivalence_pairs: tuple[tuple[str, str], ...] = ()
  equivalence_margin: float = 0.0
  ended: str = ''

  def __post_init__(self):
    for config in self.arms.values():
      check(config)
    known = {*self.arms, *self.borrowed, *self.closed_arms}
    named = {*self.references.values(), *(arm for pair in self.equivalence_pairs for arm in pair)}
    if unknown := sorted(named - known):
      raise InputError(f'study {self.name}: unknown arms {", ".join(unknown)}; expected {", ".join(sorted(known))}')

  def places(self) -> dict[str, str]:
    """Returns {arm: 'STUDY/ARM'}, the place of each arm's kept runs; borrowed arms come first."""
    return {**self.borrowed, **{arm: f'{self.name}/{arm}' for arm in (*self.arms, *self.closed_arms)}}


def load_study(name: str) -> Study:
  """Returns the study of studies/NAME.py, or of another Python file that has get_study().

  Raises:
    InputError: there is no such study, or the file has no get_study().
  """
  known = known_studies()
  if name in known:
    return importlib.import_module(f'studies.{name}').get_study()
  if not (name.endswith('.py') and os.path.isfile(name)):
    hint = ''.join(f' Did you mean {near}?' for near in difflib.get_close_matches(name, known, n=1))
    raise InputError(
      f'unknown study {name!r}.{hint} Expected a Python file with get_study(), or one of {", ".join(known)}'
    )
  get_study = runpy.run_path(name).get('get_study')
  study = get_study() if get_study else None
  if not isinstance(study, Study):
    raise InputError(f'{name}: expected a function get_study() that returns a studies.study.Study')
  return study


def known_studies() -> list[str]:
  """Returns the names of the studies in this folder."""
  files = pathlib.Path(__file__).parent.glob('*.py')
  return sorted(file.stem for file in files if '\ndef get_study(' in file.read_text(encoding='utf-8'))
