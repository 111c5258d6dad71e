"""A shell for tests of launch/: a checkout of links, and a PATH with recorders in place of tools.

A recorder writes down the words of its command line, so that nothing of this machine is touched.
"""
import pathlib
import shutil
import subprocess

import tiny

TRAIN = ['--config', 'configs/demo.py', '--workdir=gs://bucket/a run', '--config.empty=',
         "--config.note=it's $HOME, 1", '--config.seed', '3']
HOST = ['--data=gs://bucket/coco 2014', """--setup=echo "$HOME" 'a b'"""]
TPU = ['--name=me', '--zone=us-x1-a', '--type=v5litepod-16']
CALLS = {
    'tpu_vm': [*TPU, '--spot', '--labels=a=b,c=d'],
    'queued_resource': [*TPU, '--spot', '--project=p'],
    'compute_tpu': ['--name=me', '--zone=us-x1-a', '--machine=ct6e-standard-4t', '--topology=4x4',
                    '--hosts=4', '--flex-start', '3d', '--image-family=f'],
    'gke': ['--name=me', '--image=r/xmc:1', '--accelerator=tpu-v5-lite-podslice',
            '--topology=4x4', '--hosts=4', '--chips', '4', '--queue=q', '--spot'],
    'gke gpu': ['--name=me', '--image=r/xmc:1', '--accelerator=nvidia-h100-80gb', '--hosts=2',
                '--chips=8', '--namespace=n'],
    'slurm': ['--nodes=2', '--gpus=8', '--time', '24:00:00', '--partition=gpu'],
}


class Shell:
  """A checkout without .venv, and a PATH with recorders and with little else."""

  def __init__(self, folder: pathlib.Path):
    self.folder, self.bin, self.root = folder, folder / 'bin', folder / 'checkout'
    self.log = folder / 'log'
    self.bin.mkdir()
    self.root.mkdir()
    for part in ('launch', 'configs'):
      (self.root / part).symlink_to(tiny.ROOT / part)
    self.env = {'PATH': str(self.bin), 'HOME': str(folder), 'LOG': str(self.log)}
    self.real('bash', 'basename', 'cat', 'date', 'dirname', 'env', 'gzip', 'sed')
    self.fake('docker', 'gcloud', 'kubectl', 'mkdir', 'sbatch', 'tar')

  def real(self, *names):
    for name in names:
      (self.bin / name).unlink(missing_ok=True)
      (self.bin / name).symlink_to(shutil.which(name))

  def fake(self, *names, then='exit 0'):
    """Commands that write down their words and then do what `then` says."""
    for name in names:
      path = self.bin / name
      path.unlink(missing_ok=True)       # it may be a link to the real one
      path.write_text('#!/usr/bin/env bash\n'
                      f'printf "%s\\0" {name} "$@" $\'\\1\' >>"$LOG"\n{then}\n')
      path.chmod(0o755)

  def run(self, *words, **env):
    """Runs a command outside of the checkout; its exit code and what it printed."""
    return subprocess.run([str(word) for word in words], env=self.env | env, text=True,
                          capture_output=True, timeout=60, cwd=self.folder)

  def launch(self, name, *words, **env):
    """Runs a script of launch/; of names such as 'gke gpu' the first word is the script's."""
    return self.run(self.root / f'launch/{name.split()[0]}.sh', *words, **env)

  def records(self):
    """The commands recorded since the last call, each a list of words."""
    text = self.log.read_text() if self.log.exists() else ''
    self.log.unlink(missing_ok=True)
    return [entry.split('\0')[:-1] for entry in text.split('\1\0')[:-1]]
