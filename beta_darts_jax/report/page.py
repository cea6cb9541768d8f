"""report.html: what a run, or several side by side, did; from the files that runs leave, finished or not.

A page is one file without any request to elsewhere: figures are SVG inside it.
"""

import contextlib
import io
import json
import pathlib
import re
import shlex

import jinja2
import matplotlib

from beta_darts_jax.config import DEFAULTS
from beta_darts_jax.errors import InputError
from beta_darts_jax.networks.operations import BUILT_IN
from beta_darts_jax.report import figures
from beta_darts_jax.report.figures import Curve
from beta_darts_jax.runtime.workdir import in_use, read_result
from beta_darts_jax.search.population import setting_of
from beta_darts_jax.spaces import space as spaces
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.nas_bench_201 import DATASETS

SHOWN = 8  # members whose cells and β are drawn
REMEDY = 'the command of the run writes it anew from a checkpoint, where there is no result.json'


class Run:
  """The files of a run folder, as they are now.

  Attributes:
    path: the folder.
    config, environment: trees of JSON; the environment is {} before the run has written it.
    rows: of metrics.jsonl, in order.
    result: of result.json; None while unfinished.
    diverged: what became non-finite, of a run that ended so.

  Raises:
    InputError: `path` holds no run, or one that is damaged.
  """

  def __init__(self, path):
    self.path = pathlib.Path(path)
    if not (self.path / 'config.json').is_file():
      raise InputError(f'--report: {path} is not the folder of a run, it has no config.json')
    self.name = self.path.resolve().name
    (self.config,) = self._read('config.json')
    needed = {'search': {'search', 'space', 'data'}, 'retrain': {'train', 'genotype', 'data'}}
    if not needed.get(str(self.config.get('task')), {''}) <= self.config.keys():
      raise InputError(f'--report: {self.path / "config.json"} is damaged')
    (self.environment,) = self._read('environment.json') if (self.path / 'environment.json').is_file() else ({},)
    self.result = read_result(self.path)
    noted = self.path / 'diverged.txt'
    self.diverged = noted.read_text(errors='replace').strip() if noted.is_file() else ''
    self.rows = self._read('metrics.jsonl', lines=True) if (self.path / 'metrics.jsonl').is_file() else []
    if not all(isinstance(row.get('epoch'), int) for row in self.rows):
      raise self._damaged('metrics.jsonl')
    if self.result and not self.rows:
      raise InputError(f'--report: {self.path} is finished and its metrics.jsonl has no rows; {REMEDY}')

  def _read(self, name, lines=False) -> list[dict]:
    try:
      text = (self.path / name).read_text(encoding='utf-8')
      found = [json.loads(part) for part in (text.split('\n')[:-1] if lines else [text])]  # a torn last line is no row
    except OSError as error:
      raise InputError(f'--report: {self.path / name} cannot be read: {error.strerror}') from None
    except ValueError:
      found = [None]
    if not all(isinstance(tree, dict) for tree in found):
      raise self._damaged(name)
    return found

  def _damaged(self, name):
    return InputError(f'--report: {self.path / name} is damaged' + (f'; {REMEDY}' if name == 'metrics.jsonl' else ''))

  @property
  def searches(self) -> bool:
    """Whether the run is a search, not a training."""
    return self.config['task'] == 'search'

  @property
  def epochs(self) -> int:
    """Epochs asked for."""
    return self.config['search' if self.searches else 'train']['epochs']

  @property
  def members(self) -> dict[int, list[dict]]:
    """{member: its rows}; a lone run is member 0."""
    found: dict[int, list[dict]] = {}
    for row in self.rows:
      found.setdefault(row.get('member', 0), []).append(row)
    return found

  def state(self) -> str:
    """One line: finished, running, diverged or stopped, and how far it is."""
    if self.result:
      return f'Finished. {self.path}'
    done = self.rows[-1]['epoch'] + 1 if self.rows else 0
    what = 'Not finished, and nobody works on it'
    if in_use(self.path):
      what = 'Running'
    elif self.diverged:
      what = f'Diverged ({self.diverged})'
    left = ', not yet what follows them' if done == self.epochs else ''
    return f'{what}: {done} of {self.epochs} epochs{left}. {self.path}'


