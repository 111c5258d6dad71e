"""Measures beside a protocol's distances: does the image show its caption, is it a copy?

The data sets that the project carries have their own judges and always get them; the others are
asked for by name.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import ml_collections
import numpy as np

from xmc_jax.data.source import Source
from xmc_jax.encoders import clip
from xmc_jax.evals import alignment, feature_cache, image_sets, objects
from xmc_jax.evals.clip_score import ClipEncoder, clip_score
from xmc_jax.evals.damsm_embeddings import DamsmCodes
from xmc_jax.evals.duplicates import near_duplicates
from xmc_jax.evals.extract import Collector, Reader
from xmc_jax.evals.judges import alignment_net, detector
from xmc_jax.evals.kernels import cmmd
from xmc_jax.evals.protocols import Protocol
from xmc_jax.evals.retrieval import r_precision_folds, r_precision_hits
from xmc_jax.evals.scores import Score
from xmc_jax.types import Tree, UserError
from xmc_jax.weight_files import files

AMONG = 100  # captions of the R-precisions of CLIP and of DAMSM
# Behind the name of a figure whose judge the generator was trained to please.
IN_TRAINING = ' (in training)'
IMAGES = Reader('images', {}, lambda _, images: images)


@dataclasses.dataclass(frozen=True)
class Setting:
  """What there is to measure: image i is drawn from caption `which[i]` of held-out row `rows[i]`.

  text_encoder   where the generator's own encoder lies, or its name
  train      gives the images that the generator learned from
  reals      features of the images of reference, by the protocol's network
  """
  config: ml_collections.ConfigDict
  text_encoder: str
  heldout: Source
  train: Callable[[], image_sets.Images]
  captions: Sequence[str]
  rows: np.ndarray
  which: np.ndarray
  seed: int
  mesh: jax.sharding.Mesh
  protocol: Protocol
  reader: Reader
  reals: Tree


@dataclasses.dataclass(frozen=True)
class Measure:
  """`score` makes numbers of what the protocol's reader and these `readers` say of all images.

  facts      of another network than the protocol's, for the manifests of these numbers
  """
  readers: tuple[Reader, ...]
  score: Callable[[dict[str, Any]], list[Score]]
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def choose(extra: Sequence[str], setting: Setting) -> list[Measure]:
  """The measures of the data set, then those asked for; UserError for an unknown name."""
  for name in extra:
    if name not in MEASURES:
      raise UserError(f'--also={name}: there is no such measure; choose of {", ".join(MEASURES)}')
  own = [make for names, make in OF_THE_SET if setting.config.data.name in names]
  return [make(setting) for make in (*own, *(MEASURES[name] for name in extra))]


def _alignment(setting: Setting) -> Measure:
  """R-precision by the set's judge, of generated and of the real images."""
  measure = functools.partial(alignment.alignment, captions=setting.captions,
                              which=setting.config.data.name, group=alignment.AMONG,
                              seed=setting.seed)
  real = measure(_real(setting))

  def score(answers):
    name = f'alignment-{alignment.AMONG}'
    return [Score(name, measure(_float(answers['images']))), Score(f'{name} of real', real)]
  return Measure((IMAGES,), score, _network(alignment_net, setting))


def _objects(setting: Setting) -> Measure:
  """Shares of what captions say that a detector finds, see `objects.object_accuracy`."""
  truths = [setting.heldout.truth(int(i), int(k)) for i, k in zip(setting.rows, setting.which)]
  real = _real(setting)

  def score(answers):
    found = objects.object_accuracy(_float(answers['images']), truths, real, seed=setting.seed)
    words = {'_real': ' of real', '_chance': ' by chance'}
    return [Score('objects: ' + functools.reduce(lambda k, w: k.replace(*w), words.items(), key),
                  value) for key, value in found.items() if value is not None]
  return Measure((IMAGES,), score, _network(detector, setting))


