"""Made-up genotype texts: a genotype that reads back as itself, or one line."""

from hypothesis import given, settings, strategies as st

from beta_darts_jax import DARTS, NAS_BENCH_201, InputError
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.published import PUBLISHED

ALL_NONE = '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'
TEXTS = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=30)
PIECES = """
| + ~ 0 1 9 none nor_conv_3x3 skip_connect Genotype( normal= [ ] ( ) , 'sep_conv_3x3' reduce_concat range(2,6) { } " :
__import__("os") \\ β
""".split()  # noqa: SIM905
PARTS = st.sampled_from([*PIECES, ' ', '\0'])
KNOWN = [ALL_NONE, *map(str, PUBLISHED.values())]


@st.composite
def genotype_texts(draw):
  """Pieces in any order, or a known cell with a few pieces put in, or characters left out."""
  if draw(st.booleans()):
    return ''.join(draw(st.lists(PARTS, max_size=20)))
  text = draw(st.sampled_from(KNOWN))
  for _ in range(draw(st.integers(1, 3))):
    at = draw(st.integers(0, len(text)))
    text = text[:at] + draw(PARTS) + text[at + draw(st.integers(0, 3)) :]
  return text


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(text=st.one_of(genotype_texts(), TEXTS))
def test_any_text_is_a_genotype_or_one_line(text):
  for parse in (Genotype.parse, NAS_BENCH_201.parse, DARTS.parse):
    try:
      genotype = parse(text)
    except InputError as error:
      assert str(error) and '\n' not in str(error)
    else:
      assert parse(str(genotype)) == genotype
