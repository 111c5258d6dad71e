"""Evaluation with a named protocol: of the checkpoints of a run, or of two folders of images.

docs/evaluation.md describes the protocols and metrics.
"""
from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from xmc_jax.data import source as sources
from xmc_jax.distributed import processes
from xmc_jax.encoders.registry import RANDOM
from xmc_jax.evals import extra_metrics, feature_cache, image_sets, protocols, results, scores
from xmc_jax.evals.extract import FeatureCollector, GeneratedImages
from xmc_jax.evals.statistics import Moments
from xmc_jax.sampling import TextToImage, check_seed, find_text_encoder
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.metric_writer import Board
from xmc_jax.types import UserError
from xmc_jax.utils.hashing import file_sha256, json_sha256

POLL_SECONDS = 20.0  # between two checks for a new checkpoint
WEIGHTS = ('averaged', 'live')


def evaluate(workdir: str | os.PathLike[str], *, protocol: str | None = None,
             fakes: int | None = None, seed: int = 0, step: int | None = None,
             every: bool = False, follow: bool = False, weights: Sequence[str] = ('averaged',),
             metrics: Sequence[str] = (), random_seed: int | None = None,
             text_encoder: str | None = None, data: str | None = None) -> list[dict[str, Any]]:
  """Scores checkpoints of a run and appends the scores to workdir/scores.jsonl.

  Args:
    workdir: folder of the run.
    protocol: one of `protocols.PROTOCOLS`; None: the one in the run's config.
    fakes: number of images to generate from held-out captions; None: as the config says, or else
      the protocol.
    seed: for the choice of captions and the noise.
    step: the checkpoint; None: the newest.
    every: score all checkpoints instead.
    follow: score all checkpoints, and each new one, until the run has ended.
    weights: 'averaged', 'live' or both.
    metrics: of `extra_metrics.EXTRA_METRICS`, in addition to those of the protocol and data set.
    random_seed: use random weights in the protocol's network, for a trial; the scores are
      meaningless.
    text_encoder: folder of the run's text encoder, if it is not where the config says.
    data: folder of the run's prepared data, if it is not where the config says.
  Returns:
    One line (a dict with metric, value, spread and manifest) per score. Scores that the same commit
    has already computed in the same way are read from scores.jsonl.
  Raises:
    UserError: there is no such run, checkpoint, protocol or metric; weights are not found; the
      generator's images are not finite; or scores.jsonl cannot be written, which is seen first.
  """
  check_seed(seed)
  if random_seed is not None:
    check_seed(random_seed, 'random_seed')
  workdir = epath.Path(workdir).expanduser()
  weights, metrics = ([x] if isinstance(x, str) else x for x in (weights, metrics))
  if not weights or not set(weights) <= set(WEIGHTS):
    raise UserError(f'--weights={",".join(weights)}: choose averaged, live or both: averaged,live')
  extra_metrics.check(metrics)
  model = TextToImage.load(workdir, step=step, text_encoder=text_encoder, data=data)
  _check_data(workdir, model, data)
  results.check_writable(workdir)
  evaluator = Evaluator(model, protocols.find(protocol or model.config.evals.protocol), fakes, seed,
                        metrics, random_seed, text_encoder, data)
  found = []
  with Board(epath.Path(workdir) / 'tensorboard') as board:
    for at in _steps(workdir, model, every, follow):
      for kind in weights:
        print(f'step {at:,}, {kind} weights, {evaluator.title}', flush=True)
        try:
          chosen = model.at(at, live=kind == 'live')
        except UserError:
          if not every and not follow or _has_step(workdir, at):
            raise
          print(_DELETED.format(at))
          continue
        known = evaluator.known(workdir, chosen)
        lines = known or evaluator.score(chosen)
        print(results.table(lines), flush=True)      # first: nothing that fails below can lose it
        if not known:
          results.append(workdir, lines)
          board.scalars(at, {f'{evaluator.protocol.name}/{kind}/{line["metric"]}': line['value']
                             for line in lines})
          board.flush()
        found += lines
  return found


