"""Streaming: a batch is a function of (seed, number of the batch), for any number of processes and workers."""

import io
import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import external
from PIL import Image

from beta_darts_jax import InputError
from beta_darts_jax.data import find_warnings, load, record, streaming
from beta_darts_jax.data.crops import ResizedCrops, center_crop, color_jitter, random_resized_crop
from beta_darts_jax.data.lazy import LazyImages
from beta_darts_jax.data.sources import Residence
from beta_darts_jax.data.tfds import RecordPictures, open_tfds


def as_png(image):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'PNG')
  return buffer.getvalue()


def encoded(value, size=(12, 10)):
  return as_png(np.full((*size, 3), value, np.uint8))


RECORDS = [{'image': encoded(10 * i)} for i in range(22)]


def as_part(records):
  """The images of records, from which crops of 8×8 pixels are taken, and the numbers of the records as labels."""
  images = LazyImages(RecordPictures('grey', (), records), np.arange(len(records)), (8, 8, 3), ResizedCrops(8))
  return images, np.arange(len(records), dtype=np.int32)


GREY, ROWS = as_part(RECORDS), np.arange(4)


def take(count, first=0, workers=0, seed=3, part=GREY, rows=ROWS):
  return list(itertools.islice(streaming.train_batches(part, seed, 4, first, workers, rows), count))


def test_every_epoch_is_a_new_permutation():
  labels = np.stack([labels for _, labels in take(10)]).reshape(2, -1)  # 5 steps of 4, 2 images dropped
  assert all(len(set(epoch)) == 20 for epoch in labels.tolist())
  assert not np.array_equal(*labels)
  assert not np.array_equal(take(1)[0][1], take(1, seed=4)[0][1])


@pytest.mark.parametrize('workers', [1, pytest.param(3, marks=pytest.mark.full)])
def test_batches_do_not_depend_on_workers(workers):
  for (a, a_labels), (b, b_labels) in zip(take(9), take(9, workers=workers), strict=True):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a_labels, b_labels)


UNFINISHED = """
import numpy as np
from beta_darts_jax.data.workers import stream

class Examples:
  def __len__(self):
    return 40

  def __getitem__(self, i):
    return np.full(3, i)

def main():
  examples = Examples()
  examples.stream = stream(Examples(), 4, 0, workers=1)
  examples.cycle = examples  # Python does not free it before it ends
  print(next(examples.stream)[:, 0])

if __name__ == '__main__':
  main()
"""


def test_a_program_that_ends_before_its_batches_releases_their_memory(tmp_path):
  """Python warns of shared memory that is left."""
  (tmp_path / 'unfinished.py').write_text(UNFINISHED)
  ended = subprocess.run([sys.executable, tmp_path / 'unfinished.py'], capture_output=True, text=True, check=False)
  assert (ended.returncode, ended.stdout, ended.stderr) == (0, '[0 1 2 3]\n', '')


def test_a_later_batch_does_not_depend_on_earlier_ones():
  for (a, _), (b, _) in zip(take(9)[7:], take(2, first=7), strict=True):
    np.testing.assert_array_equal(a, b)


NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def test_every_picture_is_cropped_anew_in_every_epoch_and_level():
  """All pictures are the same: four in two epochs, then four on both levels of two steps of a search."""
  part = as_part([{'image': as_png(NOISE)}] * 4)
  examples = streaming.LevelExamples((part, part), np.zeros((2, 2, 4), int), ROWS, 0, seed=3)
  for batches, count in ((take(2, part=part), 8), (streaming.level_batches(examples, 0), 16)):
    images = np.concatenate([images for images, _ in batches])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == count


def test_processes_share_a_batch():
  whole = take(6)
  halves = [take(6, rows=rows) for rows in (np.arange(2), np.arange(2, 4))]
  for (images, labels), *parts in zip(whole, *halves, strict=True):
    np.testing.assert_array_equal(images, np.concatenate([part[0] for part in parts]))
    np.testing.assert_array_equal(labels, np.concatenate([part[1] for part in parts]))


def test_test_batches_count_every_image_once():
  batches = list(streaming.test_batches(as_part(RECORDS[:5]), 4))
  labels = np.concatenate([labels[counts] for _, labels, counts in batches])
  assert labels.tolist() == [0, 1, 2, 3, 4] and all(images.shape == (4, 8, 8, 3) for images, _, _ in batches)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_damaged_record_is_named(workers):
  damaged = as_part([*RECORDS[:5], {'image': RECORDS[5]['image'][:30]}, *RECORDS[6:]])
  with pytest.raises(InputError, match=r'^grey: record 5 cannot be read'):
    take(11, workers=workers, part=damaged)
  with pytest.raises(InputError, match=r'^grey: record 5 cannot be read'):
    list(streaming.test_batches(damaged, 4))


