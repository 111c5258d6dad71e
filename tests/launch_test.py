"""The scripts of launch/, run with recorders in place of gcloud, kubectl, sbatch and the like.

What a dry run prints is pasted into a shell and must lead to the same records as the run itself.
"""
import pathlib
import re
import subprocess
import sys

import pytest
import tiny
import yaml
from shells import CALLS, HOST, TPU, TRAIN, Shell

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
  assert len(path.read_text().splitlines()) <= 70
  shellcheck = pathlib.Path(sys.executable).parent / 'shellcheck'
  found = subprocess.run([shellcheck, path], text=True, capture_output=True)
  assert found.returncode == 0, found.stdout + found.stderr


@every_call
def test_help_names_every_option(shell, name):
  own = re.search(r"^parse '(.*)'", (LAUNCH / f'{name.split()[0]}.sh').read_text(), re.MULTILINE)[1]
  found = shell.launch(name, '--help')
  assert found.returncode == 0 and '-- TRAINING' in found.stdout
  for option in [*own.split(), 'dry-run']:
    assert f'--{option.strip("?").replace("_", "-")} ' in found.stdout


@every_call
def test_what_a_dry_run_prints_is_what_a_run_does(shell, name):
  words = [*CALLS[name], *HOST, '--', *TRAIN]
  printed = shell.launch(name, '--dry-run', *words)
  assert printed.returncode == 0, printed.stderr
  assert shell.records() == []
  assert shell.run('bash', '-c', printed.stdout).returncode == 0
  pasted = shell.records()
  assert shell.launch(name, *words).returncode == 0
  assert shell.records() == pasted != []
  plain = [word for words in pasted for word in words if ' ' not in word]
  assert all(word in printed.stdout for word in plain)


@pytest.mark.parametrize('config', ['configs/smoke.py:xmc_gan_coco256', 'demo', 'scl:demo'])
@pytest.mark.parametrize('name', ['tpu_vm', 'gke'])
def test_configs_may_have_a_variant_or_only_a_name(shell, name, config):
  words = [*CALLS[name], '--dry-run', '--', '--config', config, *TRAIN[2:]]
  found = shell.launch(name, *words)
  assert found.returncode == 0 and config in found.stdout, found.stderr


def test_tpu_vm_sends_the_code_creates_and_starts(shell):
  assert shell.launch('tpu_vm', *CALLS['tpu_vm'], '--', *TRAIN).returncode == 0
  made, packed, sent, created, started = shell.records()
  assert made == ['mkdir', '-p', 'build']
  assert packed[:3] == ['tar', '-czf', 'build/code.tar.gz']
  assert all((tiny.ROOT / part).exists() for part in packed[3:])
  assert sent == ['gcloud', 'storage', 'cp', 'build/code.tar.gz', 'gs://bucket/a run/code.tar.gz']
  assert created == [*SSH[:4], 'create', 'me', '--zone=us-x1-a', '--accelerator-type=v5litepod-16',
                     '--version=v2-alpha-tpuv5-lite', '--spot', '--labels=a=b,c=d']
  assert started[:-1] == [*SSH, '--quiet', '--worker=all']


@pytest.mark.parametrize('name, flag', [
    ('gke', '--spot=false'), ('tpu_vm', '--dry-run=no'), ('tpu_vm', '--reuse=0')])
def test_a_flag_that_takes_no_value_is_not_given_one(shell, name, flag):
  found = shell.launch(name, *CALLS[name], flag, '--', *TRAIN)
  assert found.returncode == 2 and f'{flag.partition("=")[0]} takes no value' in found.stderr
  assert shell.records() == []


def test_tpu_vm_that_is_there_is_used_again(shell):
  words = ['--name=me', '--zone=us-x1-a', '--reuse', '--project=p', '--', *TRAIN]
  assert shell.launch('tpu_vm', *words).returncode == 0
  done = shell.records()
  assert [words[0] for words in done] == ['mkdir', 'tar', 'gcloud', 'gcloud']
  assert done[-1][:-1] == ['gcloud', '--project=p', *SSH[1:], '--quiet', '--worker=all']


@pytest.mark.parametrize('kind, version', [
    ('v3-8', 'tpu-ubuntu2204-base'), ('v4-32', 'tpu-ubuntu2204-base'), ('v5p-8', 'v2-alpha-tpuv5'),
    ('v6e-8', 'v2-alpha-tpuv6e')])
def test_runtime_version_follows_the_type(shell, kind, version):
  words = ['--name=me', '--zone=z', f'--type={kind}', '--', *TRAIN]
  shell.launch('queued_resource', *words)
  assert f'--runtime-version={version}' in shell.records()[-1]
  shell.launch('queued_resource', '--version=mine', *words)
  assert '--runtime-version=mine' in shell.records()[-1]


