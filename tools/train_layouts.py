"""Trains Swift's network of layouts on captions and boxes alone, without images.

    python tools/train_layouts.py --config swift_layout_scenes64 --init RUN \
        --out layouts.safetensors [--steps 6000]
    xmc train --config swift_layout_scenes64 --workdir runs/more \
        --config.init=layouts.safetensors --config.terms.objects=0

In the training of images the network sees 16 layouts a step. Here a step takes 128 in less time,
of as many scenes as fit into memory: it needs many, because the places of a thousand objects are
soon known by heart. The network begins anew. --out has it, and the other weights of --init, a run
or a model; a run that begins with that file and `terms.objects=0` keeps the network as it is.

Every caption is one of an image of the train split, encoded once; it takes 18 kB of memory.
Over the second half of the steps the learning rate falls. Lines of the log say what captions of the
held-out split give: the negative log likelihood in nats, and, of `emoji_scenes`, what drawn layouts
have right, as in `xmc_jax/evals/objects.py`.
"""
from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import train_matcher
from safetensors import numpy as safetensors_numpy

from xmc_jax import methods
from xmc_jax.cli import config_file
from xmc_jax.data import layouts, source
from xmc_jax.evals import objects
from xmc_jax.networks.base import Text
from xmc_jax.networks.swift_layout import NUMBERS, LayoutNetwork
from xmc_jax.pretrained import export, start
from xmc_jax.training import mesh, optim
from xmc_jax.types import Tree
from xmc_jax.utils import atomic

BATCH = 128        # layouts a step
RATE, WARMUP = 1e-3, 100      # of the optimizer; steps
LAST = 0.02        # of the rate, at the end
DECAY = 0.995      # of the moving average that is kept
REPORT = 500       # steps between two lines of the log
ROWS = 500         # captions that are tried at once
SETTINGS = dict(lr=1.0, b1=0.9, b2=0.99, muon=0.9)      # of the optimizer; the rate is ours


@dataclasses.dataclass(frozen=True)
class Layouts:
  """Captions and the layouts of their images, in memory.

  words: float16 [n, t, e]; mask: [n, t]. layouts: [n, k, 4]. truths: what the captions say, for
  data that know it.
  """
  words: np.ndarray
  mask: np.ndarray
  layouts: np.ndarray
  truths: list | None

  @classmethod
  def read(cls, data: source.Source, most: int, length: int) -> Layouts:
    """Up to `most` images, each with a random one of its captions."""
    rng, chosen = np.random.default_rng(0), range(min(most, len(data)))
    which = [int(rng.integers(len(data.captions(i)))) for i in chosen]
    words, mask = train_matcher.encoded(
        [data.captions(i)[k] for i, k in zip(chosen, which, strict=True)], length)
    truths = ([data.truth(i, k) for i, k in zip(chosen, which, strict=True)]
              if hasattr(data, 'truth') else None)
    return cls(words, mask, layouts.layouts(data, chosen, len(chosen) * [False]), truths)

  def part(self, rows) -> tuple[Text, np.ndarray]:
    """Captions and layouts of rows. No network of layouts reads the sentence."""
    words = jnp.asarray(self.words[rows], jnp.float32)
    return Text(words, jnp.asarray(self.mask[rows]), words.mean(1)), self.layouts[rows]


def train(network: LayoutNetwork, params: Tree, data: Layouts, heldout: Layouts, steps: int,
          seed: int = 0) -> Tree:
  """The averaged parameters after so many steps."""
  optimizer = optim.make_optimizers({'layout': SETTINGS})['layout']
  state, average, rng = optimizer.init(params), params, np.random.default_rng(seed)

  @jax.jit
  def step(params, average, state, rate, text, drawn):
    loss = lambda params: network.apply({'params': params}, text, drawn).mean()
    value, gradients = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, jax.tree.map(lambda x: rate * x, updates))
    return params, optax.incremental_update(params, average, 1 - DECAY), state, value

  losses, began = [], time.process_time()
  for i in range(1, steps + 1):
    rows = rng.choice(len(data.layouts), min(BATCH, len(data.layouts)), replace=False)
    rate = min(i / WARMUP, 1.0) * np.clip(2 * (1 - i / steps), LAST, 1)
    params, average, state, loss = step(params, average, state, np.float32(RATE * rate),
                                        *data.part(rows))
    losses.append(float(loss))
    if i % REPORT == 0 or i == steps:
      minutes = (time.process_time() - began) / 60
      print(f'step {i:,}/{steps:,}, {minutes:.1f} core-minutes, {np.mean(losses[-REPORT:]):.2f} '
            f'nats; held out: {measure(network, average, heldout)}', flush=True)
  return average


def measure(network: LayoutNetwork, params: Tree, data: Layouts) -> str:
  """Nats of the layouts of captions, and what layouts drawn for them have right."""
  likelihood = jax.jit(network.apply)
  draw = jax.jit(lambda *args: network.apply(*args, method='sample'))
  n = len(data.layouts)
  uniform = np.random.default_rng(1).random((n, network.objects, NUMBERS), np.float32)
  nats, drawn = [], []
  for at in range(0, n, ROWS):
    text, real = data.part(slice(at, at + ROWS))
    nats += likelihood({'params': params}, text, real).tolist()
    drawn += list(np.asarray(draw({'params': params}, text, uniform[at:at + ROWS])))
  told = [f'{np.mean(nats):.2f} nats']
  if data.truths:
    right = objects.score([boxes(layout) for layout in drawn], data.truths)
    told += [f'{key} {right[key]:.1%}' for key in ('objects', 'precision', 'counts', 'relations')
             if right[key] is not None]
  return ', '.join(told)


def boxes(layout: np.ndarray) -> objects.Found:
  """The objects of a layout [k, 4] as `objects.find_objects` has them; all boxes are squares."""
  rows = layout[layout[:, 0] > 0]
  kinds, (y, x, side) = np.round(rows[:, 0]).astype(int) - 1, rows[:, 1:].T
  found = np.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], -1)
  return {int(kind): found[kinds == kind] for kind in kinds}


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--config', required=True, help='config with `model.objects`')
  parser.add_argument('--init', help='run or model whose other weights go along')
  parser.add_argument('--out', type=pathlib.Path, required=True, help='weight file')
  parser.add_argument('--steps', type=int, default=6000, help='of 128 layouts each')
  parser.add_argument('--images', type=int, default=100_000, help='of the train split')
  parser.add_argument('--heldout', type=int, default=2000, help='images of the held-out split')
  flags, overrides = parser.parse_known_args(argv)
  config = config_file.load(flags.config, overrides)
  if not config.model.get('objects'):
    parser.error(f'--config={flags.config}: has no layouts (model.objects)')
  options = dict(config.data.options)
  if config.data.name == 'emoji_scenes':
    options['examples'] = flags.images
  splits = {split: source.load(config.data.name, split, config.model.size, **options)
            for split in ('train', 'heldout')}
  spec = methods.program(methods.build(config), config, mesh.make_mesh()).state_spec
  tensors = start.read(flags.init, spec) if flags.init else {}
  heldout = Layouts.read(splits['heldout'], flags.heldout, config.text.length)
  data = Layouts.read(splits['train'], flags.images, config.text.length)
  network = LayoutNetwork(config.model.classes, config.model.objects)
  params = network.init(jax.random.key(config.seed), *data.part(slice(2)))['params']
  trained = train(network, params, data, heldout, flags.steps, config.seed)
  tensors |= export.flat('params/layout', trained)
  atomic.save(flags.out, safetensors_numpy.save(tensors))


if __name__ == '__main__':
  main()