def test_random_resized_crop_covers_the_areas_and_aspects():
  """Red grows to the right and green downwards: the corners of a crop give its box."""
  across, down = np.meshgrid(np.arange(200), np.arange(200))
  image = Image.fromarray(np.stack([across, down, 0 * across], -1).astype(np.uint8))
  rng = np.random.default_rng(0)
  areas, aspects = [], []
  for _ in range(400):
    crop = np.asarray(random_resized_crop(rng, image, 50), float)
    width, height = (np.ptp(crop[..., c]) / 49 * 50 + 1 for c in (0, 1))
    areas.append(width * height / 200**2)
    aspects.append(width / height)
  assert 0.07 < min(areas) < 0.12 and 0.85 < max(areas) < 1.02
  assert 0.7 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.42


def test_a_training_crop_has_the_scale_the_flip_and_the_jitter_of_its_options():
  def images(**options):
    crops = ResizedCrops(8, **{'scale': (1.0, 1.0), 'jitter': (0, 0, 0, 0), 'flip': False} | options)
    return {crops.for_training(Image.fromarray(NOISE), np.random.default_rng(seed)).tobytes() for seed in range(20)}

  assert images() == {NOISE.tobytes()}
  assert images(flip=True) == {NOISE.tobytes(), NOISE[:, ::-1].tobytes()}
  assert len(images(scale=(0.1, 0.5))) > 10
  assert len(images(jitter=(0.4, 0.4, 0.4, 0.2))) == 20


def test_if_no_box_fits_the_crop_is_the_largest_one_in_the_centre():
  """In a picture of 10×40 pixels no box of the whole area fits. An aspect of at most 4:3 leaves 13 columns."""
  columns = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None], (10, 40, 3))
  crop = random_resized_crop(np.random.default_rng(0), Image.fromarray(columns.copy()), 13, (1.0, 1.0))
  np.testing.assert_array_equal(np.asarray(crop)[0, :, 0], np.arange(13, 26))


def test_color_jitter_by_its_extremes():
  grey = Image.fromarray(np.full((2, 2, 3), 100, np.uint8))
  values = [np.asarray(color_jitter(np.random.default_rng(i), grey))[0, 0, 0] for i in range(200)]
  assert 58 <= min(values) < 66 and 134 < max(values) <= 142  # brightness alone acts on grey: 100·(1 ± 0.4)
  red = Image.fromarray(np.array([[[200, 40, 40]]], np.uint8))
  hues = [np.asarray(color_jitter(np.random.default_rng(i), red).convert('HSV'))[0, 0, 0] for i in range(200)]
  turned = (np.array(hues, int) + 128) % 256 - 128
  assert -55 <= turned.min() < -40 and 40 < turned.max() <= 55  # 0.2·255 = 51, rounded through RGB
  same = color_jitter(np.random.default_rng(0), red, strength=(0, 0, 0, 0))
  np.testing.assert_allclose(np.asarray(same, int), np.asarray(red, int), atol=2)


def test_center_crop_is_224_of_256():
  picture = np.zeros((512, 1024, 3), np.uint8)
  picture[32:480, 288:736] = 255  # the central 448×448, which becomes 224×224
  cropped = np.asarray(center_crop(Image.fromarray(picture), 224, 256))
  assert cropped.shape == (224, 224, 3) and cropped[2:-2, 2:-2].min() == 255
  assert np.asarray(center_crop(Image.fromarray(255 - picture), 224, 256))[2:-2, 2:-2].max() == 0


@pytest.mark.filterwarnings('ignore')  # Python reports files of other tests while TFDS imports packages
def test_unprepared_imagenet_is_an_input_error(tmp_path):
  with pytest.raises(InputError, match=r'imagenet2012 is not prepared in .*tfds build imagenet2012'):
    load('imagenet2012', str(tmp_path))


def test_the_real_schema():
  residence = Residence('stream', crops=ResizedCrops(64))
  dataset = load('imagenet2012', external('TFDS_STANDINS_DIR'), residence=residence)
  assert (len(dataset.train[1]), len(dataset.test[1]), dataset.num_classes) == (1200, 300, 951)
  images, labels = next(streaming.train_batches(dataset.train, 0, 8, 0, 0, np.arange(8)))
  assert images.shape == (8, 64, 64, 3) and images.dtype == np.uint8 and set(labels) <= set(range(0, 1000, 50))


