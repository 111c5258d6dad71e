"""A host that comes back with an empty disk resumes: --data and --setup give it what it lacks."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import noise_records
import pytest
import tiny

from xmc_jax.data import vocabulary

pytestmark = pytest.mark.slow

STEPS, SAVE, LOST = 12, 2, 75
LIGHT = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1', 'PYTHONUNBUFFERED': '1',
         'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
         **tiny.LEAN}


class Host:
  """A checkout on a disk of its own, of one of two hosts that share the folder `shared`."""

  def __init__(self, disk, shared, index):
    self.disk, self.shared, self.index = disk, shared, index
    disk.mkdir()
    (disk / 'launch').symlink_to(tiny.ROOT / 'launch')

  def start(self, port):
    # A DAMSM, whose step compiles in a fifth of the time of a generator's. Its config is what
    # the setup brings.
    settings = {'batch_size': 8, 'steps': STEPS, 'model.size': 32, 'model.width': 8,
                'image.encoder': 'squeezenet', 'terms.mask_same_class': False,
                'data.name': 'records', 'data.options.folder': 'data/noise-32',
                'data.loader': 'arrays', 'every.report': 1, 'every.save': SAVE}
    flags = ['--config=mine/damsm.py', f'--workdir={self.shared / "run"}',
             *(f'--config.{key}={value}' for key, value in settings.items())]
    joins = {'XMC_COORDINATOR': f'127.0.0.1:{port}', 'XMC_PROCESSES': '2',
             'XMC_PROCESS': str(self.index)}
    path = f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    self.process = subprocess.Popen(
        ['bash', self.disk / 'launch/hosts/train.sh', f'--data={self.shared}/noise-32',
         f'--setup=[ -d mine ] || cp -r {self.shared}/mine mine', '--', *flags],
        env=os.environ | LIGHT | joins | {'PATH': path}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True)

  def until(self, pattern):
    output = ''
    for line in self.process.stdout:
      output += line
      if found := re.search(pattern, line):
        return found
    raise AssertionError(output)

  def end(self):
    """Exit code and the rest of the output."""
    output = self.process.communicate(timeout=240)[0]
    return self.process.returncode, output


def test_a_host_that_lost_its_disk_gets_all_it_needs_and_the_run_resumes(tmp_path):
  shared = tmp_path / 'shared'
  shared.mkdir()
  noise_records.make_folder(shared / 'noise-32')
  captions = (text for i in range(52) for text in noise_records.make_record(i).captions)
  (shared / 'noise-32/tokenizer.json').write_text(
      vocabulary.word_level(vocabulary.collect(captions)).to_str())
  (shared / 'mine').mkdir()
  (shared / 'mine/damsm.py').write_text(
      'from xmc_jax.methods.damsm import config as get_config\n')
  hosts = [Host(tmp_path / f'disk{i}', shared, i) for i in range(2)]
  port = tiny.free_port()
  for host in hosts:
    host.start(port)
  hosts[0].until(rf'step {SAVE + 1}/{STEPS}')
  while not (shared / 'run/checkpoints' / str(SAVE)).exists():      # written in the background
    time.sleep(0.02)
  os.killpg(hosts[0].process.pid, signal.SIGKILL)
  hosts[0].end()
  code, output = hosts[1].end()
  assert code == LOST, output
  shutil.rmtree(tmp_path / 'disk0')

  hosts[0] = Host(tmp_path / 'disk0', shared, 0)
  assert not (hosts[0].disk / 'data').exists() and not (hosts[0].disk / 'mine').exists()
  port = tiny.free_port()
  for host in hosts:
    host.start(port)
  began = int(hosts[0].until(rf'steps (\d+) to {STEPS}')[1])
  assert began > 1
  ends = [host.end() for host in hosts]
  assert [code for code, _ in ends] == [0, 0], ends
  assert (hosts[0].disk / 'data/noise-32/manifest.json').exists()
  steps = [json.loads(line)['step'] for line in (shared / 'run' / 'metrics.jsonl').open()]
  assert steps == list(range(1, STEPS + 1))
