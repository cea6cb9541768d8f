"""Takes a retrained network away: as PyTorch modules, StableHLO, ONNX, or named arrays."""

from beta_darts_jax.retrain.export.examples import NEEDS
from beta_darts_jax.retrain.export.formats import FORMATS, export

__all__ = ['FORMATS', 'NEEDS', 'export']