def test_streamed_records_are_those_of_the_arrays_and_are_drawn_by_class():
  arguments = 'imagenet2012', external('TFDS_STANDINS_DIR'), 16
  resident, size = load(*arguments), 1200 * 16 * 16 * 3
  streamed = load(*arguments, residence=Residence('auto', limit=size - 1))
  assert streamed.streamed and not load(*arguments, residence=Residence('auto', limit=size)).streamed
  np.testing.assert_array_equal(streamed.train[1], resident.train[1])
  rows = np.arange(0, 1200, 60)
  np.testing.assert_array_equal(streamed.train[0].read(rows), resident.train[0][rows])
  (weights, weight_labels), (alpha, alpha_labels) = streamed.search_splits(0.1, 0.025)
  assert not {*weights.places} & {*alpha.places}
  assert np.bincount(weight_labels)[::50].tolist() == [6] * 20  # of 60
  assert (len(alpha), set(np.bincount(alpha_labels)[::50])) == (30, {1, 2})


def test_streamed_pictures_of_different_sizes_are_named(tmp_path):
  for k, side in enumerate((8, 8, 8, 12)):
    (tmp_path / f'class{k % 2}').mkdir(exist_ok=True)
    (tmp_path / f'class{k % 2}' / f'{k}.png').write_bytes(encoded(k, (side, side)))
  dataset = load(f'folder:{tmp_path}', image_size=8, residence=Residence('stream'))
  assert dataset.train[0].read(np.arange(2)).shape == (2, 8, 8, 3)
  with pytest.raises(InputError, match='picture 3 is 12×12×3: expected 8×8×3, or an image_size'):
    load(f'folder:{tmp_path}', residence=Residence('stream'))  # to compute their mean


def test_a_damaged_file_of_records_is_named(tmp_path):
  folder = shutil.copytree(f'{external("TFDS_STANDINS_DIR")}/imagenet2012', tmp_path / 'imagenet2012')
  for path in (folder, *folder.rglob('*')):
    path.chmod(0o755)
  (file,) = folder.rglob('*train*')
  content = bytearray(file.read_bytes())
  content[len(content) // 2 :: 97] = bytes(len(content[len(content) // 2 :: 97]))
  file.write_bytes(content)
  with pytest.raises(InputError, match=r'^imagenet2012, train: record 0 cannot be read'):
    load('imagenet2012', str(tmp_path), residence=Residence('stream', crops=ResizedCrops(8)))
  *_, on_disk = open_tfds('imagenet2012', str(tmp_path), 0)
  with pytest.raises(InputError, match=r'^imagenet2012 in .* cannot be read'):
    on_disk['train']().labels()


def test_arrays_that_are_cropped_are_pictures(tmp_path):
  residence = Residence('stream', crops=ResizedCrops(8, resize=8))
  for channels, height in ((1, 1), (2, 8), (4, 8), (5, 8)):
    images = np.zeros((4, height, 16, channels), np.uint8)
    np.savez(tmp_path / f'{channels}.npz', images=images, labels=np.arange(4) % 2)
  grey = load(f'npz:{tmp_path}/1.npz', residence=residence)
  assert grey.train[0].read(np.arange(2)).shape == (2, 8, 8, 3)
  for channels in (2, 4, 5):
    expected = rf'^npz:.*{channels}\.npz: train images have {channels} channels: expected 1 or 3 with '
    with pytest.raises(InputError, match=expected):
      load(f'npz:{tmp_path}/{channels}.npz', residence=residence)


def test_arrays_that_are_cropped_have_an_identity(tmp_path):
  """Other pixels are other data, and another validation set is not the test set."""
  residence, rng = Residence('stream', crops=ResizedCrops(8, resize=8)), np.random.default_rng(0)
  images = {name: rng.integers(0, 256, (20, 8, 8, 3), np.uint8) for name in ('images', 'valid_images', 'test_images')}

  def read(**changed):
    labels = {name.replace('images', 'labels'): np.arange(20) % 2 for name in images}
    np.savez(tmp_path / 'x.npz', **images | changed, **labels)
    dataset = load(f'npz:{tmp_path}/x.npz', alpha_split='valid', residence=residence)
    return record(dataset), find_warnings(dataset, searches=True)

  (facts, warnings), (same_facts, _), (other_facts, _) = read(), read(), read(images=images['images'] // 2)
  assert facts == same_facts and facts['train'] != other_facts['train'] and not warnings
  assert len(facts['train']['pixels_sha256']) == 64
  _, warnings = read(valid_images=images['test_images'])
  assert warnings == ['the validation images, which train α, are the test set, too']
