"""`xmc import`: published PyTorch checkpoints become runs and encoders of this package.

docs/importing.md says which files there are. What their tensors are called, and where they go, is
in the tables of `weight_files/published`.
"""
from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from types import ModuleType

import jax
import ml_collections
import numpy as np
from etils import epath

from xmc_jax import __version__, methods
from xmc_jax.data import vocabulary
from xmc_jax.encoders import clip, damsm, inception, inception_layers
from xmc_jax.networks.galip import SIZES, sides
from xmc_jax.prepare import metadata
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.state import TrainState
from xmc_jax.types import Tree, UserError
from xmc_jax.utils import atomic
from xmc_jax.utils.lock import locked
from xmc_jax.weight_files import files, torch_files
from xmc_jax.weight_files.published import attngan, df_gan, dm_gan, galip, rules, ssa_gan
from xmc_jax.weight_files.published import clip as published_clip
from xmc_jax.weight_files.published import damsm as published_damsm
from xmc_jax.weight_files.published.rules import Arrays, Rule

FAMILIES: dict[str, ModuleType] = {
  'attngan': attngan, 'dm_gan': dm_gan, 'df_gan': df_gan, 'ssa_gan': ssa_gan, 'galip': galip}
_NOT_READ = 'the first DF-GAN, of 2020'
# The files that there are: {(family, part): rules of its modules}.
_KINDS: dict[tuple[str, str], Sequence[Rule]] = {
  **{(name, 'generator'): family.GENERATOR for name, family in FAMILIES.items()},
  **{(name, 'discriminator'): family.DISCRIMINATOR for name, family in FAMILIES.items()},
  ('damsm', 'text encoder'): published_damsm.TEXT,
  ('damsm', 'image encoder'): published_damsm.IMAGE,
  (_NOT_READ, 'generator'): df_gan.GENERATOR_OF_2020}


@dataclasses.dataclass(frozen=True)
class Published:
  """The arrays of published files, by the names in them.

  family: one of `FAMILIES`. path: of the generator's file. generator: without a CLIP inside it.
  clip: of the image transformer inside it; {} if there is none. discriminators: (path, arrays) of
  every scale; () if no file has any.
  """
  family: str
  path: pathlib.Path
  generator: Arrays
  clip: Arrays
  discriminators: tuple[tuple[pathlib.Path, Arrays], ...]

  @property
  def table(self) -> ModuleType:
    return FAMILIES[self.family]

  def sizes(self, config: ml_collections.ConfigDict) -> dict[str, int]:
    """The keys of `config.model` that follow from the shapes, some of them from the encoder too."""
    with _of(self.path):
      found = self.table.sizes(self.generator)
      if self.family == 'galip':
        grid = clip.ClipConfig.read(clip.find(config.text.encoder)).grid
        found['size'] = next((size for size in (config.model.size, *SIZES) if size > grid and
                              len(sides(grid, size)) == galip.blocks(self.generator)), 0)
    for path, arrays in self.discriminators[-1:]:
      with _of(path):
        for name, size in self.table.d_sizes(arrays).items():
          if found.setdefault(name, size) != size:
            raise UserError(f'it has model.{name}={size}, but the generator has {found[name]}')
    return found


def read(family: str, weights: str | os.PathLike[str],
         discriminators: Sequence[str | os.PathLike[str]] = ()) -> Published:
  """Reads the files of a family.

  Args:
    family: one of `FAMILIES`.
    weights: the generator's file, which may hold the discriminator too.
    discriminators: their files, the smallest scale first.
  Raises:
    UserError: a file is missing or damaged, or holds another network; or their number is wrong.
  """
  path, scales = pathlib.Path(weights), FAMILIES[family].SCALES
  tensors = torch_files.read(path)
  generator = rules.network(tensors, 'netG')
  inner = {name.removeprefix(galip.CLIP): array for name, array in generator.items()
           if name.startswith(galip.CLIP)}
  generator = {k: v for k, v in generator.items() if not k.startswith(galip.CLIP)}
  _check_kind(path, generator, family, 'generator')
  given = [(pathlib.Path(file), torch_files.read(file)) for file in discriminators]
  if not given and any('netD.' in name for name in tensors):
    given = [(path, tensors)]
  if given and len(given) != scales:
    raise UserError(f'--discriminators: {family} has {scales}, one file for each image size, the '
                    f'smallest first, but {len(given)} are given')
  found = []
  for path_d, arrays in given:
    arrays = {**rules.network(arrays, 'netD'), **rules.network(arrays, 'netC')}
    _check_kind(path_d, arrays, family, 'discriminator')
    found.append((path_d, arrays))
  return Published(family, path, generator, inner, tuple(found))


