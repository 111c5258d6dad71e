"""What launch/ makes the hosts do: the flags of training, spaces and quotes included, are followed
through every shell on their way to `xmc train`, and exit codes on their way back to the scheduler.
"""
import configparser
import json
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time

import jax
import pytest
import tiny
from shells import CALLS, TRAIN, Shell

from xmc_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

HOSTS = tiny.ROOT / 'launch' / 'hosts'


@pytest.fixture
def shell(tmp_path):
  return Shell(tmp_path)


def host(shell):
  """A folder in place of /opt/xmc, and what a bucket would hold of the code."""
  with tarfile.open(shell.folder / 'code.tar.gz', 'w:gz') as archive:
    for part in ('launch', 'configs'):
      archive.add(tiny.ROOT / part, part)
  shell.fake('gcloud', then='[[ $2 != cat ]] || cat "$HOME/code.tar.gz"')
  shell.fake('python3', 'systemctl', 'xmc')
  shell.fake('sudo', then='exec "$@"')
  shell.real('mkdir', 'tar')
  return shell.folder / 'opt'


@pytest.mark.parametrize('name', ['tpu_vm', 'queued_resource'])
def test_a_tpu_host_installs_and_trains_with_the_flags_given(shell, name):
  shell.launch(name, *CALLS[name], '--', *TRAIN)
  last = shell.records()[-1]
  if name == 'tpu_vm':
    script = last[-1].removeprefix('--command=')
  else:                                    # ^DELIMITER^KEY=VALUE, as in `gcloud topic escaping`
    (word,) = [word for word in last if word.startswith('--metadata=')]
    _, delimiter, pairs = word.split('^', 2)
    key, script = pairs.split('=', 1)
    assert key == 'startup-script' and delimiter not in script
    assert script.startswith('#!/bin/bash\n')

  folder = host(shell)
  found = shell.run('bash', '-c', script.replace('/opt/xmc', str(folder)))
  assert found.returncode == 0, found.stderr
  fetched, *done = [words for words in shell.records() if words[0] != 'sudo']
  assert fetched == ['gcloud', 'storage', 'cat', 'gs://bucket/a run/code.tar.gz']
  service = folder / 'launch/hosts/xmc.service'
  assert done == [
      ['systemctl', 'stop', 'xmc'],
      ['python3', '-m', 'pip', 'install', '--quiet', 'uv'],
      ['python3', '-m', 'uv', 'venv', '--quiet', '--allow-existing', '--python=3.13', '.venv'],
      ['python3', '-m', 'uv', 'pip', 'install', '--quiet', '--editable', '.[train,tpu]'],
      ['python3', '-m', 'uv', 'pip', 'install', '--quiet', '--no-deps', *text_packages()],
      ['systemctl', 'enable', '--quiet', str(service)],
      ['systemctl', 'daemon-reload'], ['systemctl', 'start', 'xmc']]

  unit = configparser.ConfigParser(strict=False)
  unit.optionxform = str
  unit.read(service)
  service = unit['Service']
  assert service['WorkingDirectory'] == '/opt/xmc'
  assert (service['Restart'], service['RestartPreventExitStatus']) == ('on-failure', '2')
  started = shell.run('env', '-C', folder, *shlex.split(
      service['ExecStart'].replace('/opt/xmc', str(folder))))
  assert started.returncode == 0, started.stderr
  assert shell.records()[0] == ['xmc', 'train', '--distributed', *TRAIN]


def text_packages():
  """The packages without dependencies that the Makefile installs for `make test`."""
  return re.findall(r'--no-deps (\S+)', (tiny.ROOT / 'Makefile').read_text())


def test_the_image_has_what_the_makefile_installs():
  method = (HOSTS / 'Dockerfile').read_text()
  assert re.search(r'--no-deps (.*)', method)[1].split() == text_packages()
  for line in re.findall(r'^COPY (.*) \S+$', method, re.MULTILINE):
    assert all((tiny.ROOT / part).exists() for part in line.split())


def test_a_pod_trains_with_the_flags_given(shell):
  shell.launch('xpk', *CALLS['xpk'], '--', *TRAIN)
  command = shell.records()[-1][-1].removeprefix('--command=')
  host(shell)
  found = shell.run('bash', '-c', f'cd {shell.root}; ({command}) & wait $!')      # as XPK wraps it
  assert found.returncode == 0, found.stderr
  assert shell.records()[0] == ['xmc', 'train', '--distributed', *TRAIN]


@pytest.mark.parametrize('code, restarts, requeued', [
    (0, None, False), (2, None, False), (1, None, True), (75, None, True), (137, 4, True),
    (75, 5, False)])
def test_a_job_is_queued_again_after_a_loss_not_after_a_mistake(shell, code, restarts, requeued):
  shell.fake('srun', then=f'exit {code}')
  shell.fake('scontrol')
  again = {} if restarts is None else {'SLURM_RESTART_COUNT': str(restarts)}
  found = shell.run(HOSTS / 'slurm.sh', '5', *TRAIN, SLURM_JOB_ID='12', **again)
  assert found.returncode == code
  started, *after = shell.records()
  assert started == ['srun', '--kill-on-bad-exit=0', '--wait=0', 'bash', 'launch/hosts/train.sh',
                     *TRAIN]
  assert after == ([['scontrol', 'requeue', '12']] if requeued else [])


def a_run(shell, steps, saved):
  """A folder as `xmc train` leaves it, and the PATH of a Python that can look at it."""
  folder = shell.folder / 'a run'
  (folder / 'checkpoints' / str(saved)).mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps({'steps': steps}))
  shell.env['PATH'] += f':{pathlib.Path(sys.executable).parent}'
  return folder


@pytest.mark.parametrize('code, saved, ends', [
    (0, 20, 0), (0, 10, 75), (2, 10, 2), (75, 10, 75), (137, 20, 137)])
def test_a_host_ends_with_0_only_when_the_last_step_is_saved(shell, code, saved, ends):
  folder = a_run(shell, steps=20, saved=saved)
  shell.fake('xmc', then=f'exit {code}')
  found = shell.launch('hosts/train', '--config=x', '--workdir', folder)
  assert found.returncode == ends
  assert ('75' in found.stderr) == (code == 0 and ends == 75)


def test_a_checkpoint_of_the_last_step_counts_as_finished(shell):
  """The host looks for a folder of the name that the program's checkpoints have."""
  folder = a_run(shell, steps=20, saved=10)
  shell.fake('xmc')
  with Checkpoints(folder / 'checkpoints', every=1) as checkpoints:
    checkpoints.save(20, {'x': jax.numpy.zeros(3)}, {}, force=True)
  assert shell.launch('hosts/train', f'--workdir={folder}').returncode == 0


def test_sigterm_reaches_the_training_which_is_waited_for(shell):
  folder = a_run(shell, steps=20, saved=10)
  shell.real('sleep')
  shell.fake('xmc', then='trap "sleep 0.5; echo saved; exit 0" TERM; echo ready\n'
                         'while :; do sleep 0.1; done')
  words = [shell.root / 'launch/hosts/train.sh', f'--workdir={folder}']
  with subprocess.Popen(words, env=shell.env, text=True, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE) as process:
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
  assert told == 'saved\n' and process.returncode == 75
