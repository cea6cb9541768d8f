"""Names of TFDS: with a config and a version they name the same data; what TFDS cannot open gives one line."""

import pytest
from conftest import external

from beta_darts_jax import InputError, data
from beta_darts_jax.data.tfds import open_tfds


def test_a_name_may_have_a_config_and_a_version():
  folder = external('TFDS_STANDINS_DIR')
  plain, versioned = (open_tfds(f'imagenet_resized/16x16{version}', folder, 0) for version in ('', ':0.1.0'))
  assert plain[0].keys() == versioned[0].keys() == {'train', 'valid'} and plain[1:3] == versioned[1:3]


@pytest.mark.parametrize(
  'source, message',
  [
    ('mnist:3.0.1', 'mnist:3.0.1 is not prepared in'),
    ('mnist:9.9.9', 'mnist:9.9.9: TFDS cannot open this data set'),
    ('coco/2017', 'TFDS cannot open this data set .No module named'),
    ('i_naturalist2021', 'TFDS cannot open this data set .*No such file'),
    ('cifar10:3.0.2', 'cifar10:3.0.2: expected cifar10, without a version'),
    ('fodler:pictures', "unknown data set 'fodler:pictures'"),
  ],
)
@pytest.mark.filterwarnings('ignore')  # of packages that these data sets try to import
def test_a_data_set_that_cannot_be_opened_gives_one_line(source, message, tmp_path):
  with pytest.raises(InputError, match=message) as error:
    data.load(source, str(tmp_path))
  assert '\n' not in str(error.value)
