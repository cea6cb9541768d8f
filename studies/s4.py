"""S4, where an edge is a separable convolution or noise: s2.py, counting noise.

make study STUDY=s4
"""

import pathlib
import runpy


def get_study():
  return runpy.run_path(str(pathlib.Path(__file__).with_name('s2.py')))['get_study']('s4', 'noise')
