"""What tests of the command line share: a call that is refused, and a run to change."""
import re
import shutil

import jax
import pytest
import tiny

from xmc_jax.cli.main import main
from xmc_jax.training.program import Program

COMPILE = Program.compile      # without `compiled_once`


@pytest.fixture(autouse=True)
def shared_programs(compiled_once):
  """Trainings of the same networks compile once."""


@pytest.fixture
def refused(capsys, monkeypatch, compiled_once):
  """Asserts that a call of `xmc` ends as it should, before anything is compiled."""
  def compiles(*_):
    raise AssertionError('this should have been refused before the step is compiled')

  def check(argv, *words):
    with monkeypatch.context() as patch:
      patch.setattr(jax.stages.Lowered, 'compile', compiles)
      patch.setattr(Program, 'compile', COMPILE)      # none that was compiled before
      code = main([str(x) for x in argv])
    error = capsys.readouterr().err
    assert code == 2
    assert re.match(r'xmc( \w+)*: ', error), error
    assert error.count('\n') == 1, f'not one line: {error}'
    for word in words:
      assert word in error, f'{word!r} is not in: {error}'
  return check


@pytest.fixture
def argv(tmp_path, encoder_folder):
  """Arguments of a correct run, to be changed."""
  return tiny.train_argv(tmp_path / 'run', encoder_folder, data__loader='arrays')


@pytest.fixture
def workdir(tmp_path, trained):
  return shutil.copytree(trained, tmp_path / 'run')
