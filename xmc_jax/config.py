"""Every key that a config may set, with its default. A file in `configs/` starts from `base()`."""
from __future__ import annotations

import re

import ml_collections

from xmc_jax.types import UserError

LABEL_RULES = ('exact', 'overlap', 'dominant', 'jaccard', 'self')      # data/partners.py
_LEAST = {'steps': 1, 'seed': 0, 'microbatches': 1, 'keep': 1, 'grid': 1, 'model.width': 1,
          'model.z_features': 1, 'every.report': 1, 'every.save': 1, 'every.images': 1,
          'optim.g.lr': 0, 'optim.d.lr': 0, 'optim.encoder.lr': 0, 'optim.encoder.warmup': 0}
_CHOICES = {'shard': ('nothing', 'optimizer', 'parameters'),
            'model.remat': ('nothing', 'blocks'),
            'model.dtype': ('float32', 'bfloat16', 'float16'),
            'text.pool': ('masked_mean', 'released'), 'text.script': ('latin', 'any'),
            'data.loader': ('auto', 'tf_data', 'arrays'),
            'data.partners': ('', *LABEL_RULES),
            'evals.reference': ('heldout', 'train')}


def base() -> ml_collections.ConfigDict:
  """The defaults: XMC-GAN's published settings where there are any. Locked: no new keys."""
  config = ml_collections.ConfigDict()
  config.method = 'xmc_gan'        # module of xmc_jax/methods
  config.seed = 0                  # of initialisation, noise and the order of the data
  config.steps = 100_000           # training steps
  config.batch_size = 256          # rows of one round, over all devices
  config.microbatches = 1            # parts that the networks see them in; losses see all rows
  config.negatives = 'global'      # rows that contrast: all, or 'local:N', groups of N
  config.shard = 'nothing'         # of the state among devices: 'optimizer' or 'parameters' (too)
  config.ema_decay = 0.999         # of averaged weights, per step; the first steps: less

  config.model = ml_collections.ConfigDict(dict(
      size=256,                    # side of the images, px: 32, 64, 128 or 256
      width=96,                    # channels per multiple
      z_features=128,              # of the noise
      bn_group_size=ml_collections.config_dict.placeholder(int),
                                   # rows that share BatchNorm statistics; None: all
      dtype='bfloat16',            # of the networks' arithmetic; parameters are float32
      impl='auto',                # of the operations: 'auto', 'fast', 'plain' (layers/impl.py)
      remat='nothing',         # in the backward pass: 'nothing' or 'blocks'
      classes=ml_collections.config_dict.placeholder(int),
                                   # of the labels, where a term looks at amounts of them
      one_class=True,              # a label is one class, not amounts of all
      augment=(),                  # discriminator's augmentation: 'color', 'translation', 'cutout'
  ))
  config.text = ml_collections.ConfigDict(dict(
      encoder='bert-base-uncased',  # or 'all-MiniLM-L6-v2', or the folder of another BERT
      length=17,                   # word pieces of a caption, CLS and SEP included
      pool='masked_mean',          # sentence vector: 'masked_mean' or 'released'
      script='latin',              # letters a sampled caption may have: 'latin' or 'any'
  ))
  config.image = ml_collections.ConfigDict(dict(   # frozen network of terms.image_frozen
      encoder='vgg16-backbone',       # or 'vgg19', 'resnet50' (encoders/image_embedding.py)
  ))
  config.terms = ml_collections.ConfigDict(dict(   # weights of the losses; one of weight 0 is not computed
      hinge=1.0,
      sentence=1.0,
      word=1.0,
      image=1.0,                   # fake against real, by the discriminator's features
      image_frozen=0.0,            # fake against real, by image.encoder
  ))
  config.optim = ml_collections.ConfigDict(dict(
      g=dict(lr=1e-4, b1=0.5, b2=0.999),
      d=dict(lr=4e-4, b1=0.5, b2=0.999),
  ))
  config.data = ml_collections.ConfigDict(dict(
      name='emoji',                # module of xmc_jax/data
      loader='auto',               # 'tf_data'; 'arrays', numpy and one thread; or 'auto': tf_data
                                   # where TensorFlow is installed, arrays elsewhere
      options=ml_collections.ConfigDict(),   # arguments of the data set's load()
      partners='',                 # rule of the second view's labels (data/partners.py); '': none
  ))
  config.evals = ml_collections.ConfigDict(dict(
      protocol='tf2015',           # the protocol (evals/protocols.py); 'offline' needs no download
      reference='heldout',         # split whose images are compared with: 'heldout' or 'train'
      fakes=ml_collections.config_dict.placeholder(int),
                                   # images drawn; None: as many as the protocol says
  ))
  config.every = ml_collections.ConfigDict(dict(   # steps between
      report=50, save=1000, images=1000))
  config.keep = 3                  # newest checkpoints that stay
  config.grid = 32                 # held-out captions of the sample grid
  return config.lock()


