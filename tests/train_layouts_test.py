"""tools/train_layouts.py: what it learns, how that is measured, and its file."""
import sys

import jax
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file

from xmc_jax import methods
from xmc_jax.cli import config_file
from xmc_jax.data import layouts
from xmc_jax.data.embedded import emoji_scenes
from xmc_jax.evals import objects
from xmc_jax.networks.swift_layout import LayoutNetwork
from xmc_jax.pretrained import start
from xmc_jax.training import mesh

sys.path.append(str(tiny.ROOT / 'tools'))

import train_layouts


def test_the_boxes_of_a_real_layout_have_everything_right():
  data = emoji_scenes.load('heldout', 64, 50, 50)
  real = layouts.layouts(data, range(50), 50 * [False])
  right = objects.score([train_layouts.boxes(x) for x in real], [data.truth(i) for i in range(50)])
  for key in ('objects', 'precision', 'counts', 'sizes', 'relations'):
    assert right[key] == 1, key


def test_layouts_are_learned():
  random = np.random.default_rng(0)
  words = random.normal(size=(256, 3, 8)).astype(np.float16)
  drawn = np.zeros((256, 2, 4), np.float32)
  drawn[:, 0] = np.stack([1 + (words[:, 0, 0] > 0), *random.uniform(0.4, 0.6, (3, 256))], -1)
  data = train_layouts.Layouts(words, np.ones((256, 3), bool), drawn, None)
  network = LayoutNetwork(3, 2, width=16, blocks=1)
  params = network.init(jax.random.key(0), *data.part(slice(2)))['params']
  nats = lambda params: float(train_layouts.measure(network, params, data).split()[0])
  trained = train_layouts.train(network, params, data, data, steps=300)
  assert nats(trained) < 0.7 * nats(params)


@pytest.mark.slow
def test_a_run_can_begin_with_the_file(tmp_path):
  out = tmp_path / 'layouts.safetensors'
  train_layouts.main(['--config', 'swift_layout_scenes64', '--init', 'scenes64', '--out', str(out),
                      '--steps', '20', '--images', '128', '--heldout', '64'])
  config = config_file.load('swift_layout_scenes64', [])
  spec = methods.program(methods.build(config), config, mesh.make_mesh()).state_spec
  tensors, before = start.read(str(out), spec), start.read('scenes64', spec)
  assert set(tensors) >= set(before) and load_file(out).keys() == tensors.keys()
  for name, x in before.items():
    assert np.array_equal(tensors[name], x) != name.startswith('params/layout/'), name
