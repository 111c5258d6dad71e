"""Two processes on this host are one: they train alike, stop together, and end together."""
import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tiny
import train_worker

from xmc_jax.cli.main import main
from xmc_jax.distributed import wire
from xmc_jax.distributed.peers import PEER_IS_GONE
from xmc_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

LIGHT = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
         'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0', 'PYTHONUNBUFFERED': '1'}
LAUNCH = tiny.ROOT / 'launch' / 'local_multiprocess.sh'
STEPS, SAVE = 16, 4


def start(command, **environment):
  return subprocess.Popen(
      [str(x) for x in command], cwd=tiny.ROOT, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, env=os.environ | LIGHT | environment)


# Two processes of four devices against one process of one, two and eight.

@pytest.fixture(scope='module')
def pair(tmp_path_factory, text_folder):
  """The folder that two processes of four devices each leave: numbers and a checkpoint."""
  out = tmp_path_factory.mktemp('pair')
  address = f'127.0.0.1:{wire.free_port()}'
  workers = [start([sys.executable, train_worker.__file__, out, text_folder, address, 2, i],
                   JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES='4') for i in range(2)]
  for worker in workers:
    output, _ = worker.communicate(timeout=600)
    assert worker.returncode == 0, output
  return out


@pytest.fixture(scope='module', params=train_worker.NORMS)
def numbers(request, pair, text_folder):
  """{devices: {name: array}}, where 0 stands for the two processes of four devices."""
  found = {n: train_worker.train(*train_worker.build(text_folder, request.param, n))[1]
           for n in (1, 8)}
  return found | {0: dict(np.load(pair / f'{request.param}.npz'))}


@pytest.mark.parametrize('devices', [1, 8])
def test_losses_of_every_term_are_those_of_one_process(numbers, devices):
  names = [name for name in numbers[devices] if name.startswith('step')]
  assert {'joint/g/word', 'joint/d/sentence', 'discriminator/d/hinge'} <= {n.split()[2] for n in names}
  for name in names:
    np.testing.assert_allclose(numbers[0][name], numbers[devices][name], rtol=1e-3, atol=1e-4,
                               err_msg=name)


@pytest.mark.parametrize('devices', [1, 8])
def test_gradients_and_parameters_are_those_of_one_process(numbers, devices):
  one, two = numbers[devices], numbers[0]
  assert one.keys() == two.keys()
  names = [name for name in one if name.startswith('after')]
  moved = [np.abs(one[n] - one[n.replace('after 1', 'after 0')]).max()
           for n in names if 'after 1' in n and '.params' in n]
  assert max(moved) > 1e-2 and np.mean(np.array(moved) > 0) > 0.8        # it learnt
  for name in names:
    np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5, err_msg=name)


def test_the_rows_of_a_process_are_one_block(pair):
  assert json.loads((pair / 'mesh.json').read_text()) == [0] * 4 + [1] * 4


def test_resumed_on_two_devices_and_on_one_nothing_is_lost(pair, tmp_path, text_folder):
  expected = {name.removeprefix('after 3 '): value for name, value in
              np.load(pair / f'{train_worker.NORMS[-1]}.npz').items() if 'after 3' in name}
  folder = pair / 'checkpoints'
  for devices in (2, 1):
    _, program = train_worker.build(text_folder, train_worker.NORMS[-1], devices)
    with Checkpoints(folder, every=None) as checkpoints:
      state = checkpoints.restore(program.state_spec)
    found = {jax.tree_util.keystr(path): leaf for path, leaf in
             jax.tree_util.tree_leaves_with_path((state.networks, state.ema))}
    assert found.keys() == expected.keys() and int(state.step) == train_worker.STEPS
    for name, value in expected.items():
      assert len(found[name].sharding.device_set) == devices
      assert np.asarray(found[name]).tobytes() == value.tobytes(), name
    folder = tmp_path / str(devices)
    with Checkpoints(folder, every=1) as checkpoints:
      checkpoints.save(train_worker.STEPS, state, {})


# `xmc train` as two processes.

class Run:
  """Two processes of `xmc train` with one device each."""

  def __init__(self, workdir, encoder, *flags, **settings):
    argv = tiny.train_argv(workdir, encoder, **{
        'data__loader': 'arrays', 'steps': STEPS, 'every__save': SAVE, 'every__images': STEPS}
        | settings)
    self._process = start([LAUNCH, '--devices', 1, '--', *argv[2:], *flags])
    self.output = ''
    self.pids = [int(re.fullmatch(rf'process {i} is (\d+)\n', self._line())[1]) for i in range(2)]

  def until(self, words):
    """Reads up to the line that has `words`."""
    while words not in self._line():
      pass

  def is_alive(self):
    return self._process.poll() is None

  def finish(self):
    """The exit code of the script."""
    self.output += self._process.communicate(timeout=300)[0]
    return self._process.returncode

  def _line(self):
    line = self._process.stdout.readline()
    self.output += line
    assert line, self.output
    return line


def saved(workdir):
  """Steps of the complete checkpoints."""
  return sorted(int(path.name) for path in workdir.glob('checkpoints/*') if path.name.isdigit())