def _check_kind(path: pathlib.Path, arrays: Arrays, family: str, part: str) -> None:
  """UserError for the file of another network."""
  shares = {kind: rules.share(arrays, table) for kind, table in _KINDS.items()}
  likely = max(shares, key=shares.__getitem__)
  if likely[0] == _NOT_READ:
    raise UserError(f'{path} holds the {likely[1]} of {_NOT_READ}, which cannot be imported; give '
                    'state_epoch_N.pth of the version of CVPR 2022 to `xmc import df_gan`')
  if shares[likely] > shares[family, part]:
    raise UserError(f'{path} holds the {likely[1]} of {likely[0]}, not the {part} of {family}; '
                    f'give it to `xmc import {likely[0]}`, or choose another file')
  if not shares[family, part]:
    raise UserError(f'{path} is not the {part} of {family}: its tensors are named like '
                    f'{min(arrays, default="nothing")}; choose another file')


def default_config(published: Published, encoder: str | None) -> ml_collections.ConfigDict:
  """The released settings of the family, with the sizes of the files; locked."""
  config = importlib.import_module(f'xmc_jax.methods.{published.family}').config()
  if encoder is not None:
    config.text.encoder = encoder
  config.model.update(published.sizes(config))
  return config


def import_run(published: Published, config: ml_collections.ConfigDict,
               workdir: str | os.PathLike[str], *, step: int = 0) -> None:
  """Writes a run folder with one checkpoint, for sampling, evaluation and further training.

  Averaged and live weights of the generator are the same: a file holds one of them. Discriminators
  without a file, and all optimizers, start as in a new run.

  Args:
    published: result of `read`.
    config: of the run.
    workdir: a new folder.
    step: number of the training step that the checkpoint gets.
  Raises:
    UserError: the files do not fit the config or the encoder; the encoder is missing; or there is a
      run in the folder.
  """
  if not 0 <= step < 2**31:
    raise UserError(f'--step={step}: must be from 0 to {2**31 - 1}')
  _check_config(published, config)
  config = methods.with_absolute_paths(config)
  workdir, method = epath.Path(workdir).expanduser(), methods.build(config)
  program = methods.program(method, config, make_mesh())
  spec = program.state_spec.networks
  variables = {'g': _generator(published, {'params': spec['g'].params, **spec['g'].stats}, config)}
  if published.discriminators:
    variables['d'] = _discriminators(published, {'params': spec['d'].params, **spec['d'].stats})
  frozen = method.load_frozen()
  if published.clip:
    _check_clip(published, frozen['clip'], config.text.encoder)
  meta = {'config': json.loads(config.to_json_best_effort()), 'version': __version__,
          'tokenizer': method.tokenizer().text(), 'frozen_settings': method.frozen_settings,
          'frozen': {name: files.fingerprint(tree) for name, tree in frozen.items()}}
  with locked(workdir), Checkpoints(workdir / 'checkpoints', every=1) as checkpoints:
    if checkpoints.latest() is not None:
      raise UserError(f'--workdir={workdir}: there is a run in it already; give a new folder')
    state = _with(program.init(config.seed), program.state_spec, variables, step)
    checkpoints.save(step, state, meta, force=True)
    atomic.save(workdir / 'config.json', config.to_json_best_effort(indent=2) + '\n')


def _check_config(published: Published, config: ml_collections.ConfigDict) -> None:
  """UserError unless the config has the sizes of the files and the features of the encoder."""
  for name, size in published.sizes(config).items():
    if config.model[name] != size:
      raise UserError(f'--config.model.{name}={config.model[name]}: {published.path} is a network '
                      f'of {name} {size}; leave the key out, or give another file')
  with _of(published.path):
    wanted = published.table.text_features(published.generator)
  encoder = config.text.encoder
  has = (clip.ClipConfig.read(clip.find(encoder)).size if published.family == 'galip' else
         damsm.sizes(damsm.find(encoder)).width)
  if has != wanted:
    raise UserError(f'--encoder={encoder}: it gives sentences of {has} features, but '
                    f'{published.path} reads {wanted}; give the encoder that it was trained with')


def _generator(published: Published, wanted: Tree, config: ml_collections.ConfigDict) -> Tree:
  side = (clip.ClipConfig.read(clip.find(config.text.encoder)).grid
          if published.family == 'galip' else 4)
  with _of(published.path):
    return rules.fill(wanted, published.generator, published.table.GENERATOR, side)


def _discriminators(published: Published, wanted: Tree) -> Tree:
  table = published.table
  if table.SCALES == 1:
    (path, arrays), = published.discriminators
    with _of(path):
      return rules.fill(wanted, arrays, table.DISCRIMINATOR)
  filled: dict[str, Tree] = {}
  for i, (path, arrays) in enumerate(published.discriminators):
    scale = f'scale_{i}'
    with _of(path):
      found = rules.fill({collection: tree[scale] for collection, tree in wanted.items()}, arrays,
                         table.DISCRIMINATOR)
    for collection, tree in found.items():
      filled.setdefault(collection, {})[scale] = tree
  return filled