def compare(images: str | os.PathLike[str], reference: str | os.PathLike[str], *,
            protocol: str = 'tf2015', split: str | None = None,
            workdir: str | os.PathLike[str] | None = None,
            random_seed: int | None = None) -> list[dict[str, Any]]:
  """Scores generated images against real ones, without any model.

  Images are used as stored, turned as their EXIF orientation says. They must be RGB, and all images
  of a folder must have one size.

  Args:
    images: folder of the images to score.
    reference: folder of the real images; one that `xmc prepare` made; or a .npz file with the mean
      `mu` and the covariance `sigma` of their features, of which only FID can be computed.
    protocol: one of `protocols.PROTOCOLS`.
    split: of a prepared folder, 'heldout' or 'train'; None: 'heldout'.
    workdir: folder whose scores.jsonl the scores are appended to; None: they are only printed.
    random_seed: use random weights in the protocol's network, for a trial; the scores are
      meaningless.
  Returns:
    One line (a dict with metric, value, spread and manifest) per score.
  Raises:
    UserError: a folder, a file or an image is missing or unusable, there are too few, weights are
      not found, or nothing can be written to `workdir`. No score is printed or written then.
  """
  if random_seed is not None:
    check_seed(random_seed, 'random_seed')
  chosen, mesh = protocols.find(protocol), make_mesh()
  if split and not any(map(image_sets.is_prepared, (images, reference))):
    raise UserError(f'--split={split}: neither folder is one of `xmc prepare`, which have splits; '
                    'leave it out')
  if workdir:
    results.check_writable(epath.Path(workdir).expanduser())
  split = split or 'heldout'
  fakes = image_sets.open_images(images, '--images', split)
  size = fakes.read([0]).shape[1:]
  path = epath.Path(reference).expanduser()
  moments = Moments.load(path, '--reference') if path.suffix == '.npz' else None
  reals = None if moments else image_sets.open_images(reference, '--reference', split, size[0])
  scores.refuse_few(len(fakes), None if reals is None else len(reals), 'add images')
  extractor = chosen.feature_extractor(random_seed)
  if reals is not None:
    _tell_sizes(size, reals.read([0]).shape[1:], chosen)
    real_features, digest = feature_cache.features(reals, chosen, extractor, mesh)
    name, against = reals.name, f'{len(reals):,} of {reals.name}'
  else:
    assert moments
    _check_width(moments, extractor.features_of(size).pool.shape[1], reference, chosen)
    digest, name, against = file_sha256(path), str(reference), f'statistics of {reference}'
  fake_features = FeatureCollector([extractor], mesh)(fakes)[chosen.name]
  found = (scores.distance_to_moments(fake_features, moments, chosen) if moments else
           scores.distances(fake_features, real_features, chosen))
  results.refuse_nonfinite(found)
  lines = results.lines(found, {
      'step': None, 'weights': None,
      **_manifest(chosen, extractor.sha256, len(fakes), None if reals is None else len(reals)),
      'images': fakes.name, 'images_sha256': image_sets.fingerprint(fakes), 'reference': name,
      'reference_sha256': digest, **results.environment()})
  print(f'{chosen.name}: {len(fakes):,} images of {fakes.name} against {against}\n'
        f'{results.table(lines)}', flush=True)
  if workdir:
    results.append(epath.Path(workdir).expanduser(), lines)
  return lines


def _tell_sizes(size: Sequence[int], other: Sequence[int], protocol: protocols.Protocol) -> None:
  """Prints that images of two sizes [h, w, 3] are compared, if they are."""
  if other != size:
    print(f'the images have {size[1]} x {size[0]} pixels and those of the reference '
          f'{other[1]} x {other[0]}; both are resized to {protocol.side}, and the scores measure '
          'that difference too')


def _check_width(moments: Moments, width: int, reference: str | os.PathLike[str],
                 protocol: protocols.Protocol) -> None:
  """UserError unless statistics are of `width` features; prints what they do not say."""
  if len(moments.mean) != width:
    raise UserError(f'--reference: {reference} has statistics of {len(moments.mean):,} features, '
                    f'and the network of the protocol {protocol.name} gives {width:,}; choose the '
                    '--protocol that the file was made with')
  print(f'{reference} does not say with which network and resizing it was made: the '
        f'{protocol.distance} is right only if they were those of the protocol {protocol.name}; '
        'files of pytorch-fid belong to --protocol pytorch-fid')


