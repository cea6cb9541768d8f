"""The smallest supernet: its gradients and Hessian are quick to compile and easy to compute by hand."""


class LinearSupernet:
  """logits = images · w, with the column of each class weighted by β of its operation."""

  def clone(self, **_):
    return self

  def apply(self, variables, images, betas, train=False, mutable=(), rngs=None):
    logits = (images @ variables['params']['w']) * betas['cell'][0]
    return (logits, {'batch_stats': variables['batch_stats']}) if mutable else logits
