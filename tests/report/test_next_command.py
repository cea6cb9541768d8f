"""The command that follows a run is a command, and it trains what was found."""

import json
import pathlib
import shlex

import pytest
from example_run import make_folder, make_population, make_retraining, make_row, make_search

from beta_darts_jax.command.end import finish
from beta_darts_jax.command.next_command import next_command
from beta_darts_jax.config import default, flatten
from beta_darts_jax.report.run_folder import read_run_folder

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of ml_collections, which loads the config file


@pytest.fixture
def follow(parse_line):
  """A function that parses the command after a search: folder → (the values of its config, the folder of its run)."""

  def parse_next_command(folder):
    program, *words = shlex.split(next_command(read_run_folder(folder)))
    command, flags = parse_line(words)
    assert program == 'beta-darts' and command == ['retrain']
    return flatten(flags.config), flags.workdir

  return parse_next_command


def make_search_on(folder, images, size, space='nas_bench_201', **data):
  """Writes the folder of a search on so many images of size×size pixels; `data` are keys of config.data."""
  config = default()
  config.space.name = space
  config.data.update(data)
  make_folder(folder, [make_row(0)], config=config)
  described = {'train': {'images': images}, 'image_shape': [size, size, 3]}
  (folder / 'environment.json').write_text(json.dumps({'data': described}))
  return folder


def test_the_cell_of_a_search_or_of_the_first_member_with_a_cell_is_trained(follow, tmp_path):
  single, population = make_search(tmp_path / 'one'), make_population(tmp_path / 'many')
  config, workdir = follow(single)
  assert (config['genotype'], workdir) == (str(single), f'{single}-retrained')
  assert (config['network.stem'], config['data.source']) == ('nas_bench_201', 'cifar10')
  config, workdir = follow(population)
  assert (config['genotype'], workdir) == (str(population / 'members' / '0'), f'{population}-retrained')
  result = json.loads((population / 'result.json').read_text())
  result['members'][0]['genotype'] = None  # it has diverged
  (population / 'result.json').write_text(json.dumps(result))
  assert follow(population)[0]['genotype'] == str(population / 'members' / '1')


def test_the_data_of_the_search_are_those_of_the_training(follow, tmp_path):
  data = {
    'source': 'folder:my pictures', 'image_size': 32, 'flip': False, 'class_weights': 'balanced', 'data_dir': '/data'
  }  # fmt: skip
  config, _ = follow(make_search_on(tmp_path / 'own', 48, 32, **data))
  assert {name: config[f'data.{name}'] for name in data} == data
  assert (config['data.crop_padding'], config['train.batch_size']) == (4, 32)  # there are 48 images
  crops = make_search_on(tmp_path / 'crops', 48, 224, **data | {'crops': 'resized', 'image_size': 0})
  assert follow(crops)[0]['data.image_size'] == 224


def test_images_of_8_pixels_have_no_auxiliary_head_and_a_small_cutout(follow, tmp_path):
  config, _ = follow(make_search_on(tmp_path / 'digits', 1438, 8, space='darts', source='digits'))
  expected = {
    'network.stem': 'cifar', 'data.source': 'digits', 'train.batch_size': 96, 'network.auxiliary_weight': 0.0,
    'data.cutout': 4,
  }  # fmt: skip
  assert {key: config[key] for key in expected} == expected


def test_a_folder_with_the_name_of_a_published_cell_is_named_as_a_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  make_search(pathlib.Path('GDAS'))
  assert '--config.genotype=./GDAS --workdir GDAS-retrained' in next_command(read_run_folder('GDAS'))


def test_a_training_is_followed_by_its_export(tmp_path):
  exported = f'beta-darts export {tmp_path}/trained --format torch --out exported'
  assert next_command(read_run_folder(make_retraining(tmp_path / 'trained'))) == exported


@pytest.mark.parametrize(
  'name, space, source, stem, image_size, batch_size',
  [
    ('mine_proxy', 'nas_bench_201', 'svhn_cropped', 'nas_bench_201', 0, 256),
    ('mine', 'mobile', 'imagenet2012', 'mobile', 224, 256),
    ('darts_bench_suite_wide_no_skip', 'darts_with_none', 'cifar10', 'cifar', 0, 512),
    ('darts_bench_suite_wide_no_skip', 'darts_with_none', 'cifar100', 'cifar', 0, 96),
    ('darts_bench_suite_wide_no_skip_again', 'darts_with_none', 'cifar10', 'cifar', 0, 96),
  ],
)
def test_the_training_has_the_protocol_of_the_data(follow, tmp_path, name, space, source, stem, image_size, batch_size):
  """It does not have the image size of a proxy. Its batch size is that of the suite, of SVHN or of ImageNet."""
  search = default()
  search.name, search.space.name = name, space
  search.data.update(source=source, image_size=16, crop_padding=2)
  config, _ = follow(make_folder(tmp_path / 'run', [make_row(0)], config=search))
  expected = {
    'network.stem': stem, 'data.source': source, 'data.image_size': image_size, 'train.batch_size': batch_size
  }  # fmt: skip
  assert {key: config[key] for key in expected} == expected
  assert config['data.crop_padding'] == (0 if source == 'imagenet2012' else 4)


def test_no_command_follows_a_search_with_the_stem_of_imagenet_on_other_data(tmp_path, capsys):
  imagenet = default()
  imagenet.space.name, imagenet.supernet.stem, imagenet.data.source = 'darts', 'imagenet', 'folder:pictures'
  finish(make_folder(tmp_path / 'imagenet', [make_row(0)], config=imagenet))
  assert 'No config of this package has the stem of ImageNet for folder:pictures.' in capsys.readouterr().out
  imagenet.space.name = 'nas_bench_201'  # it ignores the stem
  assert next_command(read_run_folder(make_folder(tmp_path / 'other', [make_row(0)], config=imagenet)))


def test_only_process_zero_reads_a_finished_run(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr('beta_darts_jax.command.end.is_process_zero', lambda: False)
  finish(tmp_path / 'not written yet')
  assert not capsys.readouterr().out


def test_next_command_needs_no_regularizer_but_every_operation(tmp_path, capsys):
  regularizer, operation = default(), default()
  regularizer.search.regularizers = ('beta_decay', 'spread')
  operation.space.operations = ('none', 'shift', 'nor_conv_3x3')
  runs = [make_folder(tmp_path / f'run_{k}', [make_row(0)], config=c) for k, c in enumerate((regularizer, operation))]
  assert [bool(next_command(read_run_folder(run))) for run in runs] == [True, False]
  finish(runs[1])
  assert 'use a config file that registers shift,' in capsys.readouterr().out