def _manifest(protocol: protocols.Protocol, weights_sha256: str, fakes: int,
              reals: int | None) -> dict[str, Any]:
  """The part of a manifest that runs and folders have in common."""
  return {**protocol.facts(), 'weights_sha256': weights_sha256, 'fakes': fakes, 'reals': reals,
          'precision': 'float32', 'differs': protocol.differences(fakes, reals),
          'kid_subset': scores.kid_subset(fakes, reals), 'splits': scores.INCEPTION_SPLITS}


def _check_data(workdir: str | os.PathLike[str], model: TextToImage, folder: str | None) -> None:
  """Raises UserError unless the data are those of the run: in `folder`, or where it had them."""
  with Checkpoints(epath.Path(workdir) / 'checkpoints', every=None) as checkpoints:
    meta = checkpoints.meta(model.step)
  data = model.config.data
  options = data.options.to_dict() | ({'folder': folder} if folder else {})
  splits = {'heldout': 'heldout'} | ({'data': 'train'} if folder else {})
  for key, split in splits.items():
    # An imported run has met no data yet, and older ones did not note the held-out images.
    if key in meta and sources.fingerprint(sources.load(
        data.name, split, model.config.model.size, **options)) != meta[key]:
      where = f'--data={folder}' if folder else f'--workdir={workdir}'
      raise UserError(f'{where}: the data are not those that this run was trained with, as the '
                      f'images of {split} differ; put those back, or give their folder with --data')


_DELETED = ('step {:,}: the training has deleted its checkpoint before it was scored; raise '
            'config.keep or set config.keep_every')


def _has_step(workdir: str | os.PathLike[str], step: int) -> bool:
  return (epath.Path(workdir) / 'checkpoints' / str(step)).exists()


def _steps(workdir: str | os.PathLike[str], model: TextToImage, every: bool,
           follow: bool) -> Iterator[int]:
  """The steps of the checkpoints to score, in order; with `follow`, until the run's last one."""
  if not (every or follow):
    yield model.step
    return
  done: set[int] = set()
  seen: set[int] = set()      # whether they are still there or not
  announced = False
  while True:
    with Checkpoints(epath.Path(workdir) / 'checkpoints', every=None) as checkpoints:
      # Each time, since a training may delete old ones; the same on all processes.
      found = processes.gather(checkpoints.steps())[0]
    for at in sorted(seen - done - set(found)):
      print(_DELETED.format(at))
      done.add(at)
    if follow or not seen:
      seen |= set(found)
    if left := sorted((seen & set(found)) - done):
      done.add(left[0])
      yield left[0]
      continue
    if not follow or max(found) >= model.config.steps:
      return
    if not announced:
      print(f'waiting for the checkpoints of a run of {model.config.steps:,} steps', flush=True)
      announced = True
    time.sleep(POLL_SECONDS)


def _checkpoint(model: TextToImage) -> dict[str, Any]:
  """What a manifest says of the generator; a step alone may come again with other weights."""
  return {'step': model.step, 'weights': model.weights, 'generator_sha256': model.fingerprint()}


