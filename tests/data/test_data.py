import hashlib
import http.server
import io
import itertools
import os
import subprocess
import sys
import tarfile
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import external
from PIL import Image

from beta_darts_jax import InputError, data
from beta_darts_jax.data import Augmentation, Dataset, batches, from_arrays, normalize
from beta_darts_jax.data.augmentation import check_augmentation, cutout, random_crop, random_flip
from beta_darts_jax.data.batching import distinct_indices, epoch_order
from beta_darts_jax.data.tfds import read_records, tfds_folder

KEY = jax.random.key(0)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


# ---- augmentation and batches


def test_crop_pads_black_before_normalising():
  white = jnp.full((64, 8, 8, 3), 255, jnp.uint8)
  images = Augmentation(MEAN, STD, crop_padding=4, flip=False)(KEY, white)
  black, plain = (np.array([0, 1])[:, None] - MEAN) / STD
  values = np.unique(np.asarray(images).reshape(-1, 3), axis=0)
  np.testing.assert_allclose(sorted(values.tolist()), sorted([black.tolist(), plain.tolist()]), rtol=1e-5)


def test_crop_places_are_uniform_and_pixels_are_unchanged():
  picture = jnp.arange(1, 65, dtype=jnp.uint8).reshape(1, 8, 8, 1)
  crops = np.asarray(random_crop(KEY, jnp.repeat(picture, 8100, axis=0), 4))[..., 0]
  padded = np.pad(np.asarray(picture)[0, :, :, 0], 4)
  windows = [padded[i : i + 8, j : j + 8].tobytes() for i in range(9) for j in range(9)]
  counts = np.array([sum(crop.tobytes() == w for crop in crops) for w in windows[:9]])
  assert {crop.tobytes() for crop in crops} <= set(windows)
  assert np.abs(counts - 100).max() < 50  # 8100/81 each, standard deviation 10


def test_flip_mirrors_half_of_the_images():
  images = jnp.tile(jnp.arange(4.0)[None, None, :, None], (1000, 1, 1, 1))
  flipped = np.asarray(random_flip(KEY, images))[:, 0, :, 0]
  mirrored = (flipped == [3, 2, 1, 0]).all(-1)
  assert ((flipped == [0, 1, 2, 3]).all(-1) ^ mirrored).all()
  assert 430 < mirrored.sum() < 570


def test_augmentation_cuts_out_after_normalising():
  """White images normalize to 2; the box is 0, and the other pixels do not change."""
  augmentation = Augmentation((0.5,), (0.25,), crop_padding=0, flip=False, cutout=4)
  values = np.asarray(augmentation(KEY, np.full((20, 8, 8, 1), 255, np.uint8)))
  assert set(np.unique(values)) == {0.0, 2.0} and all(4 <= n <= 16 for n in (values == 0).sum((1, 2, 3)))


def test_cutout_zeroes_a_clipped_box():
  holes = np.asarray(cutout(KEY, jnp.ones((500, 8, 8, 1)), 4))[..., 0] == 0
  for hole in holes:
    rows, columns = hole.any(1), hole.any(0)
    np.testing.assert_array_equal(hole, rows[:, None] & columns[None])
  sizes = holes.any(2).sum(1)
  assert set(sizes) == {2, 3, 4}  # centre 0: rows −2 … 1, so two are left


def test_epoch_order_is_a_permutation_of_seed_and_epoch():
  order = np.asarray(epoch_order(3, 5, 103, 10))
  assert order.shape == (10, 10)
  assert len(set(order.ravel().tolist())) == 100
  np.testing.assert_array_equal(order, epoch_order(3, 5, 103, 10))
  assert not np.array_equal(order, epoch_order(3, 6, 103, 10))
  assert not np.array_equal(order, epoch_order(4, 5, 103, 10))
  assert epoch_order(2**32 - 1, 0, 4, 2).shape == (2, 2)  # the largest seed


def test_alpha_batches_are_distinct_and_uniform():
  draw = jax.jit(jax.vmap(lambda key: distinct_indices(key, 50, 10)))
  drawn = np.asarray(draw(jax.random.split(KEY, 5000)))
  assert all(len(set(row)) == 10 for row in drawn.tolist())
  assert np.abs(np.bincount(drawn.ravel(), minlength=50) - 1000).max() < 150  # standard deviation 28


def first_batches(count, key=KEY, batch_size=4):
  """Batches of ten images whose pixels are their labels, without augmentation."""
  half = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8), np.arange(10)
  plain = Augmentation((0.0,) * 3, (1 / 255,) * 3, crop_padding=0, flip=False)
  return list(itertools.islice(batches(half, batch_size, plain, key), count))