def write(paths, out=None, png: bool = False) -> pathlib.Path:
  """Writes the page and returns where it is.

  Args:
    paths: folders of runs, finished or not.
    out: the file; by default report.html in the folder of the only run, of several in the current folder.
    png: also write every figure as FILE_figures/NAME.png.

  Raises:
    InputError: a folder holds no run, a file of it is damaged, or the page cannot be written.
  """
  runs = [Run(path) for path in paths]
  if len({run.name for run in runs}) < len(runs):
    for run in runs:
      run.name = str(run.path)
  out = pathlib.Path(out or ('report.html' if len(runs) > 1 else runs[0].path / 'report.html'))
  if out.is_dir():
    raise InputError(f'cannot write {out}: it is a folder; --out is a file')
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('beta_darts_jax', 'report'), autoescape=True, trim_blocks=True, lstrip_blocks=True
  )
  title = ', '.join(run.name for run in runs)
  try:
    with matplotlib.rc_context({'text.parse_math': False}):  # names of runs are no formulas
      drawn = sections_of(runs)
    text = environment.get_template('report.html.jinja').render(
      title=title, runs=[described(run) for run in runs], sections=[_rendered(section) for section in drawn]
    )
  except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
    raise InputError(f'--report: a file of {title} is damaged ({type(error).__name__}: {error})') from error
  temporary = out.with_name(f'.{out.name}.tmp')
  try:
    if png:
      _write_png(drawn, figures_folder(out))
    temporary.write_text(text, encoding='utf-8')
    temporary.replace(out)
  except OSError as error:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise InputError(f'cannot write {out}: {error.strerror}') from None
  return out


def figures_folder(page: pathlib.Path) -> pathlib.Path:
  """Where the PNGs of a page are."""
  return page.with_name(f'{page.stem}_figures')


# ---- words and numbers ----


def described(run: Run) -> dict:
  """What the page says of a run besides its figures."""
  path = run.path if run.path.name else run.path.resolve()
  begun, added = f'python -m beta_darts_jax.main --config {shlex.quote(f"configs/again.py:{path}")}', ''
  if own := sorted(_operations(run.config) - BUILT_IN):  # which config.json cannot hold
    begun = run.environment.get('command') or 'python -m beta_darts_jax.main --config FILE'
    added = f'  # the config file adds {", ".join(own)}'
  command = lambda folder: f'{begun} --workdir {shlex.quote(str(folder))}{added}'
  return {
    'name': run.name,
    'state': run.state(),
    'headline': headline(run),
    'genotype': (run.result or {}).get('genotype') or (run.rows[-1].get('genotype') if len(run.members) == 1 else None),
    'tables': tables(run),
    'command': command(f'{path}-again'),
    'resume': None if run.result or run.diverged else command(path),
    'where': ', '.join(f'{name} {value}' for name, value in _flat(run.environment).items() if name != 'command'),
    'config': _values(run.config),
  }


def _operations(config):
  """Names of the operations that a config gives."""
  if config['task'] == 'search':
    return set(config['space']['operations'])
  return {name for cell in Genotype.parse(config['genotype']).cells for name in cell.operations}


def headline(run: Run) -> dict[str, str]:
  """The few numbers that matter, of the result or of the last epoch so far."""
  last, result = (run.rows[-1] if run.rows else {}), run.result or {}
  found = {'data': run.config['data']['source']}
  if 'members' in result or len(run.members) > 1:
    found['members'] = str(len(run.members))
  else:
    known = last | result
    for name, label in (('valid_accuracy', 'supernet, validation'), ('test_accuracy', 'test accuracy')):
      if known.get(name) is not None:
        found[label] = f'{100 * known[name]:.2f} %'
    if row := known.get('benchmark'):
      for dataset in DATASETS:
        found[f'benchmark, {dataset}'] = f'{row[f"{dataset}_test"]:.2f} %, rank {row[f"{dataset}_test_rank"]} of 15,625'
    for name in ('parameters', 'multiply_adds'):
      if name in known:
        found[name.replace('_', '-')] = f'{known[name]:,}'
  for name, seconds in (result.get('seconds') or {}).items():
    found[f'{name}, s'] = f'{seconds:,.0f}'
  if not result and run.rows:
    found['so far, s'] = f'{sum(rows["seconds"] for rows in next(iter(run.members.values()))):,.0f}'
  for name, size in (result.get('memory') or {}).items():
    found[f'{name} memory'] = f'{size / 2**30:.2f} GiB'
  if run.environment:
    found['device'] = f'{run.environment["devices"]} × {run.environment["device"]}'
  return found


