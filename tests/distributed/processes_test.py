"""Two processes on this host act as one: they train alike, stop together and end together."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
import tiny
import train_worker

from xmc_jax.cli.main import main
from xmc_jax.distributed import processes
from xmc_jax.distributed.watchdog import LOST
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

LIGHT = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
         'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0', 'PYTHONUNBUFFERED': '1', **tiny.LEAN}
LAUNCH = tiny.ROOT / 'launch' / 'local_multiprocess.sh'
STEPS, SAVE, HEARTBEAT = 12, 3, 20


def start(command, **environment):
  # The `xmc` of this interpreter, whatever its virtual environment is called.
  path = f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
  environment = {'PATH': path} | environment
  return subprocess.Popen(
      [str(x) for x in command], cwd=tiny.ROOT, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, env=os.environ | LIGHT | environment)


# Two processes of four devices against one of eight; devices_test.py says that eight are one.

@pytest.fixture(scope='module')
def pair(tmp_path_factory, text_folder):
  """The folder that two processes of four devices each leave: numbers and a checkpoint."""
  out = tmp_path_factory.mktemp('pair')
  address = f'127.0.0.1:{tiny.free_port()}'
  workers = [start([sys.executable, train_worker.__file__, out, text_folder, address, 2, i],
                   JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES='4') for i in range(2)]
  for worker in workers:
    output, _ = worker.communicate(timeout=600)
    assert worker.returncode == 0, output
  return out


@pytest.fixture(scope='module')
def numbers(pair, text_folder):
  """{name: array} of the one process, and of the two."""
  one = train_worker.train(*train_worker.build(text_folder))[1]
  return one, dict(np.load(pair / 'numbers.npz'))


@pytest.mark.parametrize('host, distributed, code', [
    (socket.gethostname(), False, LOST), ('another', False, 2), ('another', True, LOST)])
def test_a_process_that_comes_back_too_soon_may_try_again(monkeypatch, host, distributed, code):
  """A mistyped --process is a mistake; a restart before the others have noticed the end is none."""
  state = types.SimpleNamespace(client=None, process_id=1, num_processes=2)
  monkeypatch.setattr(processes, '_state', None)
  monkeypatch.setattr(processes, '_start_jax', lambda *_: state)
  monkeypatch.setattr(processes.watchdog, 'put', lambda *_: False)
  monkeypatch.setattr(processes.watchdog, 'get', lambda *_: host)
  where = {'distributed': True} if distributed else {
      'coordinator': 'localhost:1', 'processes': 2, 'process': 1}
  with pytest.raises(UserError, match='process 1 has joined already') as error:
    with processes.joined(**where, facts={}):
      pass
  assert error.value.code == code


@pytest.mark.parametrize('theirs', [{}, {'a': 1, 'b': 2}, {'a': 3}])
def test_what_only_some_processes_have_is_not_the_same(monkeypatch, theirs):
  for everywhere in ([{'a': 1}, theirs], [theirs, {'a': 1}]):
    monkeypatch.setattr(processes, 'gather', lambda value, found=everywhere: found)
    with pytest.raises(UserError, match='on process 1 and .* on process 0; start the same'):
      processes.check_same({})


def test_losses_of_every_term_are_those_of_one_process(numbers):
  one, two = numbers
  names = [name for name in one if name.startswith('step')]
  terms = {name.split()[2] for name in names}
  assert {'joint/g/word', 'joint/d/sentence', 'discriminator/d/hinge'} <= terms
  for name in names:
    np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_gradients_and_parameters_are_those_of_one_process(numbers):
  one, two = numbers
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
              np.load(pair / 'numbers.npz').items() if 'after 3' in name}
  folder = pair / 'checkpoints'
  for devices in (2, 1):
    _, program = train_worker.build(text_folder, devices)
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

  def __init__(self, workdir, encoder, *, tensorflow=False, **settings):
    heartbeat = settings.pop('heartbeat', 120)     # a busy machine may delay threads for long
    argv = tiny.train_argv(workdir, encoder, **{
        'data__loader': 'arrays', 'steps': STEPS, 'every__save': SAVE, 'every__images': STEPS}
        | settings)
    self._process = start([LAUNCH, '--devices', 1, '--', *argv[2:], f'--heartbeat={heartbeat}'],
                          **(tiny.WITH_TENSORFLOW if tensorflow else {}))
    self.output = ''
    self.pids = [int(re.fullmatch(rf'process {i} is (\d+)\n', self._line())[1]) for i in range(2)]

  def until(self, pattern):
    """Reads up to the line in which `pattern` is found; the match."""
    while not (match := re.search(pattern, self._line())):
      pass
    return match

  def kill(self, index):
    """Kills one process in a step; seconds until the other has ended, and its exit code."""
    os.kill(self.pids[index], signal.SIGKILL)
    began = time.monotonic()
    self.finish()
    code = int(re.search(rf'^process {1 - index} ended with code (\d+)$', self.output, re.M)[1])
    return time.monotonic() - began, code

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
  """The folder of an uninterrupted run of two processes, with a checkpoint of each step."""
  workdir = tmp_path_factory.mktemp('straight')
  run = Run(workdir, encoder_folder, tensorflow=True, every__save=1)
  assert run.finish() == 0, run.output
  return workdir


def test_only_process_0_writes(straight):
  lines = [json.loads(line) for line in (straight / 'metrics.jsonl').open()]
  assert [line['step'] for line in lines] == list(range(1, STEPS + 1))
  assert sorted(path.name for path in straight.iterdir()) == [
      '.lock', 'checkpoints', 'config.json', 'images', 'metrics.jsonl', 'tensorboard']
  assert len(list((straight / 'tensorboard').iterdir())) == 1
  assert saved(straight) == list(range(1, STEPS + 1))


def test_killed_stopped_and_resumed_it_is_the_straight_run(tmp_path, encoder_folder, straight):
  argv = tmp_path, encoder_folder
  for victim in (1, 0):                                    # SIGKILL to one: the other ends too
    run = Run(*argv, heartbeat=HEARTBEAT if victim else 120)
    start = int(run.until(r'steps (\d+) to')[1])
    # A save has ended when the next one has begun.
    run.until(rf'step {start + (2 * SAVE + 1 if victim else 0)}/')
    seconds, code = run.kill(victim)
    print(f'process {victim} killed: the other ended after {seconds:.1f} s with code {code}')
    assert code == LOST and seconds < HEARTBEAT + 15, run.output
    lost = [line for line in run.output.splitlines() if 'xmc: process' in line]
    assert len(lost) == 1 and f'xmc: process {victim} of 2' in lost[0], run.output
    assert 'lost' in lost[0] and f'code {LOST}' in lost[0] and 'resumes' in lost[0]
    assert 'Traceback' not in run.output
  assert saved(tmp_path)

  run = Run(*argv)                                         # SIGTERM to one: both save and end
  first = int(run.until(r'steps (\d+) to')[1])
  run.until(rf'step {first}/')
  os.kill(run.pids[1], signal.SIGTERM)
  assert run.finish() == 0, run.output
  stopped = int(re.search(r'^\[0\] Stopped and saved at step (\d+)', run.output, re.M)[1])
  assert first <= stopped < STEPS and saved(tmp_path)[-1] == stopped

  resumed = tiny.start(tiny.train_argv(*argv, data__loader='arrays', steps=STEPS,  # by one process
                                       every__save=STEPS, every__images=STEPS))
  output, _ = resumed.communicate(timeout=300)
  assert resumed.returncode == 0 and f'steps {stopped + 1} to {STEPS}' in output, output

  expected, found = (tiny.saved_state(workdir, stopped) for workdir in (straight, tmp_path))
  assert found.keys() == expected.keys()
  assert not [name for name in expected if expected[name] != found[name]]
  steps = [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').open()]
  assert steps == list(range(1, STEPS + 1))


def end_of(*commands, devices=(1, 1)):
  """Exit code and lines of stderr of two processes; each command may differ."""
  port = tiny.free_port()
  processes = [start([sys.executable, *argv, '--processes=2', f'--coordinator=127.0.0.1:{port}',
                      f'--process={i}'], JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES=str(devices[i]))
               for i, argv in enumerate(commands)]
  outputs = [process.communicate(timeout=120)[0] for process in processes]
  return [(process.returncode, [line for line in output.splitlines() if line.startswith('xmc: ')])
          for process, output in zip(processes, outputs)], ''.join(outputs)


def train(*args, **settings):
  return ['-m', 'xmc_jax', *tiny.train_argv(*args, **settings)[1:]]


def test_a_workdir_that_is_not_shared_is_refused_by_all(tmp_path, encoder_folder):
  ends, output = end_of(*(train(tmp_path / name, encoder_folder) for name in 'ab'))
  for name, (code, lines) in zip('ab', ends):
    assert code == 2 and len(lines) == 1, output
    assert f'process 1 cannot see in {tmp_path / name}' in lines[0]
  assert not [path.name for path in tmp_path.glob('*/.shared*')]


def test_a_config_that_differs_is_refused_by_all(tmp_path, encoder_folder):
  ends, output = end_of(*(train(tmp_path, encoder_folder, seed=i) for i in (7, 8)))
  assert [code for code, _ in ends] == [2, 2] and ends[0][1] == ends[1][1], output
  assert 'config.seed is 8 on process 1 and 7 on process 0' in ends[0][1][0]


def test_processes_with_different_numbers_of_devices_are_refused(tmp_path, encoder_folder):
  ends, output = end_of(*[train(tmp_path, encoder_folder)] * 2, devices=(1, 2))
  assert [code for code, _ in ends] == [2, 2] and ends[0][1] == ends[1][1], output
  assert 'the processes have 1, 2 devices' in ends[0][1][0] and 'Traceback' not in output


# Processes that join and do nothing; the last argument is this one's index.
WORKER = """
import sys, time
from xmc_jax.distributed import processes
number, address, index = (word.partition('=')[2] for word in sys.argv[1:])
with processes.joined(coordinator=address, processes=int(number), process=int(index), heartbeat=60,
                      facts={}, command='xmc'):
  print(processes.gather(int(index)), file=sys.stderr)
  if index == '1':
    raise ERROR
  time.sleep(60)
