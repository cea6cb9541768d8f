"""One value of a config: its default, its meaning and the values that are allowed."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

# singular and plural of each type in messages
_NOUNS = {
  bool: ('True or False', 'True or False'),
  int: ('an integer', 'integers'),
  float: ('a number', 'numbers'),
  str: ('a string', 'strings'),
}


ABOVE_0 = ('above 0',)  # in place of the values of `only_with`: all numbers above 0


@dataclasses.dataclass(frozen=True)
class Key:
  """A row of the table of all values. Bounds and choices of a tuple apply to each of its items."""

  name: str  # with the groups, such as 'search.seed'
  default: Any  # its type is the type of the value; an integer may stand for a float
  meaning: str  # full phrase, without the choices
  choices: Collection[str] | None = None  # a dict of named parts is read at each use, so names may be added later
  above: float | None = None  # exclusive lower bound; None applies `minimum`
  minimum: float = 0
  below: float | None = None  # exclusive upper bound
  maximum: float | None = None
  items: type | None = None  # of a tuple of any length; other tuples have the length and the types of the default
  only_with: tuple[str, tuple[str, ...]] | None = None  # (other key, its values or ABOVE_0)
  varied: bool = False  # the members of a population may differ in this value

  def allows(self, value: Any) -> bool:
    """Returns whether the value has the right type and is within the bounds or among the choices."""
    if not isinstance(self.default, tuple):
      return self._allows_item(value, type(self.default))
    if not isinstance(value, tuple) or (self.items is None and len(value) != len(self.default)):
      return False
    return all(self._allows_item(item, self.item_type) for item in value)

  def _allows_item(self, value: Any, kind: type) -> bool:
    if kind is float:
      is_right = isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf
    else:
      is_right = type(value) is kind
    if not is_right or (self.choices is not None and value not in self.choices):
      return False
    return kind not in (int, float) or self._is_within_bounds(value)

  def _is_within_bounds(self, value: float) -> bool:
    return (
      (value >= self.minimum if self.above is None else value > self.above)
      and (self.below is None or value < self.below)
      and (self.maximum is None or value <= self.maximum)
    )

  @property
  def item_type(self) -> type:
    """The type of the value, or of each item of a tuple."""
    if not isinstance(self.default, tuple):
      return type(self.default)
    return self.items or type(self.default[0])

  # ---- texts ----

  @property
  def expected(self) -> str:
    """The allowed values in words, such as 'an integer > 0'."""
    singular, plural = _NOUNS[self.item_type]
    if not isinstance(self.default, tuple):
      return f'one of {", ".join(self.choices)}' if self.choices is not None else singular + self._bounds()
    if self.choices is not None:
      return f'a tuple of names from {", ".join(self.choices)}'
    length = '' if self.items else f'{len(self.default)} '
    return f'a tuple of {length}{plural}{self._bounds()}'

  def _bounds(self) -> str:
    if self.item_type not in (int, float):
      return ''
    bounds = [f'≥ {self.minimum}' if self.above is None else f'> {self.above}']
    bounds += [f'< {self.below}'] if self.below is not None else []
    bounds += [f'≤ {self.maximum}'] if self.maximum is not None else []
    return ' ' + ' and '.join(bounds)

  @property
  def description(self) -> str:
    """The meaning with the choices and the condition."""
    text = self.meaning
    if self.choices is not None and len(self.choices) > 1:
      text += f'; {"some" if isinstance(self.default, tuple) else "one"} of {", ".join(self.choices)}'
    return f'{text}; only with {self.condition}' if self.only_with else text

  @property
  def condition(self) -> str:
    """`only_with` in words, such as 'space.name=s1, s2 or s3'; '' if there is none."""
    if self.only_with is None:
      return ''
    other, (*first, last) = self.only_with
    if self.only_with[1] == ABOVE_0:
      return f'{other} > 0'
    return f'{other}={", ".join(first)} or {last}' if first else f'{other}={last}'
