"""One writer per folder, known by a lock that ends with its process."""
import subprocess
import sys
import threading

import pytest

from xmc_jax.types import UserError
from xmc_jax.utils.lock import locked, turn

HOLD = ('import sys\nfrom xmc_jax.utils.lock import locked\n'
        'with locked(sys.argv[1]):\n  print("held", flush=True)\n  sys.stdin.read()\n')


def hold(folder):
  process = subprocess.Popen([sys.executable, '-c', HOLD, str(folder)], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
  assert process.stdout.readline() == 'held\n'
  return process


def test_a_folder_that_another_process_holds_is_refused_until_that_is_killed(tmp_path):
  process = hold(tmp_path / 'run')
  with pytest.raises(UserError, match=f'in use .*process {process.pid} '):
    with locked(tmp_path / 'run'):
      pass
  process.kill()
  process.communicate()
  with locked(tmp_path / 'run'):
    pass


def test_a_folder_can_be_locked_again_after_an_error(tmp_path):
  with pytest.raises(ValueError):
    with locked(tmp_path):
      raise ValueError
  with locked(tmp_path):
    pass


def test_buckets_are_not_locked():
  with locked('gs://bucket/run'):
    pass


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path):
  """Else a third could take the new file while the second holds the old one."""
  path, seen = tmp_path / 'new' / 'lock', []
  waiting = threading.Event()

  def second():
    with turn(path, wait=waiting.set, remove=True):
      seen.append(path.exists())

  path.parent.mkdir()
  with turn(path, remove=True):
    thread = threading.Thread(target=second)
    thread.start()
    assert waiting.wait(10) and not seen
  thread.join()
  assert seen == [True] and not path.exists()
