"""A run that is killed and started again is, to the bit, the run that was never killed.

The starts take both loaders, which give the same batches: that too changes nothing.
"""
import json
import random
import re
import signal
import time

import pytest
import tiny

pytestmark = pytest.mark.slow

STEPS, SAVE = 400, 50


def start(workdir, encoder, loader):
  lean = {} if loader == 'arrays' else tiny.WITH_TENSORFLOW      # with TensorFlow
  return tiny.start(tiny.train_argv(workdir, encoder, data__loader=loader, steps=STEPS,
                                    every__save=SAVE, every__images=STEPS), **lean)


def finish(process, output=''):
  """All that the process still writes after `output`, and its exit code."""
  rest, _ = process.communicate(timeout=300)
  return output + rest, process.returncode


def until(process, beginning):
  """Reads up to the line that begins so."""
  output = ''
  for line in process.stdout:
    output += line
    if line.startswith(beginning):
      return output
  raise AssertionError(f'no line begins with {beginning!r}:\n{output}')


def until_save_begins(process, checkpoints):
  """Returns while the first save of this process is being written, or just after."""
  before = {path.name for path in checkpoints.iterdir()}
  while process.poll() is None and {path.name for path in checkpoints.iterdir()} <= before:
    time.sleep(0.001)
  assert process.poll() is None, process.communicate()[0]


def metrics(workdir):
  """The lines of metrics.jsonl without what the clock says."""
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').open()]
  return [{k: v for k, v in line.items() if k == 'step' or '/' in k} for line in lines]


@pytest.fixture(scope='module')
def straight(tmp_path_factory, encoder_folder):
  """The folder of a run that nobody stopped."""
  workdir = tmp_path_factory.mktemp('straight')
  output, code = finish(start(workdir, encoder_folder, 'arrays'))
  assert code == 0, output
  return workdir


def test_stopped_and_resumed_run_equals_the_straight_one_bit_for_bit(
    tmp_path, encoder_folder, straight):
  delays = random.Random(0)
  begin = lambda loader: start(tmp_path, encoder_folder, loader)

  def kill(process, most):
    time.sleep(delays.uniform(0, most))
    process.send_signal(signal.SIGKILL)
    output, code = finish(process)
    assert code == -signal.SIGKILL, output

  process = begin('arrays')    # before there is a checkpoint
  until(process, 'compiled in')
  kill(process, 0.1)

  process = begin('tf_data')   # SIGTERM, where no save is due
  output = until(process, 'step 2/')
  assert f'steps 1 to {STEPS}' in output
  process.send_signal(signal.SIGTERM)
  output, code = finish(process, output)
  assert code == 0, output
  stopped = int(re.search(r'^Stopped and saved at step (\d+); the same command resumes', output,
                          re.MULTILINE)[1])

  process = begin('arrays')    # in the middle of a save
  until(process, f'step {stopped + 1}/')
  until_save_begins(process, tmp_path / 'checkpoints')
  kill(process, 0.02)

  process = begin('tf_data')   # anywhere
  output = until(process, 'step ')
  assert int(re.search(r'steps (\d+) to', output)[1]) > stopped
  kill(process, 0.2)

  output, code = finish(begin('tf_data'))
  assert code == 0, output

  expected, resumed = (tiny.saved_state(run, STEPS) for run in (straight, tmp_path))
  assert resumed.keys() == expected.keys()
  assert {k.split("'")[0] for k in resumed} >= {'.step', '.rng', '.networks[', '.ema['}
  assert not [name for name in expected if expected[name] != resumed[name]]
  assert [line['step'] for line in metrics(tmp_path)] == list(range(1, STEPS + 1))
  assert metrics(tmp_path) == metrics(straight)