def _check_clip(published: Published, variables: Tree, encoder: str) -> None:
  """UserError if the image transformer in the generator's file is not that of the CLIP."""
  ours = {name: tree for name, tree in variables['params']['image_transformer'].items()
          if name not in ('norm_after', 'project')}      # the generator does without them
  wanted = jax.eval_shape(lambda: {'params': ours})
  with _of(published.path, 'its CLIP: '):
    theirs = rules.fill(wanted, published_clip.separate(published.clip), published_clip.IMAGE)
  far = lambda a, b: float(np.abs(a - b).max()) > 1e-3 * float(np.abs(b).max())
  if any(jax.tree.leaves(jax.tree.map(far, theirs['params'], ours))):
    raise UserError(f'--encoder={encoder}: this CLIP has other weights than the one inside '
                    f'{published.path}; give the one that GALIP was trained with, '
                    f'`xmc weights get {clip.BASE}` for the published files')


def _with(state: TrainState, spec: TrainState, variables: dict[str, Tree],
          step: int) -> TrainState:
  """The state with the variables of some networks and another step, on the devices of `spec`."""
  put = lambda tree, like: jax.device_put(tree, jax.tree.map(lambda x: x.sharding, like))
  networks, ema = dict(state.networks), dict(state.ema)
  for name, tree in variables.items():
    like = spec.networks[name]
    params = put(tree['params'], like.params)
    stats = put({k: v for k, v in tree.items() if k != 'params'}, like.stats)
    networks[name] = networks[name].replace(params=params, stats=stats)
    if name in ema:
      ema[name] = put(tree['params'], spec.ema[name])
  return state.replace(step=put(np.int32(step), spec.step), networks=networks, ema=ema)


def import_damsm(text: str | os.PathLike[str], image: str | os.PathLike[str],
                 words: str | os.PathLike[str], out: str | os.PathLike[str]) -> damsm.Damsm:
  """Writes the folder of a published DAMSM, with its own Inception; returns its network.

  Args:
    text, image: files of both encoders.
    words: `captions.pickle` of the same download, whose vocabulary the text encoder was trained on.
    out: the folder.
  Raises:
    UserError: a file is missing or damaged, holds another network, or does not fit the others; or
      `out` holds something else.
  """
  text, image, out = pathlib.Path(text), pathlib.Path(image), pathlib.Path(out)
  if out.is_dir() and any(out.iterdir()):
    try:
      damsm.sizes(out)
    except UserError as error:
      raise UserError(f'--out={out}: holds something else than a DAMSM; give a new '
                      'folder') from error
  reader, viewer = (rules.network(torch_files.read(path)) for path in (text, image))
  _check_kind(text, reader, 'damsm', 'text encoder')
  _check_kind(image, viewer, 'damsm', 'image encoder')
  with _of(text):
    size = rules.length(reader, 'encoder.weight', 0)
    module = damsm.Damsm(size, 'inception-torchvision', rules.length(reader, 'encoder.weight', 1),
                         2 * rules.length(reader, 'rnn.weight_hh_l0', 1))
  known = metadata.vocabulary(pathlib.Path(words))
  if len(known) + 1 != size:
    raise UserError(f'--vocabulary={words}: it has {len(known) + 1:,} words, "<end>" included, but '
                    f'{text} has {size:,}; give the captions.pickle of the same data set')
  wanted = damsm.spec(module)
  with _of(text):
    part = {'params': {'captions': wanted['params']['captions']}}
    captions = rules.fill(part, published_damsm.stacked_directions(reader), published_damsm.TEXT)
  with _of(image):
    part = {'params': {'images': wanted['params']['images']}}
    own = {k: v for k, v in viewer.items() if k.startswith(('emb_cnn_code.', 'emb_features.'))}
    images = rules.fill(part, own, published_damsm.IMAGE)
    backbone = _backbone({k: v for k, v in viewer.items() if k not in own})
  damsm.save(out, module, {**captions['params'], **images['params']},
             vocabulary.word_level(known).to_str(), backbone)
  return module


def _backbone(arrays: Arrays) -> Tree:
  """The Inception of an image encoder, BatchNorm folded; it has no classifier."""
  layers = {'.'.join(path) for path, _ in inception_layers.layers()}
  unknown = sorted(name for name in arrays if name.rsplit('.', 2)[0] not in layers)
  if unknown:
    raise UserError(f'it has the tensor {unknown[0]}, which this network has no place for '
                    f'({len(unknown)} such tensors)')
  classifier = {'fc.weight': np.zeros((1000, 2048), np.float32),
                'fc.bias': np.zeros(1000, np.float32)}
  params = inception.from_torch({**arrays, **classifier}, 'torchvision')['params']
  return {'params': {name: tree for name, tree in params.items() if name != 'fc'}}


@contextlib.contextmanager
def _of(path: pathlib.Path, what: str = '') -> Iterator[None]:
  """Names the file in the errors of the block; a tensor of a wrong shape may cause any."""
  try:
    yield
  except Exception as error:
    why = error if isinstance(error, UserError) else (
        f'a tensor does not have the shape that it should ({type(error).__name__}: {error})')
    raise UserError(f'{path} cannot be imported: {what}{why}') from error
