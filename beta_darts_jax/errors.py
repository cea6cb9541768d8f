"""The errors that end a run with one line instead of a traceback."""

import contextlib
from collections.abc import Iterator


class InputError(ValueError):
  """Something that the user gave cannot be used. The message is one line: what was given and what is expected.

  `main` prints it and exits with status 2. In a notebook it is an ordinary
  `ValueError`.
  """


class NonFiniteLoss(RuntimeError):
  """A loss became NaN or infinite; the message names the epoch and the step."""


class Stopped(Exception):
  """A signal stopped the run. Its checkpoint is saved."""


@contextlib.contextmanager
def naming(key: str) -> Iterator[None]:
  """Adds a config key to the InputErrors of the enclosed code, which knows no keys."""
  try:
    yield
  except InputError as error:
    raise InputError(f'{key}: {error}') from None
