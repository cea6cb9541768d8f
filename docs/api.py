"""Adds the docstrings of the package to the site: a hook of MkDocs and an extension of Griffe; see mkdocs.yml."""

import pathlib
import re
import textwrap

import griffe
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent


def modules() -> list[str]:
  """Returns the dotted names of the package and its modules."""
  paths = sorted((ROOT / 'beta_darts_jax').rglob('*.py'))
  names = ['.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__') for path in paths]
  return [name for name in names if not name.endswith('__main__')]


def on_files(files, config):
  """Adds api/MODULE.md for each module, and a section of the navigation with these pages."""
  for name in modules():
    files.append(File.generated(config, f'api/{name}.md', content=f'::: {name}\n'))
  config.nav.append({'Modules': [{name: f'api/{name}.md'} for name in modules()]})
  return files


class Docstrings(griffe.Extension):
  """Makes Markdown of our docstrings."""

  def on_object(self, *, obj, **options):
    """Names the section of examples as Griffe does, and indents commands. Two pairs of brackets are no link."""
    if obj.docstring:
      text, heading, example = obj.docstring.value.partition('\nExample:\n')
      text = re.sub(r'\](\s?)\[', r']\1\\[', text)
      text = re.sub(r'(?<=\n\n)(  .*(\n|$))+', lambda found: textwrap.indent(found[0], '  '), text)
      obj.docstring.value = text + heading.replace('Example', 'Examples') + example
