"""Metrics in addition to a protocol's distances: text alignment, object accuracy, memorization.

The metrics of the embedded data sets are always computed for runs on these sets. The others are
requested by name.
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
from xmc_jax.evals import alignment, embeddings, feature_cache, image_sets, objects
from xmc_jax.evals.clip_score import clip_score
from xmc_jax.evals.duplicates import check_heldout, near_duplicates
from xmc_jax.evals.extract import FeatureCollector, FeatureExtractor
from xmc_jax.evals.kernels import cmmd
from xmc_jax.evals.networks import alignment_net, detector
from xmc_jax.evals.protocols import Protocol
from xmc_jax.evals.retrieval import check as check_captions
from xmc_jax.evals.retrieval import r_precision, r_precision_folds, r_precision_hits
from xmc_jax.evals.scores import Score
from xmc_jax.types import UserError
from xmc_jax.utils.hashing import file_sha256
from xmc_jax.weight_files import files

CANDIDATES = 100  # captions of the R-precisions of CLIP and DAMSM
# Suffix of a metric whose network was also in the generator's losses.
IN_TRAINING = ' (in training)'
BLOCK = 256       # real images that are in memory at once
IMAGES = FeatureExtractor('images', {}, lambda _, images: images)


@dataclasses.dataclass(frozen=True)
class EvalContext:
  """The evaluation of a run that extra metrics belong to.

  Generated image i comes from caption `which[i]` of example `indices[i]` of the held-out split.

  text_encoder  folder or name of the generator's own text encoder
  reference     the real images that the generated ones are compared with
  train         loads the training images
  extractor     of the protocol
  """
  config: ml_collections.ConfigDict
  text_encoder: str
  heldout: Source
  reference: image_sets.ImageSet
  train: Callable[[], image_sets.ImageSet]
  captions: Sequence[str]
  indices: np.ndarray
  which: np.ndarray
  seed: int
  mesh: jax.sharding.Mesh
  protocol: Protocol
  extractor: FeatureExtractor


@dataclasses.dataclass(frozen=True)
class ExtraMetric:
  """Computes scores from the features of the generated images.

  extractors  that are needed beside the protocol's
  score       {extractor name: features of all images} -> scores
  facts       for the manifests of these scores, where they differ from the protocol's
  best        names of scores by which `config.evals.best` may choose
  """
  extractors: tuple[FeatureExtractor, ...]
  score: Callable[[dict[str, Any]], list[Score]]
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  best: tuple[str, ...] = ()


def check(names: Sequence[str]) -> None:
  """Raises UserError for the name of a metric that does not exist."""
  for name in names:
    if name not in EXTRA_METRICS:
      raise UserError(f'--metrics={name}: unknown metric; choose from {", ".join(EXTRA_METRICS)}')


def build(names: Sequence[str], context: EvalContext) -> list[ExtraMetric]:
  """The metrics of the data set, then those in `names`, which `check` knows."""
  own = [make for sets, make in DATASET_METRICS if context.config.data.name in sets]
  return [make(context) for make in (*own, *(EXTRA_METRICS[name] for name in names))]


def _alignment(context: EvalContext) -> ExtraMetric:
  """R-precision by the alignment network of the data set, of generated and of real images."""
  network = context.config.data.name
  captions = alignment.caption_embeddings(context.captions, network)     # the same at each step

  def aligned(images: np.ndarray) -> float:
    return r_precision(alignment.image_embeddings(images, network), captions,
                       alignment.CANDIDATES, context.seed, captions=context.captions)
  check_captions(len(captions), alignment.CANDIDATES, captions=context.captions)
  real, name = aligned(_real(context)), f'alignment-{alignment.CANDIDATES}'

  def score(features):
    return [Score(name, aligned(_float(features['images']))), Score(f'{name} of real', real)]
  return ExtraMetric((IMAGES,), score, _packaged_facts(alignment_net, context), (name,))


def _objects(context: EvalContext) -> ExtraMetric:
  """How much of what the captions say a detector finds, see `objects.object_accuracy`."""
  truths = [context.heldout.truth(int(i), int(k)) for i, k in zip(context.indices, context.which)]
  real = _real(context)

  def score(features):
    found = objects.object_accuracy(_float(features['images']), truths, real, seed=context.seed)
    words = {'_real': ' of real', '_chance': ' by chance'}
    return [Score('objects: ' + functools.reduce(lambda k, w: k.replace(*w), words.items(), key),
                  value) for key, value in found.items() if value is not None]
  of_nothing = objects.score([{} for _ in truths], truths)      # None for what no caption states
  best = [key for key in objects.KEYS if of_nothing[key] is not None or key == 'precision']
  return ExtraMetric((IMAGES,), score, _packaged_facts(detector, context),
                     tuple(f'objects: {key}' for key in best))


def _clip(context: EvalContext) -> ExtraMetric:
  """CLIP score by ViT-B/32 (mean cosine of image and caption, times 100), and its R-precision."""
  _check_r_precision(context)
  network = embeddings.of_clip(clip.BASE)
  extractor, texts = network.extractor, network.captions(context.captions)
  suffix = IN_TRAINING if _trained_with(context, extractor) else ''

  def score(features):
    images = features[extractor.name]
    mean, error = clip_score(images, texts)
    return [Score(f'CLIP score{suffix}', mean, error),
            Score(f'CLIP R-precision-{CANDIDATES}{suffix}', *_r_precision(context, images, texts))]
  return ExtraMetric((extractor,), score, _facts(extractor))


def _trained_with(context: EvalContext, extractor: FeatureExtractor) -> bool:
  """Whether this CLIP is the generator's own encoder, so it was in its losses.

  Its files may have another format there, so what counts are the weights.
  """
  try:
    folder = clip.find(context.text_encoder)
    _, variables = clip.load(folder)
  except UserError:      # not a CLIP
    return False
  return files.fingerprint(variables) == files.fingerprint(extractor.variables)


def _damsm(context: EvalContext) -> ExtraMetric:
  """R-precision as in AttnGAN and DM-GAN, by the DAMSM that was in the generator's losses."""
  _check_r_precision(context)
  network = embeddings.of_damsm(context.text_encoder)
  extractor, texts = network.extractor, network.captions(context.captions)
  name = f'DAMSM R-precision-{CANDIDATES}{IN_TRAINING}'
  real = _r_precision(context, _of_real(context, network.images), texts)

  def score(features):
    return [Score(name, *_r_precision(context, features[extractor.name], texts)),
            Score(f'{name} of real', *real)]
  return ExtraMetric((extractor,), score, _facts(extractor))