def test_batches_are_a_new_permutation_in_each_epoch():
  drawn = first_batches(20)
  for images, labels in drawn:
    np.testing.assert_allclose(images, np.broadcast_to(labels[:, None, None, None], (4, 2, 2, 3)), atol=1e-4)
  epochs = np.stack([labels for _, labels in drawn]).reshape(10, 8)  # two batches of four; two images are left out
  assert all(len(set(epoch)) == 8 for epoch in epochs.tolist())
  assert len({tuple(epoch) for epoch in epochs.tolist()}) == 10
  assert set(epochs.ravel().tolist()) == set(range(10))


def test_batches_depend_on_the_key_alone():
  labels = lambda key: [batch_labels.tolist() for _, batch_labels in first_batches(4, key)]
  assert labels(KEY) == labels(jax.random.key(0)) != labels(jax.random.key(1))


def test_batches_augment_each_batch_with_its_own_key():
  half = np.full((4, 8, 8, 1), 255, np.uint8), np.arange(4)
  augmentation = Augmentation((0.0,), (1.0,), flip=False)
  (first, _), (second, _) = itertools.islice(batches(half, 4, augmentation, KEY), 2)
  assert first.shape == (4, 8, 8, 1) and not np.array_equal(first, second)


def test_batches_refuse_a_batch_size_above_the_number_of_images():
  with pytest.raises(InputError, match=r'batch_size=11: expected 1 … 10'):
    first_batches(1, batch_size=11)


@pytest.mark.parametrize('crop_padding, cutout_size, name', [(8, 0, 'crop_padding=8'), (0, 9, 'cutout=9')])
def test_check_augmentation_refuses_what_can_remove_the_image(crop_padding, cutout_size, name):
  check_augmentation(crop_padding=7, cutout=7, image_size=(8, 10))
  with pytest.raises(InputError, match=f'{name}: expected less than the image size, 8'):
    check_augmentation(crop_padding, cutout_size, image_size=(8, 10))


# ---- data sets


def test_from_arrays_with_and_without_a_test_set():
  images = np.random.default_rng(0).integers(0, 256, (10, 4, 4), np.uint8)
  labels = np.arange(10) % 2
  whole = from_arrays(images, labels, images[:3], labels[:3])
  assert whole.name == 'arrays' and whole.num_classes == 2 and whole.image_shape == (4, 4, 1)
  assert len(whole.train[1]) == 10 and len(whole.test[1]) == 3 and whole.train[1].dtype == np.int32
  np.testing.assert_allclose(whole.mean, images.mean() / 255)
  split = from_arrays(images, labels)
  assert len(split.train[1]) == 8 and len(split.test[1]) == 2
  both = np.concatenate([split.train[0], split.test[0]])
  assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in images)


BLACK = np.zeros((3, 2, 2, 3), np.uint8)


@pytest.mark.parametrize(
  'arrays, message',
  [
    ((BLACK / 255, np.arange(3)), r'training images are float64 \[3, 2, 2, 3\]: expected uint8'),
    ((BLACK[:, :0], np.arange(3)), 'expected uint8 .* not empty'),
    ((BLACK[:, 0, 0], np.arange(3)), r'or \[N, H, W\]'),
    ((BLACK, np.arange(2)), 'expected 3 integers'),
    ((BLACK, np.arange(3.0)), 'training labels are float64 .*expected 3 integers'),
    ((BLACK, np.arange(3) - 1), 'training label -1: expected 0, 1'),
    ((BLACK, np.array([0, 1, 10**9])), 'largest label is 1000000000, but label 2 is missing'),
    ((BLACK, np.zeros(3, int)), 'all training labels are 0: expected two or more'),
    ((BLACK, np.arange(3), BLACK), 'test_images and test_labels: expected both or neither'),
    ((BLACK, np.arange(3), BLACK[..., :1], np.arange(3)), 'expected one shape'),
    ((BLACK, np.arange(3), BLACK, np.arange(3) + 1), 'test label 3: expected up to 2'),
  ],
)
def test_from_arrays_names_what_is_wrong(arrays, message):
  with pytest.raises(InputError, match=f'^mine: .*{message}'):
    from_arrays(*arrays, name='mine')


# ---- sources


def test_digits_are_normalized_by_their_own_mean():
  digits = data.load('digits')
  assert digits.train[0].shape == (1438, 8, 8, 1) and digits.test[0].shape == (359, 8, 8, 1)
  assert digits.num_classes == 10 and digits.train[0].max() == 255
  normal = np.asarray(normalize(jnp.asarray(digits.train[0]), digits.mean, digits.std))
  np.testing.assert_allclose([normal.mean(), normal.std()], [0, 1], atol=1e-3)


