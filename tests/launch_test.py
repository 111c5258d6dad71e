"""The scripts of launch/, run with recorders in place of gcloud, xpk, sbatch and the like.

What a dry run prints is pasted into a shell and must lead to the same records as the run itself.
"""
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import tiny
from shells import CALLS, TPU, TRAIN, Shell

pytestmark = pytest.mark.slow

LAUNCH = tiny.ROOT / 'launch'
ALL = sorted(LAUNCH.rglob('*.sh'))
SSH = ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'me', '--zone=us-x1-a']

every_call = pytest.mark.parametrize('name', CALLS)


@pytest.fixture
def shell(tmp_path):
  return Shell(tmp_path)


@pytest.mark.parametrize('path', ALL, ids=lambda path: str(path.relative_to(LAUNCH)))
def test_script_is_short_and_shellcheck_has_nothing_to_say(path):
  assert len(path.read_text().splitlines()) <= 60
  shellcheck = pathlib.Path(sys.executable).parent / 'shellcheck'
  found = subprocess.run([shellcheck, path], text=True, capture_output=True)
  assert found.returncode == 0, found.stdout + found.stderr


@every_call
def test_help_names_every_option(shell, name):
  own = re.search(r"^parse '(.*)'", (LAUNCH / f'{name}.sh').read_text(), re.MULTILINE)[1]
  found = shell.launch(name, '--help')
  assert found.returncode == 0 and '-- TRAINING' in found.stdout
  for option in [*own.split(), 'dry-run']:
    assert f'--{option.strip("?").replace("_", "-")} ' in found.stdout


@every_call
def test_what_a_dry_run_prints_is_what_a_run_does(shell, name):
  words = [*CALLS[name], '--', *TRAIN]
  printed = shell.launch(name, '--dry-run', *words)
  assert printed.returncode == 0, printed.stderr
  assert shell.records() == []
  assert shell.run('bash', '-c', printed.stdout).returncode == 0
  pasted = shell.records()
  assert shell.launch(name, *words).returncode == 0
  assert shell.records() == pasted != []
  plain = [word for words in pasted for word in words if ' ' not in word]
  assert set(plain) <= set(shlex.split(printed.stdout, comments=True))


def test_tpu_vm_sends_the_code_creates_and_starts(shell):
  assert shell.launch('tpu_vm', *CALLS['tpu_vm'], '--', *TRAIN).returncode == 0
  made, packed, sent, created, started = shell.records()
  assert made == ['mkdir', '-p', 'build']
  assert packed[:3] == ['tar', '-czf', 'build/code.tar.gz']
  assert all((tiny.ROOT / part).exists() for part in packed[3:])
  assert sent == ['gcloud', 'storage', 'cp', 'build/code.tar.gz', 'gs://bucket/a run/code.tar.gz']
  assert created == [*SSH[:4], 'create', 'me', '--zone=us-x1-a', '--accelerator-type=v5litepod-16',
                     '--version=v2-alpha-tpuv5-lite', '--spot', '--labels=a=b,c=d']
  assert started[:-1] == [*SSH, '--worker=all']


def test_tpu_vm_that_is_there_is_used_again(shell):
  words = ['--name=me', '--zone=us-x1-a', '--reuse', '--project=p', '--', *TRAIN]
  assert shell.launch('tpu_vm', *words).returncode == 0
  done = shell.records()
  assert [words[0] for words in done] == ['mkdir', 'tar', 'gcloud', 'gcloud']
  assert done[-1][:-1] == ['gcloud', '--project=p', *SSH[1:], '--worker=all']


@pytest.mark.parametrize('kind, version', [
    ('v3-8', 'tpu-ubuntu2204-base'), ('v4-32', 'tpu-ubuntu2204-base'), ('v5p-8', 'v2-alpha-tpuv5'),
    ('v6e-8', 'v2-alpha-tpuv6e')])
def test_runtime_version_follows_the_type(shell, kind, version):
  words = ['--name=me', '--zone=z', f'--type={kind}', '--', *TRAIN]
  shell.launch('queued_resource', *words)
  assert f'--runtime-version={version}' in shell.records()[-1]
  shell.launch('queued_resource', '--version=mine', *words)
  assert '--runtime-version=mine' in shell.records()[-1]


def test_xpk_builds_pushes_and_creates(shell):
  assert shell.launch('xpk', *CALLS['xpk'], '--priority=low', '--', *TRAIN).returncode == 0
  built, pushed, created = shell.records()
  assert built == ['docker', 'build', '--platform=linux/amd64',
                   '--file=launch/hosts/Dockerfile', '--tag=r/xmc:1', '.']
  assert pushed == ['docker', 'push', 'r/xmc:1']
  assert created[:3] == ['xpk', 'workload', 'create']
  assert set(created[3:-1]) == {
      '--workload=me', '--cluster=c', '--zone=z', '--tpu-type=v5litepod-16',
      '--docker-image=r/xmc:1', '--max-restarts=100', '--restart-on-exit-codes=1,3-126',
      '--termination-grace-period-seconds=180', '--priority=low'}
  shell.launch('xpk', *CALLS['xpk'], '--reuse', '--max-restarts=7', '--', *TRAIN)
  (created,) = shell.records()
  assert '--max-restarts=7' in created


