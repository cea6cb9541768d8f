"""What a run says about its data, and that other data is refused."""

import dataclasses
import json
import runpy

import jax
import numpy as np
import pytest

from beta_darts_jax import InputError, data, run_search
from beta_darts_jax.config import default
from beta_darts_jax.data import Dataset, announce, describe, find_warnings, from_arrays, record
from beta_darts_jax.data.lazy import LazyImages
from beta_darts_jax.data.pictures import FilePictures
from beta_darts_jax.report.run_folder import read_run_folder
from beta_darts_jax.report.tables import texts_of
from beta_darts_jax.runtime.devices import make_mesh
from beta_darts_jax.runtime.environment import environment
from beta_darts_jax.runtime.workdir import Workdir, refuse_other_data


def noise(*shape):
  return np.random.default_rng(0).integers(0, 200, shape, np.uint8)


def cats_and_dogs():
  labels = np.arange(40) % 4 // 3  # 30 cats, 10 dogs
  return from_arrays(noise(40, 4, 4, 3), labels, noise(3, 4, 4, 3), [0, 1, 1], 'pets', ['cat', 'dog'])


def test_two_lines_say_what_was_read():
  facts = record(cats_and_dogs())
  first, second = describe(facts)
  assert first.startswith('40 training and 3 test images of 4×4×3, pixels 0 … 199, mean 0.375 0.398 0.389,')
  assert second == '2 classes, from dog (10 training images) to cat (30 training images)'
  assert facts['classes'] == ['cat', 'dog'] and facts['train']['of_each_class'] == [30, 10]
  assert json.loads(json.dumps(facts)) == facts  # it has the form that a file gives back


def test_the_record_of_a_stream_has_its_files_and_no_pixels():
  pets = cats_and_dogs()
  images = LazyImages(FilePictures(()), np.arange(40), (4, 4, 3), fingerprint='x')
  stream = dataclasses.replace(pets, train=(images, pets.train[1]), test=(images[:3], pets.test[1]))
  facts, resident = record(stream), record(pets)
  resident['train'].pop('pixels_sha256')
  assert facts['train'] == resident['train'] | {'files_sha256': 'x'}
  assert describe(facts)[0].startswith('40 training and 3 test images of 4×4×3, mean 0.375') and 'pixels' not in facts


def changed_label(dataset):
  return dataclasses.replace(dataset, train=(dataset.train[0], 1 - dataset.train[1]))


def changed_pixel(dataset):
  images = dataset.test[0].copy()
  images[0, 0, 0, 0] ^= 1
  return dataclasses.replace(dataset, test=(images, dataset.test[1]))


@pytest.mark.parametrize(
  'change, differs',
  [
    (changed_label, {'train'}),
    (changed_pixel, {'test'}),
    (lambda dataset: dataclasses.replace(dataset, classes=('dog', 'cat')), {'classes'}),
  ],
)
def test_the_record_changes_with_the_data(change, differs):
  before, after = record(cats_and_dogs()), record(change(cats_and_dogs()))
  assert {name for name in before if before[name] != after[name]} == differs


def labelled(train, test, **fields):
  """A data set of noise with these labels."""
  train, test = np.array(train), np.array(test)
  images = [noise(len(labels), 4, 4, 1) for labels in (train, test)]
  return Dataset('x', (images[0], train), (images[1], test), 3, (0.4,), (0.2,), **fields)


ENOUGH = [0, 1, 2] * 20


@pytest.mark.parametrize(
  'dataset, searches, expected',
  [
    (labelled(ENOUGH, [0, 1, 2]), True, []),
    (labelled(ENOUGH, [0, 1]), True, ['the test set has no image of 2']),
    (labelled(ENOUGH + [1] * 9, [0, 1, 2], classes=('a', 'b', 'c'), left_out=('1 file',)), False, ['1 file']),
    (labelled([0] * 20 + [1] * 20 + [2] * 3, [0, 1, 2]), False, ['fewer than 10 training images: 2 (3)']),
    (
      labelled([0] * 20 + [1] * 20 + [2], [0, 1, 2]),
      True,
      ['fewer than 10 training images: 2 (1)', 'the part that trains α has no image of 2'],
    ),
    (
      labelled([0] * 30 + [2] * 30, [0, 2]),
      False,
      ['the training set has no image of 1', 'the test set has no image of 1'],
    ),
    (labelled(ENOUGH, [0, 1, 2], in_order=True), True, []),
  ],
)
def test_warnings_name_the_classes(dataset, searches, expected):
  assert find_warnings(dataset, searches=searches) == expected


