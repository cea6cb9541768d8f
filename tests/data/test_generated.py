"""Generated folders and npz files: what is read equals what a plain script of PIL and NumPy reads, or one line says why
not. No image is lost in silence."""

import collections
import shutil

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from beta_darts_jax import InputError, data

NAMES = {  # spellings of a part
  'train': ['train', 'Training'],
  'test': ['test', 'TEST', 'testing'],
  'valid': ['val', 'Valid', 'dev'],
}
SUFFIXES = {'1': 'png', 'L': 'jpg', 'P': 'gif', 'RGB': 'webp', 'RGBA': 'png', 'LA': 'png', 'CMYK': 'tif', 'I;16': 'png'}
WITHOUT_RANGE = {'I': np.int32, 'F': np.float32}
# oddity → whether it must be refused; None: it is ignored
ODDITIES = {
  'dangling link': True,
  'nested folder': True,
  'text file': True,
  'empty class': True,
  'picture of integers': True,
  'picture of floats': True,
  'stray file': False,
  'extra folder': False,
  'hidden file': None,
  '__MACOSX': None,
  'link to a picture': None,
}


in_both_lengths = pytest.mark.parametrize('examples', [8, pytest.param(50, marks=pytest.mark.full)])


# ---- folders ----


@st.composite
def pictures(draw):
  """(mode, orientation, seed of the pixels)."""
  mode = draw(st.sampled_from([*SUFFIXES]))
  orientation = draw(st.integers(1, 8)) if SUFFIXES.get(mode) in ('png', 'jpg', 'webp') else 1
  return mode, orientation, draw(st.integers(0, 2**16))


@st.composite
def trees(draw):
  """{part: {class: pictures}}, the spellings of the parts, and an oddity or ''."""
  names = st.sampled_from(['cat', 'Dog', 'train', '10', '2', 'é è'])
  classes = draw(st.lists(names, min_size=2, max_size=4, unique=True))
  parts = {'train', *draw(st.sets(st.sampled_from(['test', 'valid'])))}
  spelling = {part: draw(st.sampled_from(NAMES[part])) for part in sorted(parts)}
  if len(parts) == 1 and draw(st.booleans()):
    spelling = {}  # the classes are at the top
  sizes = st.lists(pictures(), min_size=1, max_size=5)
  contents = {part: {name: draw(sizes) for name in classes} for part in sorted(parts)}
  return contents, spelling, draw(st.sampled_from([''] * 4 + [*ODDITIES]))


def save(path, mode, orientation, seed):
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  exif = Image.Exif()
  exif[274] = orientation
  options = {'exif': exif} if orientation > 1 else {}
  if mode in WITHOUT_RANGE:
    return Image.fromarray(rng.integers(0, 255, (4, 4)).astype(WITHOUT_RANGE[mode])).save(f'{path}.tif')
  if mode == 'I;16':
    return Image.fromarray(rng.integers(0, 65536, (4, 4), np.uint16)).save(f'{path}.png', **options)
  image = Image.fromarray(rng.integers(0, 256, (4, 4, 4), np.uint8))
  image = image if mode == 'RGBA' else image.convert('RGB').convert(mode.removesuffix('A'))
  if mode == 'LA':
    image.putalpha(Image.fromarray(rng.integers(0, 256, (4, 4), np.uint8)))
  image.save(f'{path}.{SUFFIXES[mode]}', **options)