def test_the_images_of_an_npz_file_are_resized(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
  labels = np.arange(10) % 2
  np.savez(tmp_path / 'd.npz', images=images, labels=labels, test_images=images[:2], test_labels=labels[:2])
  dataset = data.load(f'npz:{tmp_path}/d.npz', image_size=2)
  assert dataset.train[0].shape == (10, 2, 2, 3) and len(dataset.test[1]) == 2 and dataset.num_classes == 2
  np.testing.assert_allclose(dataset.train[0][0, 0, 0], images[0, :2, :2].mean((0, 1)), atol=1)


@pytest.mark.parametrize(
  'source, message',
  [
    ('nonsense_data', "unknown data set 'nonsense_data'. Expected digits"),
    ('empty', 'Did you mean folder:empty?'),
    ('half.npz', 'Did you mean npz:half.npz?'),
    ('digits:x', 'digits:x: expected digits, without a version'),
    ('svhn_cropped', 'svhn_cropped is not prepared in'),
    ('npz:', 'expected npz:PATH'),
    ('npz:none.npz', r'none\.npz: no such file'),
    ('npz:half.npz', 'has images: expected both images and labels'),
    ('npz:pickled.npz', 'cannot be read'),  # objects need unpickling, which can run code
    ('folder:none', 'none: no such folder'),
    ('folder:empty', 'has no class sub-folders'),
    ('folder:empty_class', 'dog: has no images'),
    ('folder:unknown_class', 'owl: no such class in .*train: expected cat, dog'),
  ],
)
def test_bad_sources_are_named(tmp_path, monkeypatch, source, message):
  monkeypatch.chdir(tmp_path)
  np.savez('half.npz', images=BLACK)
  np.savez('pickled.npz', images=np.array([{}]), labels=np.zeros(1, int))
  (tmp_path / 'empty').mkdir()
  for folder in ('empty_class/cat', 'unknown_class/train/cat', 'unknown_class/train/dog', 'unknown_class/test/owl'):
    (tmp_path / folder).mkdir(parents=True)
    Image.new('RGB', (6, 6)).save(tmp_path / folder / '0.png')
  (tmp_path / 'empty_class' / 'dog').mkdir()
  with pytest.raises(InputError, match=message):
    data.load(source, data_dir=str(tmp_path))


@pytest.mark.parametrize('kind', ['png', 'jpeg', 'gif', 'bmp', 'npz'])
def test_truncated_files_are_named(tmp_path, kind):
  pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
  file = tmp_path / 'cat' / f'0.{kind}'
  file.parent.mkdir()
  if kind == 'npz':
    np.savez(file, images=pixels, labels=np.arange(6) % 2)
  else:
    Image.fromarray(pixels[0]).save(file)
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  with pytest.raises(InputError, match=rf'{file}: cannot be read[^\n]*$'):
    data.load(f'npz:{file}' if kind == 'npz' else f'folder:{tmp_path}')


# ---- TFDS


def test_records_come_in_the_order_of_their_ids_and_of_the_first_120_classes():
  record = lambda i, label: {'id': f'train_{i:05d}'.encode(), 'image': np.full((4, 4, 3), i, np.uint8), 'label': label}
  records = [record(i, label) for i, label in ((3, 1), (0, 0), (2, 119), (1, 120))]
  images, labels = read_records('cifar10', records, 0)
  assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3] and labels.tolist() == [0, 120, 119, 1]
  images, labels = read_records('imagenet16_120', records, 2)
  assert images.shape == (3, 2, 2, 3) and labels.tolist() == [0, 119, 1]