def _r_precision(context: EvalContext, images: np.ndarray, texts: np.ndarray
                 ) -> tuple[float, float]:
  """Mean and standard deviation over folds; the other captions belong to other images.

  Where each image has one class, as in CUB, they belong to other classes, as in DM-GAN's code.
  """
  return r_precision_folds(r_precision_hits(images, texts, CANDIDATES, context.seed,
                                            captions=context.captions, avoid=_avoided(context)))


def _avoided(context: EvalContext) -> Sequence:
  """What the other captions of an R-precision differ in."""
  classes = [np.asarray(context.heldout.label(int(i))) for i in context.indices]
  one_each = all(found.ndim == 0 for found in classes) and len(set(map(int, classes))) > 1
  return classes if one_each else context.indices


def _check_r_precision(context: EvalContext) -> None:
  """UserError, before any image is generated, if there are too few captions to compare with."""
  check_captions(len(context.captions), CANDIDATES, captions=context.captions,
                 avoid=_avoided(context))


def _cmmd(context: EvalContext) -> ExtraMetric:
  extractor = embeddings.of_clip(clip.LARGE, crop_first=True).extractor
  real = FeatureCollector([extractor], context.mesh)(context.reference)[extractor.name]
  return ExtraMetric((extractor,),
                     lambda features: [Score('CMMD', cmmd(features[extractor.name], real))],
                     _facts(extractor))


def _duplicates(context: EvalContext) -> ExtraMetric:
  """The share of images nearer to a training image than almost all held-out ones are."""
  features_of = lambda images: feature_cache.features(images, context.protocol, context.extractor,
                                                      context.mesh)
  split = image_sets.SplitImages(context.heldout, 'heldout')
  check_heldout(len(split))
  train, _ = features_of(context.train())
  heldout, pixels = features_of(split)

  def score(features):
    found = near_duplicates(features[context.protocol.name].pool, train.pool, heldout.pool)
    return [Score('near-duplicates of training', found.share)]
  return ExtraMetric((), score, {'reference': split.name, 'reference_sha256': pixels,
                                 'reals': len(split)})


def _facts(extractor: FeatureExtractor) -> dict[str, Any]:
  """What a manifest says of a network that has its own preprocessing."""
  return {'network': extractor.name, 'weights_sha256': extractor.sha256, 'resize': None,
          'side': None, 'distance': None}


def _packaged_facts(kind: ModuleType, context: EvalContext) -> dict[str, Any]:
  """The same for a network that comes with the package for this data set."""
  path = kind.find(context.config.data.name)
  return _facts(FeatureExtractor(path.stem, {}, None, sha256=file_sha256(path)))


def _of_real(context: EvalContext, embed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
  """`embed`, of images [b, h, w, 3] uint8, of the real image of each caption; in small blocks."""
  split = image_sets.SplitImages(context.heldout, 'heldout')
  examples, rows = np.unique(context.indices, return_inverse=True)      # some come several times
  return np.concatenate([embed(split.read(examples[i:i + BLOCK]))
                         for i in range(0, len(examples), BLOCK)])[rows]


def _real(context: EvalContext) -> np.ndarray:
  return _float(image_sets.SplitImages(context.heldout, 'heldout').read(context.indices))


def _float(images: np.ndarray) -> np.ndarray:
  return images.astype(np.float32) / 255


DATASET_METRICS = ((alignment_net.NAMES, _alignment), (detector.NAMES, _objects))
EXTRA_METRICS: dict[str, Callable[[EvalContext], ExtraMetric]] = {
    'clip': _clip, 'cmmd': _cmmd, 'damsm': _damsm, 'duplicates': _duplicates}