def test_slurm_submits_a_process_a_gpu(shell):
  assert shell.launch('slurm', *CALLS['slurm'], '--', *TRAIN).returncode == 0
  (submitted,) = shell.records()
  body = submitted.index('launch/hosts/slurm.sh')
  assert set(submitted[1:body]) == {
      '--job-name=xmc', '--nodes=2', '--ntasks-per-node=8', '--gpus-per-node=8', '--time=24:00:00',
      '--signal=TERM@180', '--requeue', '--open-mode=append', '--output=xmc-%j.log',
      '--partition=gpu'}
  assert submitted[body + 1:] == ['100', *TRAIN]
  shell.launch('slurm', '--nodes=1', '--gpus=0', '--time=1:00', '--', *TRAIN)
  (submitted,) = shell.records()
  assert '--ntasks-per-node=1' in submitted
  assert not [word for word in submitted if word.startswith('--gpus')]


@pytest.mark.parametrize('name, option', [
    (name, option) for name, options in {
        'tpu_vm': ('name', 'zone', 'type'), 'queued_resource': ('name', 'zone', 'type'),
        'xpk': ('name', 'cluster', 'type', 'image'), 'slurm': ('nodes', 'gpus', 'time')}.items()
    for option in options])
def test_a_missing_option_is_told_in_one_sentence(shell, name, option):
  given = ' '.join(CALLS[name])
  assert re.search(f'--{option}[= ]', given)
  found = shell.launch(name, *re.sub(f'--{option}[= ][^ ]+', '', given).split(), '--', *TRAIN)
  assert found.returncode == 2 and shell.records() == []
  assert found.stderr == f'{name}.sh: --{option}=... is missing; --help tells what it is\n'


@pytest.mark.parametrize('name, words, told', [
    ('tpu_vm', [*TPU, 'spot', '--', *TRAIN], 'spot is not an option'),
    ('tpu_vm', [*TPU[:2], '--type=v9-8', '--', *TRAIN], '--type=v9-8'),
    ('tpu_vm', [*TPU, '--', *TRAIN[:2], '--workdir', 'runs/x'], '--workdir runs/x'),
    ('tpu_vm', [*TPU, '--', '--config=setup.cfg', *TRAIN[2:]], '--config setup.cfg'),
    ('queued_resource', [*TPU, '--', '--config', 'configs/demo.py'], '--workdir DIR'),
    ('queued_resource', TPU, '--config FILE'),
    ('xpk', [*CALLS['xpk'], '--', *TRAIN[:2], '--workdir=/nfs/x'], '--workdir /nfs/x'),
    ('slurm', ['--nodes=1', '--time', '--gpus=1', '--', *TRAIN], '--time needs a value'),
    ('slurm', [*CALLS['slurm'], '--', '--config=configs/no.py', *TRAIN[2:]], 'configs/no.py'),
    ('hosts/train', ['--config=configs/demo.py'], '--workdir'),
    ('hosts/train', TRAIN, 'no command xmc'),
])
def test_a_mistake_is_told_in_one_sentence(shell, name, words, told):
  found = shell.launch(name, *words)
  assert found.returncode == 2 and found.stdout == '' and shell.records() == []
  assert told in found.stderr and found.stderr.count('\n') == 1, found.stderr


def watch(shell, states, create=0):
  """Watches a queued resource through `states`, each (queue, node, service).

  `create` is the exit code of creating one. Returns the watch and what it created and deleted.
  """
  answers = shell.folder / 'answers'
  answers.mkdir()
  for turn, (queue, node, service) in enumerate(states):
    for kind, text in (('queued-resources', queue), ('tpu-vm', node), ('ssh', service)):
      (answers / f'{turn}{kind}').write_text(text)
  # The queue is asked once a turn and first of all; an empty answer is a failure to answer.
  shell.fake('gcloud', then=f'cd "{answers}"; kind=$3; [[ $4 != ssh ]] || kind=ssh\n'
             f'[[ $4 != create ]] || exit {create}\n'
             '[[ $4 == describe || $4 == ssh ]] || exit 0\n'
             '[[ $kind != queued-resources ]] || echo -n x >>turns\n'
             'turns=$(cat turns); answer=$(cat "$((${#turns} - 1))$kind")\n'
             '[[ $answer ]] && echo "$answer"')
  shell.fake('sleep')
  found = shell.launch('queued_resource', *TPU, '--watch', '--', *TRAIN)
  return found, [words[4] for words in shell.records()
                 if words[:3] == ['gcloud', 'compute', 'tpus'] and words[4] in ('create', 'delete')]


UP = ('ACTIVE', 'READY')


def test_watch_queues_again_until_the_run_is_finished(shell):
  found, done = watch(shell, [
      ('WAITING_FOR_RESOURCES', '', ''), (*UP, 'dead'), (*UP, 'running'), (*UP, ''),
      ('SUSPENDING', '', ''), ('SUSPENDED', '', ''),                  # taken away
      (*UP, 'auto-restart'), ('ACTIVE', 'PREEMPTED', ''),             # taken, not told by the queue
      ('', '', ''),                                                   # not there at all
      (*UP, 'running'), (*UP, 'exited')])
  assert found.returncode == 0, found.stderr
  assert done == ['create', *['delete', 'create'] * 2, 'create', 'delete']
  assert 'finished' in found.stdout


def test_watch_ends_with_1_and_keeps_the_tpu_when_training_has_failed(shell):
  found, done = watch(shell, [(*UP, 'running'), (*UP, 'failed')])
  assert found.returncode == 1 and done == ['create']
  assert 'failed' in found.stdout


def test_a_watch_that_was_ended_is_taken_up_again(shell):
  found, done = watch(shell, [('ACTIVE', '', ''), (*UP, 'exited')], create=1)
  assert found.returncode == 0 and done == ['create', 'delete']


def test_a_watch_ends_where_nothing_can_be_created(shell):
  found, done = watch(shell, [('', '', '')], create=1)
  assert found.returncode != 0 and done == ['create']
