"""When a search ends, which cell it keeps, and what it measures."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
  """Rules that end a search early; 0 turns a rule off. See method/selection.py."""

  eigenvalue_ratio: float = 0.0
  eigenvalue_window: int = 5
  skips: int = 0


@dataclasses.dataclass(frozen=True)
class Selection:
  """Which cell is kept.

  Attributes:
    epoch: 'last', or 'best' by validation accuracy.
    method: 'argmax', or 'perturbation' (DARTS-PT).
    tune_epochs, learning_rate: training of the weights between the decisions of DARTS-PT.
    train_alpha: α is trained, too.
    reset_optimizer: the optimizer of the weights starts again before the first decision.
    images: number of images of α's half for each accuracy of DARTS-PT; 0 is all of them.
    augment: these images are augmented.
  """

  epoch: str = 'last'
  method: str = 'argmax'
  tune_epochs: int = 1
  learning_rate: float = 0.001
  train_alpha: bool = False
  reset_optimizer: bool = False
  images: int = 2000
  augment: bool = False


@dataclasses.dataclass(frozen=True)
class Measurements:
  """What is measured besides losses and accuracies; 0 turns it off.

  Attributes:
    every_epochs: epochs between the expensive diagnostics.
    images: number of images of α's half for the accuracy of the discretized supernet.
    kendall_cells: cells for Kendall's τ in each diagnosis.
    final_kendall_cells: cells for Kendall's τ after the search.
    kendall_images: images for each one-shot accuracy of Kendall's τ.
  """

  every_epochs: int = 0
  images: int = 2000
  kendall_cells: int = 0
  final_kendall_cells: int = 0
  kendall_images: int = 2000
