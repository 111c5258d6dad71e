"""The config keys that all methods share, and helpers for configs of known data sets.

A method's `config()` in `methods/*.py` adds its own keys; a file in `configs/` starts from that.
"""
from __future__ import annotations

import fnmatch
import math
import os
import pathlib
import re
import runpy
from collections.abc import Mapping
from typing import Any

import ml_collections

from xmc_jax.types import LABEL_RULES, UserError

# What numbers may be, by the pattern of their keys: the first that matches counts, a plain number
# is the least. All have to be finite. Options of a data set are its own business.
_ANY = ('finite', lambda x: True)
_RATE = ('at least 0 and below 1', lambda x: 0 <= x < 1)
_ABOVE = ('above 0', lambda x: x > 0)
_NUMBERS = {
    'data.options.*': _ANY,
    # JAX takes 32 bits of a seed: 2**32 would be 0 again.
    'seed': (f'at least 0 and at most {2**32 - 1}', lambda x: 0 <= x < 2**32),
    'ema_decay': ('from 0 to 1', lambda x: 0 <= x <= 1),
    'text.length': 3, 'evals.fakes': 2, 'model.size': 8, 'model.residuals': 0,
    'model.refine': 0, 'model.attention': 0, 'model.fine': 0, 'model.objects': 0,
    'optim.*.b[12]': _RATE, 'optim.*.muon': _RATE, 'model.dropout': _RATE,
    'optim.*.decay.rate': ('above 0 and below 1', lambda x: 0 < x < 1),
    'model.known': ('above 0 and at most 1', lambda x: 0 < x <= 1),
    'optim.*.decay.least': _ABOVE, 'optim.*.clip.norm': _ABOVE, '*temperature': _ABOVE,
    'model.noise_std': _ABOVE, 'model.nearest': ('from 0 to 1', lambda x: 0 <= x <= 1),
    'terms.gamma*': _ABOVE, 'terms.*': 0, 'scl.*': 0, 'optim.*.lr': 0, 'optim.*.warmup': 0,
    'keep_every': 0, 'evals.every': 0}
_WHOLE = ('at least 1 and below 2147483648', lambda x: 1 <= x < 2**31)    # all other whole numbers
_CHOICES = {'shard': ('nothing', 'optimizer', 'parameters'),
            'model.remat': ('nothing', 'blocks'),
            'model.dtype': ('float32', 'bfloat16', 'float16'),
            'text.pool': ('masked_mean', 'released'), 'text.script': ('latin', 'any'),
            'data.loader': ('auto', 'tf_data', 'arrays'),
            'data.partners': ('', *LABEL_RULES),
            'evals.reference': ('heldout', 'train')}


class _Data(ml_collections.ConfigDict):
  """`config.data`: which options there are only the data set knows, so they are never locked."""

  def lock(self) -> _Data:
    super().lock()
    if 'options' in self:
      self.options.unlock()
    return self


def base() -> ml_collections.ConfigDict:
  """The keys that every method has, with their defaults. Locked: no new keys.

  `model`, `text`, `terms` and `optim` are the method's own: see `config()` of `methods/*.py`.
  """
  config = ml_collections.ConfigDict()
  config.method = ''               # module of xmc_jax/methods, or the import path of another
  config.init = ''                 # trained model whose weights a new run begins with
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
      corners=True,                # of a DAMSM: images are resized with aligned corners
  ))
  config.terms = ml_collections.ConfigDict()      # weights of the losses, by name, and options
  config.optim = ml_collections.ConfigDict()      # by network (training/optim.py)
  config.data = _Data(dict(
      name='emoji',                # one of xmc_jax.data.source, or an import path
      loader='auto',               # 'tf_data'; 'arrays', numpy and one thread; or 'auto': tf_data
                                   # where TensorFlow is installed, arrays elsewhere
      options=ml_collections.ConfigDict(),   # arguments of the data set's load(); never locked
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
  config.keep_every = 0            # checkpoints of its multiples stay too; 0: none
  config.grid = 32                 # captions of each sample grid, training and held-out
  return config.lock()


def beside(file: str, name: str, to: str) -> ml_collections.ConfigDict:
  """What another config file of the same folder gives, for a config that is made of others.

  Args:
    file: `__file__` of the config that asks.
    name: of the other without its ending; what follows a colon is the argument of its get_config.
    to: what is done with it, for the message: 'extend'.
  Raises:
    ValueError: there is no such file, or it is the one that asks.
  """
  base, _, row = name.partition(':')
  path, own = pathlib.Path(file).with_name(f'{base or "-"}.py'), pathlib.Path(file).stem
  if base == own or not path.exists():
    raise ValueError(f'configs/{own}.py:{base}: no such config to {to}; name another file in '
                     'configs/, for instance attngan_cub')
  return runpy.run_path(str(path))['get_config'](*filter(None, [row]))


def complete(saved: Mapping[str, Any], where: str | os.PathLike[str]) -> ml_collections.ConfigDict:
  """A saved config, with the defaults of the keys of `base` that are newer than it.

  `methods.complete` knows the keys of its method too.

  UserError, which names where it was saved, if a value is of another type than its default.
  """
  config = base()
  try:
    with config.unlocked():
      config.update(ml_collections.ConfigDict(saved))
  except (AttributeError, TypeError, ValueError) as error:
    why = ' '.join(str(error).split())
    raise UserError(f'{where} holds no config of xmc_jax ({why}); put the one back that was '
                    'written there') from error
  return config


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
  if norm and norm < rows and rows % norm:
    raise UserError(f'--config.model.bn_group_size={norm}: does not divide the batch size {rows}; '
                    'choose a divisor, or None for global statistics')


def flat(tree: Mapping[str, Any] | ml_collections.ConfigDict, prefix: str = '') -> dict[str, Any]:
  """The leaves of a config, or of nested dicts, by their keys with dots between them."""
  leaves: dict[str, Any] = {}
  for key, value in tree.items():
    nested = isinstance(value, (Mapping, ml_collections.ConfigDict))
    leaves |= flat(value, f'{prefix}{key}.') if nested else {prefix + key: value}
  return leaves


def _check_number(name: str, number: int | float) -> None:
  rule = next((rule for pattern, rule in _NUMBERS.items() if fnmatch.fnmatchcase(name, pattern)),
              _WHOLE if isinstance(number, int) else _ANY)
  words, fits = rule if isinstance(rule, tuple) else (f'at least {rule}', lambda x: x >= rule)
  if not math.isfinite(number):
    raise UserError(f'--config.{name}={number}: must be a finite number')
  if not fits(number):
    raise UserError(f'--config.{name}={number}: must be {words}')


def check_kinds(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
  """Raises UserError for a value, by its key, that is not of the type of the default value.

  A whole number may stand for any number, a list for a tuple, and anything for None.
  """
  for key, default in defaults.items():
    kind = {float: (float, int), tuple: (tuple, list)}.get(type(default), type(default))
    value = values.get(key, default)
    if default is not None and (not isinstance(value, kind) or (
        isinstance(value, bool) and not isinstance(default, bool))):
      raise UserError(f'--config.{key}={value!r:.60}: must be a {type(default).__name__} such as '
                      f'{default!r}')


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for values that no method and no data set can use."""
  for name, value in flat(config).items():
    for number in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(number, (int, float)) and not isinstance(number, bool):
        _check_number(name, number)
  for name, known in _CHOICES.items():
    if config.get(name, known[0]) not in known:
      names = ', '.join(choice or "''" for choice in known)
      raise UserError(f'--config.{name}={config.get(name)}: choose one of {names}')
  _check_groups(config)