def test_a_class_without_an_image_in_the_fraction_that_a_training_uses_is_named():
  dataset = labelled([0] * 50 + [1] * 12 + [2] * 50, [0, 1, 2])
  part = 'the part of the training images that is used'
  assert find_warnings(dataset, fraction=0.02) == [f'{part} has no image of 1 (data.fraction=0.02)']
  lines = find_warnings(dataset, fraction=0.05, searches=True)
  assert lines[0] == 'the part that trains the weights has no image of 1 (data.fraction=0.05)'
  assert find_warnings(dataset, fraction=0.5) == []


def test_constant_images_are_counted():
  images = noise(30, 4, 4, 1)
  images[:7] = 255
  images[7] = images[7] // 14 + 100  # spans 14
  warnings = find_warnings(from_arrays(images, np.arange(30) % 2, images[20:], np.arange(10) % 2))
  assert warnings == ['8 of 30 training images are constant or nearly so']


def test_the_run_and_its_page_have_the_warnings(tmp_path, capsys):
  facts = announce(labelled(ENOUGH, [0, 1]))
  assert facts == record(labelled(ENOUGH, [0, 1])) | {'warnings': ['the test set has no image of 2']}
  with Workdir(tmp_path, default().to_dict(), data=facts) as run:
    run.record_environment({'device': 'cpu', 'devices': 1})
  lines = capsys.readouterr().out.splitlines()
  assert lines == texts_of(read_run_folder(tmp_path))['data'] and lines[2] == 'warning: the test set has no image of 2'
  refuse_other_data(tmp_path, facts | {'warnings': ['in the words of another version']})


# ---- a run and its data ----


@pytest.mark.parametrize(
  'count, side, classes, differs',
  [
    (200, 8, 2, r'train\.pixels_sha256: "\w+ …, yours: "\w+ …; test\.pixels_sha256: ".*Choose another workdir'),
    (400, 8, 2, r'train\.images: 160, yours: 320; train\.of_each_class: \[80, 80\], yours: \[160, 160\]'),
    (100, 8, 2, r'train\.images: 160, yours: 80'),
    (200, 12, 2, r'image_shape: \[8, 8, 3\], yours: \[12, 12, 3\]'),
    (200, 8, 4, r'classes: \["0", "1"\], yours: \["0", "1", "2", "3"\]'),
  ],
)
def test_a_resume_with_other_data_is_refused(tmp_path, count, side, classes, differs):
  """A search that was stopped resumes only with the same images."""
  config = default()
  config.update_from_flattened_dict({'data.source': f'npz:{tmp_path}/x.npz', 'data.crop_padding': 1})
  config.search.batch_size = 8

  def write(seed, count, side, classes):
    images = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    np.savez(tmp_path / 'x.npz', images=images, labels=np.arange(count) % classes)

  write(0, 200, 8, 2)
  facts = record(data.load(config.data.source))
  with Workdir(tmp_path / 'run', config.to_dict(), 'command', facts) as run:
    assert run.record_environment({'cores': 2}) == []
  with Workdir(tmp_path / 'run', config.to_dict(), 'command', facts) as run:
    assert run.record_environment({'cores': 2}) == []
  write(1, count, side, classes)
  with pytest.raises(InputError, match=rf'run belongs to a run with different data \({differs}'):
    run_search(config, tmp_path / 'run')


@pytest.fixture
def precision():
  """Sets JAX's precision back after the test."""
  yield
  jax.config.update('jax_default_matmul_precision', None)


def test_changed_settings_of_jax_are_named_and_repeated(tmp_path, monkeypatch, capsys, precision):
  mesh = make_mesh(8)
  monkeypatch.setenv('XLA_FLAGS', '--xla_a=1')
  with Workdir(tmp_path / 'run', default().to_dict()) as run:
    run.report_environment(mesh)
    before = environment(mesh)
    monkeypatch.setenv('XLA_FLAGS', '--xla_a=2')
    jax.config.update('jax_default_matmul_precision', 'highest')
    assert run.record_environment(environment(mesh)) == [
      'settings.jax_default_matmul_precision: None → highest',
      'XLA_FLAGS: --xla_a=1 → --xla_a=2',
    ]
  runpy.run_path('configs/again.py')['get_config'](str(tmp_path / 'run'))
  assert environment(mesh) == before
  assert 'jax_default_matmul_precision=None' in capsys.readouterr().out
