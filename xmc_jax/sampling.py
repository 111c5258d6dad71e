"""The public Python API for images from captions: `TextToImage`, a trained generator.

  model = TextToImage.load('runs/birds')
  images = model.generate(['a small red bird', 'a gray bird on a branch'], seed=1)
  # float32 [2, h, w, 3] in [0, 1]

Neither TensorFlow nor clu is needed, and orbax only to read checkpoints.
"""
from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import ml_collections
import numpy as np
from etils import epath

from xmc_jax import config as defaults
from xmc_jax import methods
from xmc_jax.data.text import Tokenizer
from xmc_jax.methods import Method
from xmc_jax.sampler import Sampler
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Program
from xmc_jax.training.state import TrainState
from xmc_jax.types import Array, Tree, UserError
from xmc_jax.weight_files import files

if TYPE_CHECKING:      # imported late: it imports orbax
  from xmc_jax.training.checkpoint import Checkpoints


def check_seed(seed: int, name: str = 'seed') -> None:
  """UserError unless `seed`, the argument `name`, is a whole number from 0 to 2^32 - 1."""
  if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2 ** 32:
    raise UserError(f'{name}={seed}: must be a whole number from 0 to 2^32 - 1')


def caption_noise(captions: Sequence[str], features: int, seed: int,
                  truncation: float | None = None) -> np.ndarray:
  """Standard normal noise, float32 [n, features], that belongs to the captions themselves.

  A row depends on the seed, the words of its caption and its copy, that is how often the caption
  stands before it in the list; so an image can be drawn again without those beside it.

  With `truncation`, values beyond +-truncation are resampled. A low threshold gives better and less
  diverse images (Brock et al. 2018, arXiv 1809.11096). UserError unless it is above 0, or for
  a seed that is not from 0 to 2^32 - 1.
  """
  if truncation is not None and not truncation > 0:
    raise UserError(f'--truncation={truncation}: must be above 0; 0.5 is strong, 2 is weak')
  check_seed(seed)
  copies: collections.Counter[str] = collections.Counter()
  numbers = np.empty((len(captions), 3), np.uint32)
  for row, caption in zip(numbers, captions):
    words = ' '.join(caption.split())
    digest = hashlib.sha256(words.encode('utf-8', 'surrogatepass')).digest()
    row[:] = *np.frombuffer(digest[:8], '<u4'), copies[words]
    copies[words] += 1

  def draw(numbers):
    key = functools.reduce(jax.random.fold_in, numbers, jax.random.key(seed))
    return (jax.random.normal(key, (features,)) if truncation is None else
            jax.random.truncated_normal(key, -truncation, truncation, (features,)))
  return np.asarray(jax.vmap(draw)(numbers))


def _listed(captions: str | Iterable[str]) -> list[str]:
  """A string is one caption, not one of each letter."""
  return [captions] if isinstance(captions, str) else list(captions)


def read_config(checkpoints: Checkpoints, step: int | None = None) -> ml_collections.ConfigDict:
  """The config of a run; keys that are newer than the run have their default values."""
  return methods.complete(checkpoints.meta(step)['config'], checkpoints.directory)


def with_matcher(config: ml_collections.ConfigDict, path: str | os.PathLike[str]
                 ) -> ml_collections.ConfigDict:
  """A copy of `config` with the matching network of a file; UserError if its method has none."""
  if 'matcher' not in config.model:
    raise UserError(f'--matcher={path}: the method {config.method} does not choose with a matching '
                    'network; leave it out')
  config = config.copy_and_resolve_references()
  config.model.matcher = str(pathlib.Path(path).expanduser().resolve())
  return config


def _check_matcher(method: Method, path: str | os.PathLike[str]) -> None:
  """UserError unless the matching network of a file can be read, and the method chooses with it."""
  if not method.match:
    raise UserError(f'--matcher={path}: this run was trained without the contrasts of words with '
                    'which it would choose; leave it out')
  method.load_frozen(['matcher'])


def for_sampling(config: ml_collections.ConfigDict, text_encoder: str) -> ml_collections.ConfigDict:
  """A copy of `config` with a text encoder of this machine, and without the data set."""
  config = config.copy_and_resolve_references()
  config.text.encoder = text_encoder
  if 'cached' in config.text:      # the table of training captions, which no method samples with
    config.text.cached = False
  return config