def test_compute_tpu_creates_a_group_that_is_the_slice(shell):
  assert shell.launch('compute_tpu', *CALLS['compute_tpu'], '--', *TRAIN).returncode == 0
  *_, policy, template, group = shell.records()
  assert policy == ['gcloud', 'compute', 'resource-policies', 'create', 'workload-policy', 'me',
                    '--type=high-throughput', '--accelerator-topology=4x4', '--region=us-x1']
  assert template[:5] == ['gcloud', 'compute', 'instance-templates', 'create', 'me']
  assert {'--machine-type=ct6e-standard-4t', '--provisioning-model=FLEX_START',
          '--max-run-duration=3d', '--instance-termination-action=DELETE',
          '--image-family=f'} < set(template)
  assert group == ['gcloud', 'compute', 'instance-groups', 'managed', 'create', 'me',
                   '--zone=us-x1-a', '--size=4', '--template=me', '--workload-policy=me',
                   '--default-action-on-vm-failure=do-nothing']
  words = [word for word in CALLS['compute_tpu'] if word not in ('--flex-start', '3d')]
  shell.launch('compute_tpu', *words, '--spot', '--', *TRAIN)
  assert '--provisioning-model=SPOT' in shell.records()[-2]


def created(shell, name, *options):
  """The object that gke.sh creates, as Kubernetes reads it, and the commands."""
  shell.fake('kubectl', then='cat >"$HOME/manifest.yaml"')
  found = shell.launch(name, *CALLS[name], *options, '--', *TRAIN)
  assert found.returncode == 0, found.stderr
  return yaml.safe_load((shell.folder / 'manifest.yaml').read_text()), shell.records()


@pytest.mark.parametrize('name, resource, chips, hosts, selector', [
    ('gke', 'google.com/tpu', 4, 4,
     {'cloud.google.com/gke-tpu-accelerator': 'tpu-v5-lite-podslice',
      'cloud.google.com/gke-tpu-topology': '4x4', 'cloud.google.com/gke-spot': 'true'}),
    ('gke gpu', 'nvidia.com/gpu', 8, 2,
     {'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb'})])
