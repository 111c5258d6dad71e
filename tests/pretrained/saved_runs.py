"""Runs that nothing was trained for: a checkpoint of the weights of `toys.state`."""
import json

import jax
import numpy as np
import toys
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

from xmc_jax import methods
from xmc_jax.pretrained import folder
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import make_mesh
from xmc_jax.weight_files import files


def save(path, config, step=3):
  """The folder of a run of `config` with one checkpoint."""
  method = methods.build(config)
  state = toys.state(methods.program(method, config, make_mesh()))
  frozen = method.load_frozen(method.sample_needs)
  meta = {'config': json.loads(config.to_json_best_effort()),
          'tokenizer': method.tokenizer().text(),
          'frozen': {name: files.fingerprint(tree) for name, tree in frozen.items()}}
  with Checkpoints(path / 'checkpoints', every=1) as checkpoints:
    checkpoints.save(step, state.replace(step=jax.numpy.int32(step)), meta)
  return path


def grey_levels(a, b):
  """Mean absolute difference of two lists of uint8 images."""
  return np.abs(a.astype(int) - b).mean()


def flat(tree):
  """{'a/b': array} of a tree."""
  return traverse_util.flatten_dict(tree, sep='/')


def sign_again(path):
  """Writes the checksums anew after a change that is no damage."""
  folder.write(path, json.loads((path / 'config.json').read_text()),
               safetensors_numpy.load_file(path / 'model.safetensors'),
               (path / 'tokenizer.json').read_text(), '')