def tables(run: Run) -> dict[str, list[dict]]:
  """{title: rows} of members, baselines and what a search compared itself with."""
  result, found = run.result or {}, {}
  percent = lambda value: '' if value is None else f'{100 * value:.2f}'
  if len(run.members) > 1 or 'members' in result:
    of_results = {member['member']: member for member in result.get('members', [])}
    rows = []
    for k, history in run.members.items():
      known = history[-1] | of_results.get(k, {})
      row = {'member': k, 'seed': known.get('seed'), 'setting': _setting(of_results.get(k, {}))}
      row |= {'validation, %': percent(known.get('valid_accuracy'))}
      if benchmark := known.get('benchmark'):
        row |= {f'{dataset}, test, %': f'{benchmark[f"{dataset}_test"]:.2f}' for dataset in DATASETS}
      rows.append(row | {'cell': known.get('genotype') or 'diverged'})
    found['Members'] = _alike(rows)
  if baselines := result.get('baselines'):
    found['Beside it: baselines, test, %'] = [{n.replace('_', ' '): f'{v:.2f}' for n, v in baselines.items()}]
  if taus := result.get('kendall_tau'):
    found['Does the supernet rank cells as the benchmark does? Kendall τ'] = [
      {'by': name.replace('_', ' '), 'τ': f'{t["tau"]:.3f}', '95 %': f'{t["low"]:.3f} … {t["high"]:.3f}', 'n': t['n']}
      for name, t in taus.items()
    ]
  if compared := result.get('retrain'):
    cells = [('found', compared['found']), *(('random', cell) for cell in compared['random'])]
    found['Retrained'] = [
      {'': n, 'test, %': percent(c['test_accuracy']), 'parameters': f'{c["parameters"]:,}', 'genotype': c['genotype']}
      for n, c in cells
    ]
  return found


def _setting(member):
  return ', '.join(f'{name} {value:g}' for name, value in setting_of(member).items() if isinstance(value, (int, float)))


def _alike(rows):
  """All rows with the names of all, in order, but for what is empty throughout."""
  names = list(dict.fromkeys(name for row in rows for name, value in row.items() if value != ''))
  return [{name: row.get(name, '') for name in names} for row in rows]


def _flat(tree, prefix=''):
  found = {}
  for name, value in tree.items():
    found |= _flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value}
  return found


def _values(config):
  usual = _flat(json.loads(json.dumps(DEFAULTS[config['task']]().to_dict())))
  return [
    {'name': f'config.{name}', 'value': value, 'changed': name != 'task' and value != usual.get(name)}
    for name, value in _flat(config).items()
  ]


# ---- figures ----


def sections_of(runs: list[Run]) -> list[dict]:
  """[{title, note, figures: {caption: Figure}, folded: {summary: {caption: Figure}}}]."""
  curves = [curve for run in runs for curve in curves_of(run, alone=len(runs) == 1)]
  found = []
  for run in runs:
    of_run = f' of {run.name}' if len(runs) > 1 else ''
    if run.searches:
      found += _cells(run, of_run)
    else:
      cells = {f'The {name}.': drawn for name, drawn in _drawn(Genotype.parse(run.config['genotype'])).items()}
      found.append(_section(f'Cell{of_run}', cells))
  drawn = {
    'Architecture over the epochs': figures.architecture(curves),
    'The cell in the benchmark, epoch by epoch': figures.benchmark(curves),
    'Losses and accuracies': figures.training(curves),
    'Diagnostics': figures.measured(curves),
    'Throughput': figures.throughput(curves),
  }
  return found + [_section(title, {'': figure}) for title, figure in drawn.items() if figure]


