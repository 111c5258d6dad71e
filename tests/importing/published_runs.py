"""What tests of `xmc import` share: captions, sizes, importing a file, comparing results."""
import re

import numpy as np
import published_states as states
import tiny

from xmc_jax.cli.main import main

CAPTIONS = ['a small red bird', 'this bird has long blue wings']
WORDS = 'a small red bird this has long blue wings'.split()
TEXT, NOISE, CONDITION = 8, 5, 3


def whole_state(generator, discriminator):
  """`state_epoch_N.pth` of DF-GAN and GALIP: three networks and optimizers."""
  parts = {'netG': generator}
  for name, shapes in zip(('netD', 'netC'), discriminator):
    parts[name] = states.filled(shapes, seed=4)
  return {f'model.{part}.module.{name}': array for part, state in parts.items()
          for name, array in state.items()} | {
      'optimizers.optimizer_G.state.0.exp_avg': np.zeros(3, np.float32)}


def xmc_import(family, weights, encoder, run, *flags):
  argv = ['xmc', 'import', family, '--weights', str(weights), '--encoder', str(encoder),
          '--workdir', str(run), *flags]
  light = {'galip': ['--config.model.dtype=float32'], 'df_gan': [], 'ssa_gan': []}
  return main(argv + light.get(family, ['--config.model.d_width=2']))


def leaves(run, step=0):
  return {name: np.frombuffer(x, np.float32) for name, x in tiny.saved_state(run, step).items()
          if len(x) % 4 == 0}


def grey_levels(found, wanted):
  """The largest difference; the images must not be flat."""
  assert found.shape == wanted.shape and found.std() > 10
  return np.abs(found.astype(int) - wanted).max()


def refused(capsys, message, *argv):
  capsys.readouterr()
  assert xmc_import(*argv) == 2
  told = capsys.readouterr().err
  assert re.search(message, told) and told.count('\n') == 1
