"""What tests of preparation share: the readers of examples/, and a prepared toy."""
import sys

import pytest
import tiny
from toy_original import make_job

from xmc_jax.prepare import run

# As `PYTHONPATH=examples` makes them importable.
sys.path.append(str(tiny.ROOT / 'examples'))


@pytest.fixture(scope='session')
def broken(tmp_path_factory):
  """The folder of the toy with its three bad images, made in this process."""
  tmp_path = tmp_path_factory.mktemp('broken')
  run.prepare(make_job(tmp_path, broken=True), most_bad=0.2)
  return tmp_path / 'out'
