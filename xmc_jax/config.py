"""The config keys that all methods share, and helpers for configs of known data sets.

A method's `config()` in `methods/*.py` adds its own keys; a file in `configs/` starts from that.
"""
from __future__ import annotations

import re

import ml_collections

from xmc_jax.types import LABEL_RULES, UserError

_LEAST = {'steps': 1, 'seed': 0, 'microbatches': 1, 'keep': 1, 'keep_every': 0,
          'evals.every': 0, 'grid': 1, 'model.width': 1, 'model.z_features': 1,
          'every.report': 1, 'every.save': 1, 'every.images': 1,
          'optim.g.lr': 0, 'optim.d.lr': 0, 'optim.encoder.lr': 0, 'optim.encoder.warmup': 0}
_CHOICES = {'shard': ('nothing', 'optimizer', 'parameters'),
            'model.remat': ('nothing', 'blocks'),
            'model.dtype': ('float32', 'bfloat16', 'float16'),
            'text.pool': ('masked_mean', 'released'), 'text.script': ('latin', 'any'),
            'data.loader': ('auto', 'tf_data', 'arrays'),
            'data.partners': ('', *LABEL_RULES),
            'evals.reference': ('heldout', 'train')}


def base() -> ml_collections.ConfigDict:
  """The keys that every method has, with their defaults. Locked: no new keys.

  `model`, `text`, `terms` and `optim` are the method's own: see `config()` of `methods/*.py`.
  """
  config = ml_collections.ConfigDict()
  config.method = ''               # module of xmc_jax/methods
  config.seed = 0                  # of initialization, noise and the order of the data
  config.steps = 100_000           # training steps
  config.batch_size = 256          # examples of one round, over all devices
  config.microbatches = 1          # parts that the networks see them in; losses see all examples
  config.negatives = 'global'      # examples that contrast: all, or 'local:N', groups of N
  config.shard = 'nothing'         # of the state among devices: 'optimizer' or 'parameters' (too)
  config.ema_decay = 0.999         # of averaged weights, per step; the first steps: less

  config.model = ml_collections.ConfigDict()      # sizes and arithmetic of the networks
  config.text = ml_collections.ConfigDict()       # the text encoder and its captions
  config.image = ml_collections.ConfigDict(dict(  # the frozen image network of losses
      encoder='vgg16-backbone',    # or 'vgg19', 'resnet50' (encoders/image_embedding.py)
  ))
  config.terms = ml_collections.ConfigDict()      # weights of the losses, by name, and options
  config.optim = ml_collections.ConfigDict()      # Adam, by network (training/optim.py)
  config.data = ml_collections.ConfigDict(dict(
      name='emoji',                # one of xmc_jax.data.source, or an import path
      loader='auto',               # 'tf_data'; 'arrays', numpy and one thread; or 'auto': tf_data
                                   # where TensorFlow is installed, arrays elsewhere
      options=ml_collections.ConfigDict(),   # arguments of the data set's load()
      partners='',                 # label rule of each example's partner; '': none
  ))
  config.evals = ml_collections.ConfigDict(dict(
      protocol='tf2015',           # evals/protocols.py; 'offline' needs no download
      reference='heldout',         # split that is compared with: 'heldout' or 'train'
      fakes=ml_collections.config_dict.placeholder(int),
                                   # images generated; None: as many as the protocol says
      every=0,                     # steps between evaluations in training; 0: none
      best='',                     # score whose best checkpoint stays; '': the protocol's distance
  ))
  config.every = ml_collections.ConfigDict(dict(   # steps between
      report=50, save=1000, images=1000))
  config.keep = 3                  # newest checkpoints that stay
  config.keep_every = 0            # those of its multiples stay too; 0: none
  config.grid = 32                 # held-out captions of the sample grid
  return config.lock()


# Sets of the papers: examples to train on, classes, and whether a label is one of them. Examples of
# Localized Narratives are narratives, of which an image may have several.
_SETS = {'coco2014': (82_783, 80, False), 'ln_coco': (134_272, 80, False),
         'ln_openimages': (507_444, None, False), 'cub': (8_855, 200, True)}


def train_on(config: ml_collections.ConfigDict, data: str) -> int:
  """Sets `config` to the set `data` of the papers and its labels; returns its examples."""
  config.data.name = data
  examples, config.model.classes, config.model.one_class = _SETS[data]
  return examples


# Embedded sets: classes, whether a label is one of them, words of a caption, images to be scored.
_EMBEDDED = {'emoji': (99, True, 16, 990), 'emoji_scenes': (114, False, 24, 1000)}


def embedded(config: ml_collections.ConfigDict, data: str) -> None:
  """Sets `config` to the embedded set `data`, 'emoji' or 'emoji_scenes', in a CPU's sitting.

  64 px, float32, an average over some 500 steps, scores that need no download, and a checkpoint and
  images every 250 steps. Steps, batch size and widths are left to the config.
  """
  m = config.model
  m.classes, m.one_class, config.text.length, config.evals.fakes = _EMBEDDED[data]
  config.data.name, m.size, m.dtype = data, 64, 'float32'
  config.ema_decay = 0.998
  config.evals.protocol = 'offline'
  config.every.save = config.every.images = 250


def negatives_group(negatives: str) -> int | None:
  """Examples that contrast with one another: None (all) for 'global', N for 'local:N'.

  'local:8' is XMC-GAN's released code: the 8 examples of a device contrast, losses are averaged.
  """
  found = re.fullmatch(r'global|local:(\d+)', negatives)
  rows = int(found[1]) if found and found[1] else None
  if not found or rows is not None and rows < 2:
    raise UserError(f"--config.negatives={negatives}: must be 'global', or 'local:N' for groups of "
                    'N examples, at least 2, for instance local:8')
  return rows


def _check_groups(config: ml_collections.ConfigDict) -> None:
  """Raises UserError unless the batch divides into whole groups."""
  rows, contrast = config.batch_size, negatives_group(config.negatives)
  norm = config.model.get('bn_group_size')
  if contrast and rows % contrast:
    raise UserError(f'--config.negatives={config.negatives}: {contrast} does not divide the batch '
                    f'size {rows}; choose a divisor, or global')
  if norm is not None and norm < 1:
    raise UserError(f'--config.model.bn_group_size={norm}: must be at least 1')
  if norm and norm < rows and rows % norm:
    raise UserError(f'--config.model.bn_group_size={norm}: does not divide the batch size {rows}; '
                    'choose a divisor, or None for global statistics')


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for values that no method and no data set can use."""
  for name, least in _LEAST.items():      # a method may lack some of them
    if config.get(name, least) < least:
      raise UserError(f'--config.{name}={config.get(name)}: must be at least {least}')
  if not 0 <= config.ema_decay <= 1:
    raise UserError(f'--config.ema_decay={config.ema_decay}: must be from 0 to 1')
  for name, known in _CHOICES.items():
    if config.get(name, known[0]) not in known:
      names = ', '.join(choice or "''" for choice in known)
      raise UserError(f'--config.{name}={config.get(name)}: choose one of {names}')
  _check_groups(config)
