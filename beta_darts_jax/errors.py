"""The one error that means: the user gave something that cannot be used."""


class InputError(ValueError):
  """One line that names what was given and what is allowed.

  `main` prints it and exits with status 2; in a notebook it is an ordinary
  `ValueError`.
  """


class NonFiniteLoss(RuntimeError):
  """A loss became NaN or infinite; names the epoch and the step."""
