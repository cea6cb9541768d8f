"""The study reproduce_cifar10 on CIFAR-100; the search uses the images of CIFAR-100."""

from studies import reproduce_cifar10


def get_study():
  return reproduce_cifar10.get_study('cifar100')