def find_text_encoder(trained: str, given: str | os.PathLike[str] | None) -> str:
  """The name or folder of a run's text encoder on this machine.

  Args:
    trained: what the run's config says.
    given: a folder that replaces it; None: use `trained`. If `trained` is a path that does not
      exist here, its last part is looked for in the folders of weights.
  Raises:
    UserError: the encoder is not found.
  """
  path = pathlib.Path(trained).expanduser()
  if given is not None:
    return str(given)
  if len(path.parts) == 1 or path.is_dir():      # a bare name is resolved by the method
    return trained
  places = [folder / path.name for folder in files.folders()]
  found = next((place for place in places if place.is_dir()), None)
  if found is None:
    raise UserError(f'the text encoder {trained} of this run is not here, nor is '
                    f'{" or ".join(map(str, places))}; give its folder with --text_encoder FOLDER')
  return str(found)


_AHEAD = 32      # images that are chosen before the first of them is searched for
_GIVEN = ('text', 'clip')      # encoders of captions, of which --text_encoder gives the folder


def _check_frozen(frozen: Mapping[str, Tree], trained: Mapping[str, str], where: str) -> None:
  """UserError for frozen weights other than those of the training, which would give nonsense."""
  for name, tree in frozen.items():
    found = files.fingerprint(tree)
    if found != trained.get(name, found):
      raise UserError(
          f'the {name} encoder {where} is not the one that this run was trained with: the sha256 '
          f'of its numbers is {found} instead of {trained[name]}; '
          + ('give the folder of the right one with --text_encoder FOLDER' if name in _GIVEN else
             'install the right one'))


def _check_frozen_settings(found: Mapping[str, Any], trained: Mapping[str, Any], where: str
                           ) -> None:
  """UserError for other settings of frozen networks than those of the training."""
  # As JSON, like those of the training, which are of older runs not known.
  now, then = defaults.flat(json.loads(json.dumps(found))), defaults.flat(trained)
  for key in sorted(now.keys() & then.keys()):
    if now[key] != then[key]:
      raise UserError(
          f'the encoder {where} is not as it was when this run was trained: {key} is {now[key]} '
          f'instead of {then[key]}; repair its config.json, or give the folder of the right one '
          'with --text_encoder FOLDER')


