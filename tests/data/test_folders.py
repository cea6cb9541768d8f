"""Folders and npz files as people have them: every image is read or named."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from beta_darts_jax import InputError, data
from beta_darts_jax.config import default
from beta_darts_jax.search.setup import load_search_data, make_search_setup

PICTURES = {name: Image.new('RGB', (4, 4), (i, i, i)) for i, name in enumerate('abcdefgh')}


def make(root, *files):
  """Makes pictures, each with the colour of its class; a name without suffix is an empty folder."""
  for file in files:
    path = root / file
    (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)
    if path.suffix == '.png':
      PICTURES.get(path.parent.name, PICTURES['h']).save(path)
    elif path.suffix:
      path.write_text('text')


def counts(dataset):
  """Images by class, of the training set and of the test set."""
  return [np.bincount(labels, minlength=dataset.num_classes).tolist() for _, labels in (dataset.train, dataset.test)]


@pytest.mark.parametrize('train', ['train', 'Training', 'TRAIN'])
@pytest.mark.parametrize('test', ['test', 'Testing', 'val', 'Valid', 'validation', 'dev'])
def test_parts_have_many_spellings(tmp_path, train, test):
  make(tmp_path, f'{train}/a/0.png', f'{train}/a/1.png', f'{train}/b/0.png', f'{test}/b/0.png')
  dataset = data.load(f'folder:{tmp_path}')
  assert counts(dataset) == [[2, 1], [0, 1]] and dataset.classes == ('a', 'b') and not dataset.left_out


@pytest.mark.parametrize(
  'files, expected',
  [
    (['train/a/0.png', 'train/a/1.png', 'train/b/0.png', 'train/b/1.png', 'train/b/2.png'], 5),  # train/ alone
    (['a/0.png', 'a/1.png', 'b/0.png', 'b/1.png', 'b/2.png', '__MACOSX/._a', '.git/0.png', 'a/.x.png'], 5),
    (['a/0.png', 'a/1.png', 'b/0.png', 'b/1.png', 'b/Thumbs.db', 'a/desktop.ini'], 4),
    (['train/0.png', 'train/1.png', 'test/0.png', 'other/0.png', 'other/1.png'], 5),  # classes with names of parts
  ],
)
def test_every_image_is_read(tmp_path, files, expected):
  make(tmp_path, *files)
  dataset = data.load(f'folder:{tmp_path}')
  assert len(dataset.train[1]) + len(dataset.test[1]) == expected and not dataset.left_out


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  make(tmp_path / 'pictures', 'a/0.png', 'a/1.png', 'b/0.png', 'b/1.png')
  np.savez(tmp_path / 'x.npz', images=np.zeros((4, 2, 2), np.uint8), labels=[0, 1, 0, 1])
  assert data.load('folder:~/pictures').num_classes == data.load('npz:~/x.npz').num_classes == 2


@pytest.mark.parametrize(
  'files, named',
  [
    (['a/0.png', 'a/more/1.png', 'b/0.png'], 'a/more: is a folder inside a class'),
    (['train/a/more/1.png', 'train/b/0.png'], 'train/a/more: is a folder inside a class'),
    (['Train/0.png', 'Test/0.png'], 'Test and Train without class sub-folders'),
    (['train/0.png', 'train/1.png'], 'train without class sub-folders'),
    (['test/a/0.png', 'test/b/0.png'], 'has test with class sub-folders, but no such train folder'),
    (['train/a/0.png', 'val/a/0.png', 'dev/a/0.png'], 'has dev and val: expected one of them'),
    (['train/a/0.png', 'train/b/0.png', 'test/c/0.png'], 'test/c: no such class in .*train: expected a, b'),
    (['a/0.png', 'b'], 'b: has no images'),
    (['train/a/0.png', 'train/b/0.png', 'test/a/0.png', 'test/b'], 'test/b: has no images'),
    (['a/0.png', 'b/list.txt'], r'b/list\.txt: cannot be read as an image'),
  ],
)
def test_other_layouts_are_refused_by_path(tmp_path, files, named):
  make(tmp_path, *files)
  with pytest.raises(InputError, match=named):
    data.load(f'folder:{tmp_path}')


@pytest.mark.parametrize('link', ['c', 'a/9.png', 'train'])
def test_links_to_nothing_are_refused_by_path(tmp_path, link):
  make(tmp_path, 'a/0.png', 'b/0.png')
  (tmp_path / link).symlink_to('/nowhere')
  with pytest.raises(InputError, match=f'{link}: is a link to nothing'):
    data.load(f'folder:{tmp_path}')


@pytest.mark.parametrize('link', ['c', 'a/9.png'])
def test_a_link_to_itself_is_refused_by_path(tmp_path, link):
  make(tmp_path, 'a/0.png', 'b/0.png')
  (tmp_path / link).symlink_to(tmp_path / link)
  with pytest.raises(InputError, match=rf'{link}: cannot be read \(Too many levels of symbolic links\)'):
    data.load(f'folder:{tmp_path}')


def test_links_to_folders_and_files_are_followed_and_other_entries_refused(tmp_path):
  make(tmp_path / 'x', 'a/0.png', 'a/1.png')
  make(tmp_path / 'y', 'b/0.png')
  (tmp_path / 'x' / 'b').symlink_to(tmp_path / 'y' / 'b')
  (tmp_path / 'y' / 'b' / '1.png').symlink_to(tmp_path / 'x' / 'a' / '0.png')
  assert np.sum(counts(data.load(f'folder:{tmp_path}/x'))) == 4
  os.mkfifo(tmp_path / 'x' / 'a' / 'pipe')
  with pytest.raises(InputError, match='pipe: is neither a file nor a folder'):
    data.load(f'folder:{tmp_path}/x')


PARTS = ['train/a/0.png', 'train/b/0.png', 'test/a/0.png', 'test/b/0.png']


@pytest.mark.parametrize(
  'files, named',
  [
    (['labels.csv'], r'1 file of .* is left out, outside the class folders: labels\.csv'),
    (['train/0.png', 'train/1.png'], r'2 files of .*train are left out, .*: 0\.png, 1\.png'),
    (['extra/0.png'], r'extra is left out'),
    (['val/a/0.png'], r'the validation set is left out'),
  ],
)
def test_what_is_left_out_of_a_folder_is_named(tmp_path, files, named):
  make(tmp_path, *PARTS, *files)
  dataset = data.load(f'folder:{tmp_path}')
  assert counts(dataset) == [[1, 1], [1, 1]]
  (sentence,) = dataset.left_out
  assert re.search(named, sentence)


def test_a_file_name_that_is_no_text_is_named_readably(tmp_path):
  make(tmp_path, *PARTS)
  (tmp_path / os.fsdecode(b'Gr\xf6\xdfe.txt')).touch()
  (sentence,) = data.load(f'folder:{tmp_path}').left_out
  assert sentence.encode('utf-8').decode().endswith('Gr\ufffd\ufffde.txt')


ARRAYS = {'images': np.zeros((4, 2, 2), np.uint8), 'labels': np.arange(4) % 2}
VALID = {'valid_images': ARRAYS['images'][:2], 'valid_labels': np.array([0, 1])}
TEST_8 = {'test_images': np.zeros((2, 8, 8, 3), np.uint8), 'test_labels': np.array([0, 1])}
KERAS = {
  'x_train': ARRAYS['images'], 'y_train': ARRAYS['labels'], 'x_test': ARRAYS['images'][:1], 'y_test': np.array([1]),
}  # fmt: skip
TEST = {'test_images': ARRAYS['images'][:1], 'test_labels': np.array([1])}


@pytest.mark.parametrize(
  'arrays, test_images, left_out',
  [
    (ARRAYS | VALID, 2, []),
    (ARRAYS | VALID | TEST, 1, ['the validation set is left out: a search trains α on it with alpha_split=valid only']),
    ({f'train_{name}': array for name, array in ARRAYS.items()} | TEST, 1, []),
    ({name.title(): array for name, array in (ARRAYS | TEST).items()}, 1, []),
    (KERAS, 1, []),
    ({'X': ARRAYS['images'], 'y': ARRAYS['labels'], 'x_rays': 0}, 2, ['arrays of {} are left out: x_rays']),
    (ARRAYS | {'ids': np.arange(4), 'more': np.arange(2)}, 2, ['arrays of {} are left out: ids, more']),
  ],
)
def test_the_arrays_of_an_npz_are_read_or_named(tmp_path, arrays, test_images, left_out):
  np.savez(tmp_path / 'x.npz', **arrays)
  dataset = data.load(f'npz:{tmp_path}/x.npz')
  assert len(dataset.test[1]) == test_images
  assert dataset.left_out == tuple(text.format(tmp_path / 'x.npz') for text in left_out)


@pytest.mark.parametrize(
  'arrays, named',
  [
    (ARRAYS | {'val_images': ARRAYS['images']}, 'expected both val_images and val_labels, or neither'),
    (ARRAYS | VALID | {'val_images': 0, 'val_labels': 0}, 'expected one valid set'),
    (ARRAYS | TEST | {'test_labels': np.array([[1]])}, r'test labels are int64 \[1, 1\]: expected 1 integers'),
    (ARRAYS | TEST | {'test_labels': np.array([2])}, 'test label 2: expected up to 1'),
    (ARRAYS | {'Labels': np.arange(4)}, 'has labels and Labels: expected one of them'),
    (KERAS | ARRAYS, r'has x_train, .*: expected one train set'),
    (ARRAYS | {'x_test': 0}, 'has images, labels, x_test: expected both test_images and test_labels'),
    (ARRAYS | {'labels': np.array([None] * 4)}, r'array labels cannot be read \(Object arrays'),
    (ARRAYS | {'classes': np.array(['cat'])}, '1 names of classes: expected 2'),
    (ARRAYS | {'classes': np.arange(2)}, r'classes are int64 \[2\]: expected text \[K\], the names'),
    (ARRAYS | {'classes': np.array([['cat', 'dog']])}, r'classes are <U3 \[1, 2\]: expected text'),
    ({}, 'has no arrays: expected images and labels'),
  ],
)
def test_wrong_arrays_of_an_npz_are_named(tmp_path, arrays, named):
  np.savez(tmp_path / 'x.npz', **arrays)
  with pytest.raises(InputError, match=named):
    data.load(f'npz:{tmp_path}/x.npz')


def test_an_npz_may_name_its_classes(tmp_path):
  np.savez(tmp_path / 'x.npz', **ARRAYS, classes=np.array(['cat', 'dog']))
  assert data.load(f'npz:{tmp_path}/x.npz').class_names == ('cat', 'dog')
  assert data.from_arrays(**ARRAYS).class_names == ('0', '1')
  np.savez(tmp_path / 'x.npz', **ARRAYS, classes=np.array(['Kätzchen'.encode(), b'\xff']))
  assert data.load(f'npz:{tmp_path}/x.npz').class_names == ('Kätzchen', '\ufffd')


# ---- α from a validation set ----


def test_the_validation_set_trains_alpha_and_all_training_images_train_the_weights(tmp_path):
  make(tmp_path, *PARTS, 'val/a/0.png', 'val/b/0.png', 'val/b/1.png')
  dataset = data.load(f'folder:{tmp_path}', alpha_split='valid')
  weights, alpha = dataset.search_splits()
  assert weights[1].tolist() == [0, 1] and alpha[1].tolist() == [0, 1, 1]
  assert alpha[0][:, 0, 0, 0].tolist() == [0, 1, 1] and not dataset.left_out
  assert [len(labels) for labels in dataset.search_labels(0.5)] == [1, 3]
  assert 'the validation images, which train α, are the test set, too' not in data.find_warnings(dataset)


def test_a_validation_set_that_is_also_the_test_set_is_named(tmp_path):
  np.savez(tmp_path / 'x.npz', **ARRAYS, **VALID)
  dataset = data.load(f'npz:{tmp_path}/x.npz', alpha_split='valid')
  assert 'the validation images, which train α, are the test set, too' in data.find_warnings(dataset)


@pytest.mark.parametrize(
  'alpha_split, named', [('valid', 'valid.*has no validation set'), ('third', 'third.*half, valid')]
)
def test_without_a_validation_set_alpha_cannot_train_on_it(alpha_split, named):
  with pytest.raises(InputError, match=named):
    data.load('digits', alpha_split=alpha_split)


@pytest.mark.parametrize('images, batch_size', [(6, 1), (50, 5), (500, 50), (1000, 64)])
def test_small_data_have_smaller_batches(images, batch_size):
  """A fifth of the images is the test set. A quarter of a half of the others is a batch, but at most 64."""
  config = default()
  dataset = data.from_arrays(np.zeros((images, 8, 8, 3), np.uint8), np.arange(images) % 2)
  assert make_search_setup(config, dataset).batch_size == batch_size


def test_the_steps_of_an_epoch_follow_from_the_images_that_train_the_weights(tmp_path):
  images, labels = np.zeros((60, 8, 8, 3), np.uint8), np.arange(60) % 2
  np.savez(
    tmp_path / 'x.npz', images=images, labels=labels, valid_images=images[:20], valid_labels=labels[:20], **TEST_8
  )
  config = default()
  config.update_from_flattened_dict({'data.source': f'npz:{tmp_path}/x.npz', 'data.alpha_split': 'valid'})
  config.search.batch_size = 20
  setup = make_search_setup(config, load_search_data(config.data))
  assert setup.session.steps_per_epoch == 3
  config.search.batch_size = 21
  with pytest.raises(InputError, match='expected at most 20, the smaller of the training and validation sets'):
    make_search_setup(config, load_search_data(config.data))