def test_gke_creates_a_jobset(shell, name, resource, chips, hosts, selector):
  jobset, (built, pushed, made) = created(shell, name, *HOST, '--max-restarts=7')
  assert built[:4] == ['docker', 'build', '--platform=linux/amd64',
                       f'--build-arg=DEVICE={"gpu" if "gpu" in name else "tpu"}']
  assert pushed == ['docker', 'push', 'r/xmc:1']
  assert made == ['kubectl', 'create', *['--namespace=n'] * ('gpu' in name), '--filename=-']
  assert (jobset['apiVersion'], jobset['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
  assert jobset['metadata']['name'] == 'me'
  queue = {} if 'gpu' in name else {'kueue.x-k8s.io/queue-name': 'q'}
  assert jobset['metadata']['labels'] == queue
  assert bool(jobset['metadata']['annotations']) == bool(queue)     # a slice is a node pool
  assert jobset['spec']['failurePolicy'] == {'maxRestarts': 7, 'rules': [
      {'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}]}
  (hosts_job,) = jobset['spec']['replicatedJobs']
  job = hosts_job['template']['spec']
  assert (hosts_job['name'], hosts_job['replicas']) == ('hosts', 1)
  assert (job['parallelism'], job['completions'], job['backoffLimit']) == (hosts, hosts, 0)
  (rule,) = job['podFailurePolicy']['rules']
  assert rule['action'] == 'FailJob' and rule['onExitCodes']['values'] == [2]
  pod = job['template']['spec']
  assert (pod['restartPolicy'], pod['nodeSelector']) == ('Never', selector)
  assert bool(pod['tolerations']) == ('cloud.google.com/gke-spot' in selector)
  (container,) = pod['containers']
  assert rule['onExitCodes']['containerName'] == container['name']
  assert container['command'] == ['bash', 'launch/hosts/train.sh', *HOST, '--', *TRAIN]
  assert container['resources']['limits'] == container['resources']['requests'] == {
      resource: chips}
  environment = {entry['name']: entry.get('value') for entry in container.get('env', [])}
  assert container['imagePullPolicy'] == 'Always'      # the tag may be an old one
  assert environment == ({
      'JAX_PLATFORMS': 'cuda,cpu', 'XMC_COORDINATOR': 'me-hosts-0-0.me:8476',
      'XMC_PROCESSES': '2', 'XMC_PROCESS': None} if 'gpu' in name else {})


def test_gke_builds_for_an_older_driver(shell):
  _, commands = created(shell, 'gke gpu', '--device=gpu12')
  assert '--build-arg=DEVICE=gpu12' in commands[0]


def test_gke_takes_an_image_that_is_there(shell):
  _, commands = created(shell, 'gke', '--reuse')
  assert [words[0] for words in commands] == ['kubectl']


@pytest.mark.parametrize('kind', ['gpu', 'tpu'])
def test_skypilot_asks_for_spot_machines_and_recovers(kind):
  task = yaml.safe_load((LAUNCH / f'skypilot/{kind}.yaml').read_text())
  assert set(task) == {'name', 'workdir', 'num_nodes', 'resources', 'envs', 'setup', 'run'}
  resources = task['resources']
  assert resources['use_spot'] is True and resources['job_recovery'] == {
      'max_restarts_on_errors': 20, 'recover_on_exit_codes': [75]}
  assert resources['accelerators'].startswith({'gpu': 'H100', 'tpu': 'tpu-'}[kind])
  assert task['envs'] == {'FLAGS': None, 'DATA': '', 'SETUP': ''} | (
      {'JAX_PLATFORMS': 'cuda,cpu'} if kind == 'gpu' else {})
  assert f'.[train,{kind}]' in task['setup'] and '--constraint' in task['setup']
  for script in (task['setup'], task['run']):
    found = subprocess.run([pathlib.Path(sys.executable).parent / 'shellcheck', '--shell=bash',
                            '--exclude=SC2086,SC2154', '-'], input=script, text=True,
                           capture_output=True)
    assert found.returncode == 0, found.stdout


def test_slurm_submits_a_process_a_gpu(shell):
  assert shell.launch('slurm', *CALLS['slurm'], '--', *TRAIN).returncode == 0
  (submitted,) = shell.records()
  body = submitted.index('launch/hosts/slurm.sh')
  assert set(submitted[1:body]) == {
      '--job-name=xmc', '--nodes=2', '--ntasks-per-node=8', '--gpus-per-node=8', '--time=24:00:00',
      '--signal=TERM@180', '--requeue', '--open-mode=append', '--output=xmc-%j.log',
      '--partition=gpu'}
  assert submitted[body + 1:] == ['100', '--', *TRAIN]
  shell.launch('slurm', '--nodes=1', '--gpus=0', '--time=1:00', '--', *TRAIN)
  (submitted,) = shell.records()
  assert '--ntasks-per-node=1' in submitted
  assert not [word for word in submitted if word.startswith('--gpus')]


@pytest.mark.parametrize('name, option', [
    (name, option) for name, options in {
        'tpu_vm': ('name', 'zone', 'type'), 'queued_resource': ('name', 'zone', 'type'),
        'compute_tpu': ('name', 'zone', 'machine', 'topology', 'hosts'),
        'gke': ('name', 'image', 'accelerator', 'hosts', 'chips'),
        'slurm': ('nodes', 'gpus', 'time')}.items()
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
    ('tpu_vm', [*TPU, '--', '--config=demo.py', *TRAIN[2:]], '--config demo.py'),
    ('gke', [*CALLS['gke'], '--', *TRAIN[:2], '--workdir=/nfs/x'], '--workdir /nfs/x'),
    ('gke', [*CALLS['gke'], '--device=gpu', '--', *TRAIN], '--device=gpu is for GPUs'),
    ('gke', [*CALLS['gke gpu'], '--device=tpu', '--', *TRAIN], 'give gpu or gpu12'),
    ('slurm', ['--nodes=1', '--time', '--gpus=1', '--', *TRAIN], '--time needs a value'),
    ('slurm', [*CALLS['slurm'], '--', '--config=configs/no.py', *TRAIN[2:]], 'configs/no.py'),
    ('hosts/train', ['--', '--config=configs/demo.py'], '--workdir'),
    ('hosts/train', ['--', *TRAIN], 'no command xmc'),
    ('hosts/train', TRAIN, 'after --'),
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
  return found, [words[4] if '--worker=all' not in words else 'start' for words in shell.records()
                 if words[:3] == ['gcloud', 'compute', 'tpus']
                 and (words[4] in ('create', 'delete') or 'hosts/tpu.sh' in words[-1])]


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
  found, done = watch(shell, [('ACTIVE', '', ''), (*UP, 'exited'),       # of the flags of before
                              (*UP, 'running'), (*UP, 'exited')], create=1)
  assert found.returncode == 0 and done == ['create', 'start', 'delete']
  assert 'READY started' in found.stdout and 'READY running' in found.stdout


def test_a_watch_ends_where_nothing_can_be_created(shell):
  found, done = watch(shell, [('', '', '')], create=1)
  assert found.returncode != 0 and done == ['create']
