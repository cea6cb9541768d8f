"""A small search on streamed pictures, then the training of its cell on the same pictures, then the export.

  TFDS_DATA_DIR=STAND_INS python tests/chain.py FOLDER

tests/test_end_to_end.py starts it, kills it, and starts it again.
"""

import pathlib
import sys

import beta_darts_jax as bd
from configs import darts_imagenet, retrain_imagenet

PICTURES = {'data.image_size': 32, 'data.resize': 36, 'checkpoint.every_steps': 4}
SEARCH = PICTURES | {  # an epoch of 15 steps
  'data.workers': 0, 'space.nodes': 1, 'space.operations': ('skip_connect', 'sep_conv_3x3'), 'supernet.layers': 1,
  'supernet.channels': 4, 'search.epochs': 1, 'search.batch_size': 8, 'search.warmup_epochs': 0,
  'search.alpha_warmup_epochs': 0, 'search.beta_decay_schedule': 'constant', 'search.steps_per_dispatch': 1,
  'search.evaluation_images': 8,
}  # fmt: skip
TRAINING = PICTURES | {  # an epoch of 24 steps
  'data.workers': 1, 'data.fraction': 0.4, 'network.layers': 1, 'network.channels': 4, 'train.epochs': 1,
  'train.batch_size': 20, 'train.schedule': 'cosine_epochs', 'train.warmup_epochs': 0, 'train.ema_decay': 0.9,
  'train.steps_per_dispatch': 1,
}  # fmt: skip


def main(folder: pathlib.Path):
  bd.set_up(cluster='none')
  search, training = darts_imagenet.get_config('beta_pc_darts'), retrain_imagenet.get_config()
  search.update_from_flattened_dict(SEARCH)
  training.update_from_flattened_dict(TRAINING | {'genotype': str(folder / 'search')})
  try:
    bd.run_search(search, folder / 'search')
    bd.run_retrain(training, folder / 'training')
  except bd.Stopped:
    return
  bd.export(folder / 'training', 'torch', folder / 'exported')


if __name__ == '__main__':  # workers import this file
  main(pathlib.Path(sys.argv[1]))