def add_oddity(oddity, root, first_class):
  """Adds one thing to a tree: in the first class of the training set, or at the top."""
  other = {
    'dangling link': lambda: (first_class / 'z.png').symlink_to('/nowhere/z.png'),
    'link to a picture': lambda: (first_class / 'z.png').symlink_to(sorted(first_class.iterdir())[0]),
    'nested folder': lambda: save(first_class / 'more' / '0', 'RGB', 1, 0),
    'text file': lambda: (first_class / 'z.txt').write_text('text'),
    'empty class': lambda: (first_class.parent / 'z').mkdir(),
    'picture of integers': lambda: save(first_class / 'z', 'I', 1, 0),
    'picture of floats': lambda: save(first_class / 'z', 'F', 1, 0),
    'stray file': lambda: save(first_class.parent / 'stray', 'RGB', 1, 0),
    'extra folder': lambda: save(root / 'extra' / '0', 'RGB', 1, 0),
    'hidden file': lambda: (first_class / '.DS_Store').write_text('text'),
    '__MACOSX': lambda: save(root / '__MACOSX' / '0', 'RGB', 1, 0),
  }
  if oddity:
    other[oddity]()


def plainly(path):
  """What a picture shows, uint8 [H, W, 3], without the package."""
  with Image.open(path) as image:
    orientation = image.getexif().get(274, 1)
    if image.mode == 'I;16':
      pixels = np.repeat((np.asarray(image) // 256)[..., None], 3, axis=2).astype(np.uint8)
    elif image.mode in ('RGBA', 'LA'):
      values = np.asarray(image.convert('RGBA')).astype(float)
      alpha = values[..., 3:] / 255
      pixels = values[..., :3] * alpha + 255 * (1 - alpha)
    else:
      pixels = np.asarray(image.convert('RGB'))
  if orientation >= 5:
    pixels = pixels.swapaxes(0, 1)
  rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
  columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
  return pixels[rows, columns]


def assert_same_images(dataset, arrays, expected):
  """The images of each class are the expected ones, in any order; a composed pixel may differ by one."""
  images = {name: [] for name in dataset.class_names}
  for pixels, labels in arrays:
    for image, label in zip(pixels, labels, strict=True):
      images[dataset.class_names[label]].append(image)
  assert {name: len(found) for name, found in images.items()} == collections.Counter(name for name, _ in expected)
  for name, image in expected:
    distances = [np.abs(image - found.astype(float)).max() for found in images[name]]
    assert min(distances) <= 1, (name, distances)
    images[name].pop(int(np.argmin(distances)))


def make_tree(root, tree):
  """Saves a tree and returns {part: its folder}."""
  contents, spelling, oddity = tree
  shutil.rmtree(root, ignore_errors=True)
  folders = {part: root / spelling.get(part, '') for part in contents}
  for part, classes in contents.items():
    for name, listed in classes.items():
      for k, picture in enumerate(listed):
        save(folders[part] / name / str(k), *picture)
  add_oddity(oddity, root, folders['train'] / min(contents['train']))
  return folders


def read_plainly(folder):
  """[(class, pixels)] of a folder of class folders."""
  visible = lambda path: [entry for entry in path.iterdir() if not entry.name.startswith(('.', '__'))]
  return [(sub.name, plainly(file)) for sub in visible(folder) if sub.is_dir() for file in visible(sub)]


@in_both_lengths
def test_a_generated_folder_is_read_or_refused(tmp_path, examples):
  root, ends = tmp_path / 'pictures', collections.Counter()

  @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
  @given(tree=trees())
  def is_read_or_refused(tree):
    contents, spelling, oddity = tree
    folders = make_tree(root, tree)
    test_part = next((part for part in ('test', 'valid') if part in contents), None)
    must_refuse = ODDITIES.get(oddity)
    can_hold_out = test_part or max(map(len, contents['train'].values())) > 1
    try:
      dataset = data.load(f'folder:{root}')
    except InputError as error:
      ends['refused'] += 1
      assert '\n' not in str(error) and (must_refuse or not can_hold_out), error
      return
    ends['read'] += 1
    assert not must_refuse
    arrays = (
      {'train': [dataset.train], test_part: [dataset.test]} if test_part else {'train': [dataset.train, dataset.test]}
    )
    for part, found in arrays.items():
      assert_same_images(dataset, found, read_plainly(folders[part]))
    named = {'stray': oddity == 'stray file', 'extra': oddity == 'extra folder' and spelling}
    named['validation'] = 'valid' in contents and test_part == 'test'
    for word, is_left_out in named.items():
      assert any(word in sentence for sentence in dataset.left_out) == bool(is_left_out), (word, dataset.left_out)

  is_read_or_refused()
  assert len(ends) == 2, ends


# ---- npz files ----


# what makes an npz file wrong → the values of archives() that it changes
FAULTS = {
  'floats': {'dtype': 'float32'},
  '16 bits': {'dtype': '>u2'},
  'booleans': {'dtype': 'bool'},
  'channels first': {'layout': (3, 8, 8)},
  'grey channel first': {'layout': (1, 8, 12)},
  'five axes': {'layout': (2, 2, 2, 2)},
  'labels are floats': {'label_dtype': 'float64'},
  'labels are texts': {'label_dtype': 'str'},
  'labels have two axes': {'label_shape': (-1, 1)},
  'a label is missing': {'step': 2},
  'one class': {'num_classes': 1},
  'two validation sets': {'parts': {'val', 'valid'}},
}


@st.composite
def archives(draw):
  """Arrays of an npz file, the names of the superfluous ones, and its fault or ''."""
  fault = draw(st.sampled_from([''] * len(FAULTS) + [*FAULTS]))
  values = {
    'dtype': 'uint8',
    'layout': draw(st.sampled_from([(8, 8, 3), (8, 8), (6, 8, 1), (8, 8, 7)])),
    'label_dtype': draw(st.sampled_from(['int64', 'uint8', '>i4'])),
    'label_shape': (-1,),
    'step': 1,
    'num_classes': draw(st.integers(2, 4)),
    'parts': draw(st.sets(st.sampled_from(['test', 'valid']))),
  } | FAULTS.get(fault, {})
  order = draw(st.sampled_from('CF'))

  def make(counts, seed):
    rng = np.random.default_rng(seed)
    labels = values['step'] * rng.permutation(np.repeat(np.arange(len(counts)), counts))
    images = rng.integers(0, 256, (len(labels), *values['layout'])).astype(values['dtype'], order=order)
    return images, labels.astype(values['label_dtype']).reshape(values['label_shape'])

  sizes = [draw(st.integers(2, 9)) for _ in range(values['num_classes'])]
  arrays = dict(zip(('images', 'labels'), make(sizes, 0), strict=True))
  for seed, part in enumerate(sorted(values['parts'])):
    arrays[f'{part}_images'], arrays[f'{part}_labels'] = make([1] * len(sizes), seed + 1)
  extra = draw(st.sampled_from([[], ['ids'], ['ids', 'test_names']]))
  return arrays | {name: np.arange(3) for name in extra}, extra, fault


@in_both_lengths
def test_generated_npz_files(tmp_path, examples):
  ends = collections.Counter()

  @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
  @given(archive=archives())
  def is_read_or_refused(archive):
    arrays, extra, fault = archive
    np.savez(tmp_path / 'x.npz', **arrays)
    try:
      dataset = data.load(f'npz:{tmp_path}/x.npz')
    except InputError as error:
      ends['refused'] += 1
      assert '\n' not in str(error) and fault, error
      return
    ends['read'] += 1
    assert not fault
    test = next((part for part in ('test', 'valid') if f'{part}_images' in arrays), None)
    found = {'': [dataset.train], f'{test}_': [dataset.test]} if test else {'': [dataset.train, dataset.test]}
    for prefix, parts in found.items():
      images = arrays[f'{prefix}images'].reshape(len(arrays[f'{prefix}labels']), *dataset.image_shape)
      expected = [(str(label), image) for image, label in zip(images, arrays[f'{prefix}labels'], strict=True)]
      assert_same_images(dataset, parts, expected)
    for name in extra:
      assert any(name in sentence for sentence in dataset.left_out)

  is_read_or_refused()
  assert len(ends) == 2, ends