def _clip(setting: Setting) -> Measure:
  """The mean cosine of image and caption by CLIP ViT-B/32, times 100; and R-precision by it."""
  encoder = ClipEncoder(clip.BASE)
  reader, texts = encoder.reader(), encoder.captions(setting.captions)
  judged = IN_TRAINING if _trained_by(setting, encoder.sha256) else ''

  def score(answers):
    embeddings = answers[reader.name]
    mean, error = clip_score(embeddings, texts)
    return [Score(f'CLIP score{judged}', mean, error),
            Score(f'CLIP R-precision-{AMONG}{judged}', *_r_precision(setting, embeddings, texts))]
  return Measure((reader,), score, _facts(reader))


def _trained_by(setting: Setting, sha256: str) -> bool:
  """Whether a CLIP of these weights is the generator's own encoder, and so was in its losses."""
  try:
    folder = clip.find(setting.text_encoder)
  except UserError:      # it is no CLIP
    return False
  return files.sha256(clip.weights_of(folder)) == sha256


def _damsm(setting: Setting) -> Measure:
  """R-precision as AttnGAN and DM-GAN have it, by the DAMSM that was in the generator's losses."""
  embeddings = DamsmCodes(setting.text_encoder)
  reader, texts = embeddings.reader(), embeddings.captions(setting.captions)
  name = f'DAMSM R-precision-{AMONG}{IN_TRAINING}'
  real = embeddings.images(image_sets.Split(setting.heldout, 'heldout').read(setting.rows))

  def score(answers):
    return [Score(name, *_r_precision(setting, answers[reader.name], texts)),
            Score(f'{name} of real', *_r_precision(setting, real, texts))]
  return Measure((reader,), score, _facts(reader))


def _r_precision(setting: Setting, embeddings: np.ndarray, texts: np.ndarray) -> tuple[float, float]:
  """Mean and spread over folds, among captions of other images."""
  return r_precision_folds(r_precision_hits(embeddings, texts, AMONG, setting.seed,
                                            captions=setting.captions, avoid=setting.rows))


def _cmmd(setting: Setting) -> Measure:
  reader = ClipEncoder(clip.LARGE).reader(crop_first=True)
  split = image_sets.Split(setting.heldout, 'heldout')
  real = Collector([reader], setting.mesh)(split)[reader.name]
  return Measure((reader,), lambda answers: [Score('CMMD', cmmd(answers[reader.name], real))],
                 _facts(reader))


def _duplicates(setting: Setting) -> Measure:
  """The share of images nearer to a training image than almost all held-out ones are."""
  train, _ = feature_cache.features(setting.train(), setting.protocol, setting.reader, setting.mesh)

  def score(answers):
    found = near_duplicates(answers[setting.protocol.name].pool, train.pool, setting.reals.pool)
    return [Score('near-duplicates of training', found.share)]
  return Measure((), score)


def _facts(reader: Reader) -> dict[str, Any]:
  """What a manifest says of a network; it resizes in a way of its own."""
  return {'network': reader.name, 'weights_sha256': reader.sha256, 'resize': None, 'side': None,
          'distance': None}


def _network(kind: ModuleType, setting: Setting) -> dict[str, Any]:
  """The same of a network that comes with the project for the data set."""
  path = kind.find(setting.config.data.name)
  return _facts(Reader(path.stem, {}, None, sha256=files.sha256(path)))


def _real(setting: Setting) -> np.ndarray:
  return _float(image_sets.Split(setting.heldout, 'heldout').read(setting.rows))


def _float(images: np.ndarray) -> np.ndarray:
  return images.astype(np.float32) / 255


OF_THE_SET = ((alignment_net.NAMES, _alignment), (detector.NAMES, _objects))
MEASURES: dict[str, Callable[[Setting], Measure]] = {
    'clip': _clip, 'cmmd': _cmmd, 'damsm': _damsm, 'duplicates': _duplicates}