@pytest.mark.full
def test_cifar10_comes_in_the_published_order(tfds_dir):
  dataset = data.load('cifar10', tfds_dir)
  assert dataset.train[0].shape == (50_000, 32, 32, 3) and dataset.test[0].shape == (10_000, 32, 32, 3)
  assert dataset.train[1][:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # frog, truck, truck, deer, …
  assert dataset.in_order and np.bincount(dataset.train[1]).tolist() == [5000] * 10


@pytest.fixture
def archive():
  """Serves a CIFAR-10 archive in the binary form, with 3 images per file, from 127.0.0.1."""
  rng = np.random.default_rng(0)
  names = [f'data_batch_{i}.bin' for i in range(1, 6)] + ['test_batch.bin']
  rows = {name: rng.integers(0, 256, (3, 3073), np.uint8) for name in names}
  for row in rows.values():
    row[:, 0] %= 10
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:gz') as tar:
    for name, content in [(n, r.tobytes()) for n, r in rows.items()] + [
      ('batches.meta.txt', b'airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n')
    ]:
      member = tarfile.TarInfo(f'cifar-10-batches-bin/{name}')
      member.size = len(content)
      tar.addfile(member, io.BytesIO(content))
  content = buffer.getvalue()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      self.send_response(200)
      self.send_header('Content-Length', str(len(content)))
      self.end_headers()
      self.wfile.write(content)

    def log_message(self, *_):
      pass

  server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield f'http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz', content, rows
  server.shutdown()
  server.server_close()


PREPARE = """
import sys, numpy as np
from beta_darts_jax import data
from beta_darts_jax.data.tfds import cifar_builder
from tensorflow_datasets.core.download import checksums
url, size, checksum, folder = sys.argv[1:]
info = {url: checksums.UrlInfo(size=int(size), checksum=checksum, filename='cifar-10-binary.tar.gz')}
builder = cifar_builder('cifar10', folder, url=url, url_infos=info)
builder.download_and_prepare(file_format='array_record')
dataset = data.load('cifar10', folder)
np.savez(folder + '/read.npz', images=dataset.train[0], labels=dataset.train[1], test=dataset.test[0])
mapped = data.load('cifar10', folder)
assert not mapped.train[0].flags.writeable and np.array_equal(mapped.train[0], dataset.train[0])
assert 'tensorflow' not in sys.modules
"""


def prepare(url, size, checksum, folder):
  command = [sys.executable, '-c', PREPARE, url, str(size), checksum, str(folder)]
  environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(folder / 'cache')}
  return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_cifar_is_prepared_without_tensorflow(archive, tmp_path):
  url, content, rows = archive
  done = prepare(url, len(content), hashlib.sha256(content).hexdigest(), tmp_path)
  assert done.returncode == 0, done.stderr
  train = np.concatenate([rows[f'data_batch_{i}.bin'] for i in range(1, 6)])
  with np.load(tmp_path / 'read.npz') as read:
    np.testing.assert_array_equal(read['images'], train[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(read['labels'], train[:, 0])
    assert len(read['test']) == 3


def test_a_wrong_checksum_is_refused(archive, tmp_path):
  url, content, _ = archive
  done = prepare(url, len(content), hashlib.sha256(b'other').hexdigest(), tmp_path)
  assert done.returncode != 0 and 'NonMatchingChecksumError' in done.stderr
  assert not list(tmp_path.glob('cifar10/*/*.array_record*'))


@pytest.mark.parametrize('source, size, classes', [('cifar100', 32, 100), ('imagenet16_120', 16, 120)])
def test_data_sets_of_the_paper_load_in_their_real_schema(source, size, classes):
  dataset = data.load(source, external('TFDS_STANDINS_DIR'))
  assert dataset.num_classes == classes and dataset.image_shape == (size, size, 3)
  assert len(dataset.train[1]) == 100 * classes and len(dataset.test[1]) == 20 * classes
  (_, first), (_, last) = dataset.search_splits()
  assert len(first) == len(last) == 50 * classes


def test_half_and_subset_keep_a_part_of_the_training_images():
  labels = np.arange(10, dtype=np.int32)
  images = np.zeros((10, 1, 1, 1), np.uint8)
  whole = Dataset('x', (images, labels), (images, labels), 10, (0,), (1,), in_order=True)
  assert whole.half('first half').train[1].tolist() == [0, 1, 2, 3, 4]
  assert whole.half('second half').train[1].tolist() == [5, 6, 7, 8, 9]
  assert whole.half('second half').search_splits()[1][1].tolist() == [7, 8]
  assert whole.half('all') is whole
  assert whole.subset(0.3).train[1].tolist() == [0, 1, 2]


def test_tfds_folder_is_the_argument_or_the_variable_or_the_default(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'here').mkdir()
  monkeypatch.setenv('TFDS_DATA_DIR', '~/here')
  assert tfds_folder() == str(tmp_path / 'here')
  assert tfds_folder('gs://bucket/sets') == 'gs://bucket/sets'
  for given, named in (('none', 'data_dir=none: no such folder'), ('', 'TFDS_DATA_DIR=/none: no such folder')):
    monkeypatch.setenv('TFDS_DATA_DIR', '/none')
    with pytest.raises(InputError, match=named):
      tfds_folder(given)
  monkeypatch.setenv('TFDS_DATA_DIR', '')
  assert tfds_folder() == str(tmp_path / 'tensorflow_datasets')
