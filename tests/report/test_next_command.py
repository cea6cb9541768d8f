"""The command that follows a run is a command, and it trains what was found."""

import json
import pathlib
import shlex
import sys

import pytest
from absl import flags
from example_run import make_folder, make_population, make_retraining, make_row, make_search

from beta_darts_jax.command import parsing
from beta_darts_jax.command.end import finish
from beta_darts_jax.command.next_command import next_command
from beta_darts_jax.config import default
from beta_darts_jax.report.run_folder import read_run_folder


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of ml_collections, which loads the config file
def test_the_command_that_follows_a_run_is_a_command(tmp_path, monkeypatch):
  """Its parts are known, and its config has the protocol of the data set, or else the data of the run."""
  own, digits = default(), default()
  own.data.update(source='folder:my pictures', image_size=32, flip=False, class_weights='balanced', data_dir='/data')
  digits.space.name, digits.data.source = 'darts', 'digits'
  runs = {
    make_search(tmp_path / 'one'): 'nas_bench_201 cifar10 256 one',
    make_population(tmp_path / 'many'): 'nas_bench_201 cifar10 256 many/members/0',
    make_folder(tmp_path / 'small', [make_row(0)], config=digits): 'cifar digits 96 small',
    make_folder(tmp_path / 'own', [make_row(0)], config=own): 'nas_bench_201 folder:my pictures 32 own',
  }
  for name, images, size in (('small', 1438, 8), ('own', 48, 32)):
    data = {'train': {'images': images}, 'image_shape': [size, size, 3]}
    (tmp_path / name / 'environment.json').write_text(json.dumps({'data': data}))
  for path, found in runs.items():
    program, *words = shlex.split(next_command(read_run_folder(path)))
    values = flags.FlagValues()
    parsing.define_flags(values)
    monkeypatch.setattr(sys, 'argv', [program, *words])
    assert parsing.parse(sys.argv, values) == ['retrain']
    config = values.config
    cell = pathlib.Path(config.genotype).relative_to(tmp_path)
    assert f'{config.network.stem} {config.data.source} {config.train.batch_size} {cell}' == found
    assert values.workdir == f'{path}-retrained'
    assert config.data.source != 'digits' or (config.network.auxiliary_weight, config.data.cutout) == (0.0, 4)
  assert (config.data.image_size, config.data.flip, config.data.crop_padding) == (32, False, 4)
  assert (config.data.class_weights, config.data.data_dir) == ('balanced', '/data')
  monkeypatch.chdir(tmp_path)
  make_search(pathlib.Path('GDAS'))
  assert '--config.genotype=./GDAS --workdir GDAS-retrained' in next_command(read_run_folder('GDAS'))
  own.data.update(crops='resized', image_size=0)
  resized = make_folder(tmp_path / 'resized', [make_row(0)], config=own)
  data = {'train': {'images': 48}, 'image_shape': [224, 224, 3]}
  (resized / 'environment.json').write_text(json.dumps({'data': data}))
  assert '--config.data.image_size=224' in next_command(read_run_folder(resized))
  exported = f'beta-darts export {tmp_path}/trained --format torch --out exported'
  assert next_command(read_run_folder(make_retraining(tmp_path / 'trained'))) == exported


@pytest.mark.parametrize(
  'name, space, source, expected',
  [
    ('mine_proxy', 'nas_bench_201', 'svhn_cropped', 'nas_bench_201 svhn_cropped 0 256'),
    ('mine', 'mobile', 'imagenet2012', 'mobile imagenet2012 224 256'),
    ('darts_bench_suite_wide_no_skip', 'darts_with_none', 'cifar10', 'cifar cifar10 0 512'),
    ('darts_bench_suite_wide_no_skip', 'darts_with_none', 'cifar100', 'cifar cifar100 0 96'),
    ('darts_bench_suite_wide_no_skip_again', 'darts_with_none', 'cifar10', 'cifar cifar10 0 96'),
  ],
)
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of ml_collections, which loads the config file
def test_the_next_command_has_the_protocol_of_the_data(tmp_path, monkeypatch, name, space, source, expected):
  """Not the image size of a proxy, but the batch size and the images of the suite, of SVHN and of ImageNet."""
  search = default()
  search.name, search.space.name = name, space
  search.data.update(source=source, image_size=16, crop_padding=2)
  run = read_run_folder(make_folder(tmp_path / 'run', [make_row(0)], config=search))
  program, *words = shlex.split(next_command(run))
  values = flags.FlagValues()
  parsing.define_flags(values)
  monkeypatch.setattr(sys, 'argv', [program, *words])
  assert parsing.parse(sys.argv, values) == ['retrain']
  config = values.config
  found = f'{config.network.stem} {config.data.source} {config.data.image_size} {config.train.batch_size}'
  assert found == expected and config.data.crop_padding in (0, 4)


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