"""


def test_the_others_end_with_one_that_fails_and_name_its_error():
  ends, output = end_of(*[['-c', WORKER.replace('ERROR', "ValueError('no such file')")]] * 2)
  assert [code for code, _ in ends] == [LOST, 1], output
  assert output.count('[0, 1]') == 2 and output.count('Traceback') == 1
  assert len(ends[0][1]) == 1 and 'xmc: process 1 of 2' in ends[0][1][0]
  assert 'ValueError: no such file' in ends[0][1][0] and ends[1][1] == []


@pytest.mark.parametrize('error, code', [('UserError', 2), ('processes.NotJoined', LOST)])
def test_the_others_end_as_one_with_an_error_of_the_user_does(error, code):
  worker = WORKER.replace('ERROR', f"{error}('no such folder')").replace(
      'import processes', 'import processes\nfrom xmc_jax.types import UserError')
  ends, output = end_of(*[['-c', worker]] * 2)
  assert ends[0][0] == code and len(ends[0][1]) == 1, output
  assert f'stopped (no such folder), so this process ends too (code {code})' in ends[0][1][0]


def test_processes_that_do_not_come_are_not_waited_for_forever(tmp_path, encoder_folder):
  argv = ['--processes=2', '--process=1', f'--coordinator=127.0.0.1:{tiny.free_port()}', '--wait=1']
  process = tiny.start([*tiny.train_argv(tmp_path, encoder_folder), *argv])
  output, _ = process.communicate(timeout=120)
  assert process.returncode == LOST and re.search('^xmc: .* joined .* within 1 s', output), output


def test_a_cluster_that_is_not_there_is_not_detected(tmp_path, encoder_folder):
  # In a process of its own: JAX refuses to look for a cluster once it has computed something.
  process = tiny.start([*tiny.train_argv(tmp_path, encoder_folder), '--distributed'])
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 2, output
  assert 'neither Cloud TPU nor a job of SLURM, Kubernetes or Open MPI' in output


@pytest.mark.parametrize('flags, words', [
    (['--coordinator=h:1'], '--processes and --process missing'),
    (['--process=1', '--processes=2'], '--coordinator missing'),
    (['--coordinator=h', '--processes=2', '--process=1'], '--coordinator=h is not HOST:PORT'),
    (['--coordinator=h:1', '--processes=2', '--process=2'], 'not one of --processes=2'),
    (['--coordinator=h:1', '--processes=2', '--process=-1'], 'not one of --processes=2'),
    (['--distributed', '--process=1'], '--distributed detects --process'),
    (['--coordinator=h:0', '--processes=2', '--process=1'], 'h:0 is not HOST:PORT'),
    (['--coordinator=127.0.0.1:{taken}', '--processes=2', '--process=0'], 'cannot listen at'),
    (['--heartbeat=0'], 'heartbeat')])
@pytest.mark.parametrize('command', ['train', 'sample', 'evaluate'])
def test_flags_that_do_not_go_together(command, flags, words, tmp_path, encoder_folder, capsys):
  argv = (tiny.train_argv(tmp_path, encoder_folder) if command == 'train' else
          ['xmc', command, f'--workdir={tmp_path}',
           *(['a red apple'] if command == 'sample' else [])])
  with socket.create_server(('127.0.0.1', 0)) as server:
    taken = server.getsockname()[1]
    assert main([*argv, *(flag.format(taken=taken) for flag in flags)]) == 2
  error = capsys.readouterr().err
  assert re.match('xmc( [a-z]+)?: ', error) and error.count('\n') == 1 and words in error, error