@dataclasses.dataclass(frozen=True)
class TextToImage:
  """A trained generator with everything it needs to turn captions into images.

  Create it with `load`; the other methods then need no files but checkpoints and, to choose among
  images, the frozen networks of the discriminator.

  Attributes:
    config: the config of the run; `config.model.size` is the side of the images in pixels.
    step: of the checkpoint.
    weights: 'averaged' (the moving average) or 'live'.
    tokenizer: of the captions.
    z_features: size of the noise vector.
    mesh: the devices.
    forward: (tree, inputs) -> images [b, h, w, 3] in [0, 1], for use inside a jitted function.
      It is the same function for every checkpoint of the run.
    tree: the first argument of `forward`: all weights, on the devices.
    method: what the run was trained with.
  """
  config: ml_collections.ConfigDict
  step: int
  weights: str
  tokenizer: Tokenizer
  z_features: int
  mesh: jax.sharding.Mesh
  forward: Callable[[Tree, Mapping[str, Array]], Array]
  tree: Tree
  method: Method
  _folder: epath.Path | None
  _program: Program
  _sampler: Sampler

  @classmethod
  def load(cls, workdir: str | os.PathLike[str], *, step: int | None = None, live: bool = False,
           text_encoder: str | os.PathLike[str] | None = None,
           data: str | os.PathLike[str] | None = None,
           matcher: str | os.PathLike[str] | None = None) -> TextToImage:
    """Loads the generator of a run.

    Args:
      workdir: folder of the run.
      step: the checkpoint; None: the newest.
      live: use the live weights instead of their moving average.
      text_encoder: folder of the text encoder, if it is not where the run's config says; a
        checkpoint does not contain it.
      data: folder of the prepared data, if it is not where the run's config says.
      matcher: weights of a matching network, with which `best_of` chooses better; of a method that
        has `config.model.matcher`.
    Raises:
      UserError: the run has no such checkpoint, or a damaged one, or trained an encoder instead of
        a generator; or the text encoder is missing or is not the one used in training.
    """
    from xmc_jax.training.checkpoint import Checkpoints
    folder = epath.Path(workdir).expanduser() / 'checkpoints'
    with Checkpoints(folder, every=None) as checkpoints:
      meta = checkpoints.meta(step)
    if 'g' not in meta['config']['optim']:
      raise UserError(f'--workdir={workdir}: this run draws no images, because it trained an '
                      'encoder; give a run of a generator')
    config = methods.complete(meta['config'], folder)
    if matcher:
      config = with_matcher(config, matcher)
    local = for_sampling(config, find_text_encoder(config.text.encoder, text_encoder))
    if data:
      local.data.options.folder = str(data)
    method, mesh = methods.build(local), make_mesh()
    program = methods.program(method, config, mesh)
    if matcher:
      _check_matcher(method, matcher)
    frozen = method.load_frozen(method.sample_needs)
    _check_frozen(frozen, meta.get('frozen', {}), local.text.encoder)
    _check_frozen_settings(method.frozen_settings, meta.get('frozen_settings', {}),
                           local.text.encoder)
    tokenizer = (Tokenizer.parse(meta['tokenizer'], config.text.length, str(folder))
                 if 'tokenizer' in meta else       # older checkpoints do not have it
                 method.tokenizer())
    return cls.of_training(config, method, program, tokenizer, program.put_frozen(frozen),
                           folder).at(step, live=live)

  @classmethod
  def of_training(cls, config: ml_collections.ConfigDict, method: Method, program: Program,
                  tokenizer: Tokenizer, frozen: Tree, checkpoints: epath.Path | None,
                  known: Tree | None = None) -> TextToImage:
    """The generator of a program, without weights; `at`, `of_state` and `of_weights` add them.

    known: what `method.known_captions` gives; by default it is asked for it.
    """
    sample = method.sample
    assert sample, 'a method that trains a generator draws with it'

    if method.known_captions:
      known = known or method.known_captions(tokenizer, frozen['text'])
      known = known | {'least': np.float32(config.model.nearest)}
      frozen = frozen | {'known_captions': program.put_frozen(known)}

    def forward(tree, inputs):
      return sample(tree['params'], tree['stats'], tree['frozen'], inputs, inputs['z'])
    return cls(config, -1, '', tokenizer, method.z_features, program.mesh, forward,
               {'frozen': frozen}, method, checkpoints, program, Sampler(method, program.mesh))

  def at(self, step: int | None = None, *, live: bool = False) -> TextToImage:
    """The same model with the weights of another checkpoint; arguments and errors as of `load`."""
    from xmc_jax.training.checkpoint import Checkpoints
    assert self._folder, 'this model has no checkpoints'
    with Checkpoints(self._folder, every=None) as checkpoints:
      step = checkpoints.latest() if step is None else step
      g = checkpoints.restore_sampler(self._spec('g'), step, live=live)
    # Its discriminator, if it has one, is of its own step.
    others = {key: x for key, x in self.tree.items() if key != 'd'}
    return dataclasses.replace(self, tree=others).of_weights(
        step, 'live' if live else 'averaged', g)

  def _spec(self, network: str) -> dict[str, Tree]:
    spec = self._program.state_spec.networks[network]
    return {'params': spec.params, 'stats': spec.stats}

  def with_discriminator(self, flags: str = '--best_of') -> TextToImage:
    """The same model with what chooses the best of several images, as `flags` need it.

    UserError if its method does not say how well an image shows its caption, or the model folder
    was written without its discriminator.
    """
    if 'd' in self.tree:
      return self
    method = self.method
    if not method.match or not self._folder:
      why = (f'the method {self.config.method} does not say which image shows its caption best'
             if not method.match else 'this model was exported without its discriminator')
      raise UserError(f'{flags}: {why}; leave it out')
    from xmc_jax.training.checkpoint import Checkpoints
    frozen = method.load_frozen(method.match_needs)
    with Checkpoints(self._folder, every=None) as checkpoints:
      _check_frozen(frozen, checkpoints.meta(self.step).get('frozen', {}), 'that is installed')
      d = checkpoints.restore_sampler(self._spec('d'), self.step, network='d')
    return self.of_networks(d, self._program.put_frozen(frozen))

  def of_networks(self, d: Tree, frozen: Tree) -> TextToImage:
    """The same model with a discriminator and the frozen networks that `Method.match` uses."""
    return dataclasses.replace(self, tree=self.tree | {
        'd': d, 'frozen': self.tree['frozen'] | frozen})

  def of_state(self, step: int, state: TrainState) -> TextToImage:
    """The same model with the averaged weights of a state in training."""
    return self.of_weights(step, 'averaged', {'params': state.ema['g'],
                                              'stats': state.networks['g'].stats})

  def of_weights(self, step: int, weights: str, g: Tree) -> TextToImage:
    """The same model with other weights {'params': ..., 'stats': ...}, on the devices."""
    return dataclasses.replace(self, step=step, weights=weights, tree=self.tree | g)

  def fingerprint(self) -> str | None:
    """The sha256 of the generator's weights; None with several processes, which may share them."""
    if jax.process_count() > 1:
      return None
    return files.fingerprint(jax.device_get({k: self.tree[k] for k in ('params', 'stats')}))

  def inputs(self, captions: Sequence[str], *, seed: int = 0, truncation: float | None = None,
             whole: bool = False) -> dict[str, np.ndarray]:
    """The second argument of `forward` for n captions, as numpy arrays.

    Returns:
      tokens int32 [n, t], mask bool [n, t] and z float32 [n, z_features]. Captions that are too
      long are cut, unless `whole` and a recurrent encoder reads them;
      `tokenizer.check_captions` refuses them instead.
    """
    captions = _listed(captions)
    tokens, mask = self.tokenizer.encode(captions, whole=whole)
    return {'tokens': tokens, 'mask': mask,
            'z': caption_noise(captions, self.z_features, seed, truncation)}

  def with_nearest(self, least: float) -> TextToImage:
    """The same model with another `model.nearest`; 0: every caption is drawn as it is.

    UserError unless it is from 0 to 1 and the model has the captions of its training.
    """
    if not 0 <= least <= 1:
      raise UserError(f'--nearest={least:g}: must be from 0 to 1, a cosine')
    frozen = self.tree['frozen']
    if 'known_captions' not in frozen:
      raise UserError(f'--nearest={least:g}: this model does not have the captions of its training '
                      'and draws every caption as it is; leave it out')
    known = frozen['known_captions'] | self._program.put_frozen({'least': np.float32(least)})
    return dataclasses.replace(self, tree=self.tree | {
        'frozen': frozen | {'known_captions': known}})

  def drawn_captions(self, captions: str | Iterable[str]) -> list[str]:
    """The captions that are drawn for n others: these, or the nearest of training.

    The latter where the method replaces captions that are far from all of training, as Swift does
    with `model.nearest`; in the letters of the tokenizer, which may have no capitals.
    """
    captions = _listed(captions)
    tokens, mask = self.tokenizer.encode(captions)
    found = self._sampler.drawn_tokens(self.tree, {'tokens': tokens, 'mask': mask})
    return [caption if (old == new).all() else self.tokenizer.decode(new)
            for caption, old, new in zip(captions, tokens, found, strict=True)]

  def generate(self, captions: str | Iterable[str], *, seed: int = 0,
               truncation: float | None = None, best_of: int = 1, latent_steps: int = 0
               ) -> np.ndarray:
    """Generates one image per caption.

    The same caption and seed give the same image, whatever stands beside it in the list; rounding
    may differ between kinds of devices.

    Args:
      captions: n strings, or one. Captions that are too long are cut, unless the text encoder is
        recurrent: such an encoder reads any length. Repeat a caption in the list to get several
        images of it: their noise differs.
      seed: of the noise.
      truncation: threshold in standard deviations beyond which noise is resampled; None: no
        truncation. Lower values give better and less diverse images.
      best_of: how many images are drawn for each that is returned, which the discriminator chooses
        (as in rejection sampling, Azadi et al. 2018, arXiv 1810.06758, but without its claim to the
        distribution of the data).
      latent_steps: gradients of the discriminator's score that then move the noise of the image, so
        that it shows its caption better; 16 are many. The noise keeps its length, but may leave the
        bound of `truncation`. See `sampler.py`.
    Returns:
      float32 [n, h, w, 3], RGB in [0, 1]; h and w are `config.model.size`.
    Raises:
      UserError: an argument is out of range, an image is not finite, or as `with_discriminator`.
    """
    size = self.config.model.size
    images = list(self.stream(captions, seed=seed, truncation=truncation, best_of=best_of,
                              latent_steps=latent_steps))
    return np.stack(images) if images else np.zeros((0, size, size, 3), np.float32)

  def stream(self, captions: str | Iterable[str], *, seed: int = 0,
             truncation: float | None = None, best_of: int = 1, latent_steps: int = 0
             ) -> Iterator[np.ndarray]:
    """Yields the images of `generate` one by one, so that not all have to fit in memory."""
    if best_of < 1:
      raise UserError(f'--best_of={best_of}: must be at least 1')
    if latent_steps < 0:
      raise UserError(f'--latent_steps={latent_steps}: must not be negative')
    chooses = [flag for flag, there in (('--best_of', best_of > 1),
                                        ('--latent_steps', latent_steps)) if there]
    if chooses:
      tree = self.with_discriminator(' and '.join(chooses)).tree
    else:
      tree = {name: part for name, part in self.tree.items() if name != 'd'}
    captions = [caption for caption in _listed(captions) for _ in range(best_of)]
    inputs = self.inputs(captions, seed=seed, truncation=truncation, whole=True)
    drawn = enumerate(self._sampler(tree, captions, inputs))
    best = (max(itertools.chain([first], itertools.islice(drawn, best_of - 1)),
                key=lambda found: found[1][1]) for first in drawn)
    if not latent_steps:
      return (image for _, (image, _) in best)

    def searched():
      while rows := [row for row, _ in itertools.islice(best, _AHEAD)]:
        part = {name: values[rows] for name, values in inputs.items()}
        for image, _ in self._sampler(tree, [captions[row] for row in rows], part, latent_steps):
          yield image
    return searched()