# Sets of the papers: examples to train on, classes, and whether a label is one of them. Examples of
# Localized Narratives are narratives, of which an image may have several.
_SETS = {'coco2014': (82_783, 80, False), 'ln_coco': (134_272, 80, False),
         'ln_openimages': (507_444, None, False), 'cub': (8_855, 200, True)}
_PIECES = {'coco2014': 17, 'ln_coco': 64, 'ln_openimages': 64}      # of a caption, XMC-GAN's


def train_on(config: ml_collections.ConfigDict, data: str) -> int:
  """Sets `config` to the set `data` of the papers and its labels; returns its examples."""
  config.data.name = data
  examples, config.model.classes, config.model.one_class = _SETS[data]
  return examples


def published(data: str, *, size: int = 256, rows: int = 256,
              epochs: int = 500) -> ml_collections.ConfigDict:
  """XMC-GAN's published setting on the prepared set `data`, at `size` px with `rows` a round.

  The length is `epochs` over the examples of the set, where the rows of both rounds count.
  """
  config = base()
  examples, config.text.length = train_on(config, data), _PIECES[data]
  config.model.size, config.batch_size = size, rows
  config.steps = epochs * examples // (2 * rows)
  config.terms.image_frozen, config.image.encoder = 1.0, 'vgg19'
  config.every.save = config.every.images = 2000
  return config


# Embedded sets: classes, whether a label is one of them, words of a caption, images to be scored.
_EMBEDDED = {'emoji': (99, True, 16, 990), 'emoji_scenes': (114, False, 24, 1000)}


def embedded(config: ml_collections.ConfigDict, data: str) -> None:
  """Sets `config` to the embedded set `data`, 'emoji' or 'emoji_scenes', in a CPU's sitting.

  64 px, float32, an average over some 500 steps, scores that need no download, and a checkpoint and
  images every 250 steps. Steps, rows and widths are left to the config.
  """
  m = config.model
  m.classes, m.one_class, config.text.length, config.evals.fakes = _EMBEDDED[data]
  config.data.name, m.size, m.dtype = data, 64, 'float32'
  config.ema_decay = 0.998
  config.evals.protocol = 'offline'
  config.every.save = config.every.images = 250


def negatives_group(negatives: str) -> int | None:
  """Rows that contrast with one another: None (all) for 'global', N for 'local:N'.

  'local:8' is XMC-GAN's released code: the 8 rows of a device contrast, losses are averaged.
  """
  found = re.fullmatch(r'global|local:(\d+)', negatives)
  rows = int(found[1]) if found and found[1] else None
  if not found or rows is not None and rows < 2:
    raise UserError(f"--config.negatives={negatives}: it must be 'global', or 'local:N' for groups "
                    'of N rows, at least 2, for instance local:8')
  return rows


def _check_groups(config: ml_collections.ConfigDict) -> None:
  """Raises UserError unless whole groups of rows make the batch."""
  rows, contrast = config.batch_size, negatives_group(config.negatives)
  norm = config.model.get('bn_group_size')
  if contrast and rows % contrast:
    raise UserError(f'--config.negatives={config.negatives}: {contrast} does not divide the batch '
                    f'of {rows} rows; choose a divisor, or global')
  if norm is not None and norm < 1:
    raise UserError(f'--config.model.bn_group_size={norm}: it must be at least 1')
  if norm and norm < rows and rows % norm:
    raise UserError(f'model.bn_group_size = {norm} does not divide the batch of {rows} rows; '
                    'choose a divisor, or None for global statistics')


def check(config: ml_collections.ConfigDict) -> None:
  """Raises UserError for values that no method and no data set can make sense of."""
  for name, least in _LEAST.items():      # a family may be without some of them
    if config.get(name, least) < least:
      raise UserError(f'--config.{name}={config.get(name)}: it must be at least {least}')
  if not 0 <= config.ema_decay <= 1:
    raise UserError(f'--config.ema_decay={config.ema_decay}: it must be from 0 to 1')
  for name, known in _CHOICES.items():
    if config.get(name, known[0]) not in known:
      names = ', '.join(choice or "''" for choice in known)
      raise UserError(f'--config.{name}={config.get(name)}: choose one of {names}')
  _check_groups(config)