class Evaluator:
  """Scores checkpoints of a run; holds what they share: captions, noise, networks, real images.

  Attributes:
    protocol: the protocol of the distances.
    title: the protocol and the numbers of images, in words.
    best: names of scores by which `config.evals.best` may choose.
  """

  def __init__(self, model: TextToImage, protocol: protocols.Protocol, fakes: int | None, seed: int,
               metrics: Sequence[str], random_seed: int | None, text_encoder: str | None = None,
               data: str | None = None):
    config = model.config
    options = config.data.options.to_dict() | ({'folder': data} if data else {})
    load = lambda split: sources.load(config.data.name, split, config.model.size, **options)
    heldout = load('heldout')
    against = config.evals.reference
    real = image_sets.SplitImages(heldout if against == 'heldout' else load(against), against)
    self.protocol = protocol
    if fakes is None:
      fakes = config.evals.fakes or protocol.fakes or len(real)
    scores.refuse_few(fakes, len(real),
                      'generate more with --fakes, or in training with --config.evals.fakes')
    indices, which = choose_captions(heldout, fakes, seed)
    captions = [heldout.captions(i)[k] for i, k in zip(indices.tolist(), which.tolist())]

    extractor = protocol.feature_extractor(random_seed)
    self._extra = extra_metrics.build(metrics, extra_metrics.EvalContext(
        config, find_text_encoder(config.text.encoder, text_encoder), heldout, real,
        lambda: image_sets.SplitImages(load('train'), 'train'), captions, indices, which, seed,
        model.mesh, protocol, extractor))
    self._reals, pixels = feature_cache.features(real, protocol, extractor, model.mesh)
    self.best = (*scores.names(protocol, fakes),
                 *(name for metric in self._extra for name in metric.best))
    extractors = [extractor, *(x for metric in self._extra for x in metric.extractors)]
    self._collect = FeatureCollector(list({x.name: x for x in extractors}.values()), model.mesh)
    self._inputs = model.inputs(captions, seed=seed)
    # In these, lines of extra metrics differ.
    self._network = {*protocol.facts(), 'weights_sha256'} - {'protocol'}
    self.title = f'{protocol.name}: {fakes:,} images against {len(real):,} of {real.name}'
    self._manifest = {
        **_manifest(protocol, extractor.sha256, fakes, len(real)), 'data': config.data.name,
        'size': config.model.size, 'reference': real.name, 'reference_sha256': pixels,
        'crop': 'center', 'seed': seed, 'captions_sha256': json_sha256(captions),
        'config_sha256': json_sha256(config.to_json_best_effort()),
        'extra_metrics': sorted(metrics), **results.environment()}

  def score(self, model: TextToImage) -> list[dict[str, Any]]:
    """The scores of one checkpoint, as lines. UserError if its images or a score are not finite."""
    features = self._collect(GeneratedImages('images', model.forward, model.tree, self._inputs))
    manifest = {**_checkpoint(model), 'time': results.now(), **self._manifest}
    distances = scores.distances(features[self.protocol.name], self._reals, self.protocol)
    parts = [(distances, manifest),
             *((metric.score(features), {**manifest, **metric.facts}) for metric in self._extra)]
    for found, _ in parts:
      results.refuse_nonfinite(found)
    total = sum(len(found) for found, _ in parts)      # a kill may cut the file between the lines
    return [line for found, facts in parts
            for line in results.lines(found, {**facts, 'scores': total})]

  def of_run(self, workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Earlier lines of averaged weights that are comparable with those of `score`, oldest first."""
    keys = [key for key in results.SETTING if key in self._manifest and key not in self._network]
    return [line for line in results.read(workdir)
            if line.get('weights') == 'averaged' and isinstance(line.get('step'), int)
            and line.get('weights_sha256') != RANDOM
            and all(line.get(key) == self._manifest[key] for key in keys)]

  def known(self, workdir: str | os.PathLike[str], model: TextToImage) -> list[dict[str, Any]]:
    """Earlier lines of this checkpoint by the same commit and settings; [] if there are none.

    Also [] if the code has uncommitted changes, and with several processes, which might each see
    another state of the file.
    """
    # Random weights have no hash that tells one seed from another.
    if ((self._manifest['commit'] or '+').endswith('+') or jax.process_count() > 1
        or self._manifest['weights_sha256'] == RANDOM):
      return []
    wanted = {**_checkpoint(model), **self._manifest}
    own = self._network.union(*(metric.facts for metric in self._extra))
    has = lambda line, keys: all(line.get(key) == wanted[key] for key in keys)
    lines = [line for line in results.read(workdir) if has(line, wanted.keys() - own)]
    newest = max((line['time'] for line in lines if has(line, own & wanted.keys())), default=None)
    together = [line for line in lines if line['time'] == newest]
    if not together or len(together) != together[0].get('scores'):
      return []
    of_today = all(any(metric.facts.items() <= line.items() for line in together)
                   for metric in self._extra)      # by the same weights of their networks
    return together if of_today else []


def choose_captions(source: sources.Source, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Chooses n captions of a data set at random: indices [n] of examples, and which caption [n].

  Examples are in random order, and none comes again before all have come.
  """
  rng = np.random.default_rng(seed)
  orders = [rng.permutation(len(source)) for _ in range(-(-n // len(source)))]
  indices = np.concatenate(orders)[:n]
  counts = np.array([len(source.captions(int(i))) for i in indices])
  return indices, (rng.random(n) * counts).astype(int)