def curves_of(run: Run, alone: bool) -> list[Curve]:
  """A curve a member; members of one setting share a label, or of one run beside others."""
  settings = {m['member']: _setting(m) for m in (run.result or {}).get('members', [])}
  of_seed = lambda k: f'seed {run.members[k][0].get("seed")}'
  label = lambda k: (settings.get(k) or of_seed(k)) if alone else run.name
  return [Curve(label(k), rows) for k, rows in run.members.items()]


def _section(title, drawn, note='', folded=None):
  return {'title': title, 'note': note, 'figures': drawn, 'folded': folded or {}}


def _drawn(genotype, space=None, of_epoch=None):
  """{'normal cell': Figure, …}; with β of an epoch as thickness."""
  names = ['cell'] if len(genotype.cells) == 1 else ['normal', 'reduce']
  found = {}
  for name, cell in zip(names, genotype.cells, strict=True):
    strengths = None
    if space:
      rows = [space.edges.index((target, source)) for target, source, _ in cell.edges]
      operations = [space.candidates(name)[e].index(o) for e, (_, _, o) in zip(rows, cell.edges, strict=True)]
      strengths = [of_epoch[name][e][o] for e, o in zip(rows, operations, strict=True)]
    found[name if name == 'cell' else f'{name} cell'] = figures.cell(cell, strengths)
  return found


def _cells(run, of_run):
  """Sections of the cells and of β; of a population the members' are folded."""
  space = spaces.make_space(**run.config['space'])
  members = {k: rows for k, rows in run.members.items() if rows[-1].get('genotype')}
  found = (run.result or {}).get('members') or ([run.result] if run.result else [])
  cells, betas = {}, {}
  for k, rows in list(members.items())[:SHOWN]:
    result = found[k] if k < len(found) else {}
    text, epoch = result.get('genotype') or rows[-1]['genotype'], result.get('epoch', rows[-1]['epoch'])
    row = next(row for row in rows if row['epoch'] == epoch)
    thickness = 'Arrows are as thick as the β of their operation.'
    cells[k] = {
      f'The {name} of epoch {epoch + 1}. {thickness}': figure
      for name, figure in _drawn(space.parse(text), space, row['betas']).items()
    }
    betas[k] = {
      f'β of the {"cell" if name == "cell" else f"{name} cell"}, an edge a panel (source → target).': figures.betas(
        Curve('', [row for row in rows if row.get('betas')]), space, name
      )
      for name in space.cell_types
    }
  if not members:
    return []
  note = f'{SHOWN} of {len(members)} members are drawn.' if len(members) > SHOWN else ''
  if len(run.members) == 1:
    return [_section(f'Cell{of_run}', cells[0]), _section(f'β over the epochs{of_run}', betas[0])]
  by_member = {f'member {k}, seed {members[k][-1].get("seed")}': cells[k] | betas[k] for k in cells}
  return [_section(f'Cells and β of the members{of_run}', {}, note, by_member)]


def _rendered(section):
  svg = lambda drawn: [{'caption': caption, 'svg': _svg(figure)} for caption, figure in drawn.items()]
  return section | {
    'figures': svg(section['figures']),
    'folded': {name: svg(drawn) for name, drawn in section['folded'].items()},
  }


def _svg(figure):
  """The <svg> element of a figure: the same text for the same data, scaled by the page."""
  with matplotlib.rc_context({'svg.hashsalt': 'report', 'svg.fonttype': 'none'}):
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata={'Date': None})
  text = file.getvalue()
  return text[text.index('<svg') :]


def _write_png(sections, folder):
  folder.mkdir(parents=True, exist_ok=True)
  used = set()
  for section in sections:
    groups = {'': section['figures']} | section['folded']
    drawn = [(f'{section["title"]} {name}', figure) for name, group in groups.items() for figure in group.values()]
    for i, (name, figure) in enumerate(drawn):
      number = f'_{i + 1}' if len(section['figures']) > 1 or section['folded'] else ''
      name = re.sub(r'[^0-9A-Za-z]+', '_', name.replace('β', 'beta')).strip('_') + number
      while name in used:  # names of runs may differ in other characters alone
        name += '_'
      used.add(name)
      figure.savefig(folder / f'{name}.png', dpi=150)