@pytest.fixture(scope='module')
def straight(tmp_path_factory, encoder_folder):
  """The folder of a run of two processes that nobody stopped, with a checkpoint of each step."""
  workdir = tmp_path_factory.mktemp('straight')
  run = Run(workdir, encoder_folder, every__save=1)
  assert run.finish() == 0, run.output
  return workdir


def test_only_process_0_tells(straight):
  lines = [json.loads(line) for line in (straight / 'metrics.jsonl').open()]
  assert [line['step'] for line in lines] == list(range(1, STEPS + 1))
  assert sorted(path.name for path in straight.iterdir()) == [
      'checkpoints', 'config.json', 'metrics.jsonl', 'images', 'tensorboard']
  assert saved(straight) == list(range(1, STEPS + 1))


def test_killed_resumed_and_stopped_it_is_the_straight_run(tmp_path, encoder_folder, straight):
  run = Run(tmp_path, encoder_folder)                      # SIGKILL to one: the other ends too
  while not saved(tmp_path):                               # which may take longer than a few steps
    assert run.is_alive(), run.finish()
    time.sleep(0.01)
  os.kill(run.pids[0], signal.SIGKILL)
  assert run.finish() == 128 + signal.SIGKILL, run.output
  assert f'process 1 ended with code {PEER_IS_GONE}' in run.output
  assert re.search(r'^\[1\] xmc: process 0 of 2 \(\S+\) has ended without a word, so this process '
                   r'ends too \(code 75\); the same command on every host resumes from the last '
                   r'checkpoint$', run.output, re.M), run.output
  assert 'Traceback' not in run.output and 'Check failure' not in run.output
  first = saved(tmp_path)[-1] + 1
  assert first < STEPS

  run = Run(tmp_path, encoder_folder)                      # SIGTERM to one: both save and end
  run.until(f'steps {first} to {STEPS}')
  run.until(f'step {first}/')
  os.kill(run.pids[1], signal.SIGTERM)
  assert run.finish() == 0, run.output
  assert 'stopping after the next step, with all processes' in run.output
  stopped = int(re.search(r'^\[0\] Stopped and saved at step (\d+)', run.output, re.M)[1])
  assert saved(tmp_path) == [*range(SAVE, stopped, SAVE), stopped] and stopped < STEPS

  expected, resumed = (tiny.saved_state(run, stopped) for run in (straight, tmp_path))
  assert resumed.keys() == expected.keys()
  assert not [name for name in expected if expected[name] != resumed[name]]
  steps = [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').open()]
  assert steps == list(range(1, stopped + 1))


def refused(*pairs):
  """What two processes of `xmc train` say, each with its own flags, when both end with code 2."""
  port = wire.free_port()
  found = []
  processes = [start([sys.executable, '-m', 'xmc_jax.cli.main', *argv[1:], '--processes=2',
                      f'--coordinator=127.0.0.1:{port}', f'--process={i}'],
                     JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES='1') for i, argv in enumerate(pairs)]
  for process in processes:
    output, _ = process.communicate(timeout=120)
    found += [line for line in output.splitlines() if line.startswith('xmc: ')]
    assert process.returncode == 2, output
  return found


def test_a_workdir_that_is_not_shared_is_refused_by_all(tmp_path, encoder_folder):
  told = refused(*(tiny.train_argv(tmp_path / name, encoder_folder) for name in 'ab'))
  for name, line in zip('ab', told):
    assert line == (f'xmc: process 1 does not see in {tmp_path / name} what process 0 writes '
                    'there; give a --workdir on storage that all hosts share')
  assert not [path.name for path in tmp_path.glob('*/.seen*')]


def test_a_config_that_differs_is_refused_by_all(tmp_path, encoder_folder):
  told = refused(*(tiny.train_argv(tmp_path, encoder_folder, seed=i) for i in (7, 8)))
  assert len(told) == 2 and told[0] == told[1]
  assert 'config.seed is 8 on process 1 and 7 on process 0' in told[0]


@pytest.mark.parametrize('flags, words', [
    (['--coordinator=h:1'], '--processes and --process missing'),
    (['--process=1', '--processes=2'], '--coordinator missing'),
    (['--coordinator=h', '--processes=2', '--process=1'], '--coordinator=h is not HOST:PORT'),
    (['--coordinator=h:1', '--processes=2', '--process=2'], 'not one of --processes=2'),
    (['--coordinator=h:1', '--processes=2', '--process=-1'], 'not one of --processes=2'),
    (['--distributed', '--process=1'], '--distributed finds out what --process tells'),
    (['--distributed'], 'neither Cloud TPU nor a job of SLURM, Kubernetes or Open MPI'),
    (['--coordinator=127.0.0.1:1', '--processes=2', '--process=1', '--wait=1'],
     'process 0 cannot be reached at 127.0.0.1:1'),
    (['--heartbeat=0'], 'heartbeat')])
@pytest.mark.parametrize('command', ['train', 'sample', 'evaluate'])
def test_flags_that_do_not_go_together(command, flags, words, tmp_path, encoder_folder, capsys):
  argv = (tiny.train_argv(tmp_path, encoder_folder) if command == 'train' else
          ['xmc', command, f'--workdir={tmp_path}'])
  assert main([*argv, *flags]) == (75 if '--wait=1' in flags else 2)
  error = capsys.readouterr().err
  assert error.startswith('xmc: ') and error.count('\n') == 1 and words in error, error
