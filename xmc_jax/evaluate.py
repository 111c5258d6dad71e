"""`xmc evaluate --workdir RUN`: scores of a run's checkpoints, by a named protocol.

What a protocol and a score are: docs/evaluation.md.
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
from xmc_jax.evals import extra_metrics, feature_cache, image_sets, protocols, results, scores
from xmc_jax.evals.extract import Collector, Painter
from xmc_jax.sampling import TextToImage, find_encoder
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.metric_writer import Board
from xmc_jax.types import UserError

WAIT = 20.0  # seconds between two looks for a new checkpoint
WEIGHTS = ('averaged', 'live')


def evaluate(workdir: str | os.PathLike[str], *, protocol: str | None = None,
             fakes: int | None = None, seed: int = 0, step: int | None = None,
             every: bool = False, follow: bool = False, weights: Sequence[str] = ('averaged',),
             extra: Sequence[str] = (), random_seed: int | None = None,
             text_encoder: str | None = None) -> list[dict[str, Any]]:
  """Scores checkpoints of a run, each number with its manifest; appends to workdir/scores.jsonl.

  Args:
    protocol: one of `protocols.PROTOCOLS`; None: what the run's config says.
    fakes: images drawn of held-out captions; None: what the config says, or the protocol.
    seed: of the choice of captions and of the noise.
    step: the checkpoint; None: the newest.
    every: all checkpoints instead.
    follow: all checkpoints, and then the coming ones, until the run has ended.
    weights: 'averaged', 'live' or both.
    extra: more measures, of `also.MEASURES`, beside the protocol's and those of the data set.
    random_seed: random weights in the protocol's network: the numbers mean nothing.
    text_encoder: its folder, where the one that the run's config names is not.
  Returns:
    The lines. What the same commit has measured in the same way before is not measured again.
  Raises:
    UserError: no such run, checkpoint, protocol or measure; weights that are not found; a
      generator whose images are not finite.
  """
  if not weights or not set(weights) <= set(WEIGHTS):
    raise UserError(f'--weights={",".join(weights)}: choose averaged, live or both: averaged,live')
  model = TextToImage.load(workdir, step=step, text_encoder=text_encoder)
  exam = Exam(model, protocols.find(protocol or model.config.evals.protocol), fakes, seed, extra,
              random_seed, text_encoder)
  found = []
  with Board(epath.Path(workdir) / 'tensorboard') as board:
    for at in _steps(workdir, model, every, follow):
      for kind in weights:
        print(f'step {at:,}, {kind} weights, {exam.title}', flush=True)
        lines = exam.known(workdir, at, kind)
        if not lines:
          lines = exam.take(model.at(at, live=kind == 'live'))
          results.append(workdir, lines)
          board.scalars(at, {f'{exam.protocol.name}/{kind}/{line["metric"]}': line['value']
                             for line in lines})
        print(results.table(lines), flush=True)
        found += lines
  return found


def _steps(workdir: str | os.PathLike[str], model: TextToImage, every: bool,
           follow: bool) -> Iterator[int]:
  """The steps of the checkpoints to score, in order; with `follow` until the run's last one."""
  if not (every or follow):
    yield model.step
    return
  done, told = set(), False
  while True:
    with Checkpoints(epath.Path(workdir) / 'checkpoints', every=None) as checkpoints:
      found = checkpoints.steps()
    yield from (at for at in found if at not in done)
    done |= set(found)
    if not follow or max(found) >= model.config.steps:
      return
    if not told:
      print(f'waiting for the checkpoints of a run of {model.config.steps:,} steps', flush=True)
      told = True
    time.sleep(WAIT)


class Exam:
  """What is the same for every checkpoint of a run: captions, noise, networks, real images."""

  def __init__(self, model: TextToImage, protocol: protocols.Protocol, fakes: int | None, seed: int,
               extra: Sequence[str], random_seed: int | None,
               text_encoder: str | None = None):
    config = model.config
    load = lambda split: sources.load(config.data.name, split, config.model.size,
                                      **config.data.options)
    heldout = load('heldout')
    against = config.evals.reference
    real = image_sets.Split(heldout if against == 'heldout' else load(against), against)
    self.protocol, self._seed = protocol, seed
    self._fakes = fakes or config.evals.fakes or protocol.fakes or len(real)
    if self._fakes < 2:
      raise UserError(f'--fakes={self._fakes}: a distribution needs at least two images')
    rows, which = choose(heldout, self._fakes, seed)
    self._captions = [heldout.captions(i)[k] for i, k in zip(rows.tolist(), which.tolist())]

    reader = protocol.reader(random_seed)
    self._reals, pixels = feature_cache.features(real, protocol, reader, model.mesh)
    self._also = extra_metrics.choose(extra, extra_metrics.Setting(
        config, find_encoder(config.text.encoder, text_encoder), heldout,
        lambda: image_sets.Split(load('train'), 'train'), self._captions, rows, which, seed, model.mesh,
        protocol, reader, self._reals))
    readers = {r.name: r for r in (reader, *(r for measure in self._also for r in measure.readers))}
    self._collect = Collector(list(readers.values()), model.mesh)
    self._inputs = model.inputs(self._captions, seed=seed)
    self.title = (f'{protocol.name}: {self._fakes:,} images against {len(real):,} of {real.what}')
    self._manifest = {
        **protocol.facts(), 'weights_sha256': reader.sha256, 'data': config.data.name,
        'size': config.model.size, 'fakes': self._fakes, 'reals': len(real),
        'reference': real.what, 'reference_sha256': pixels, 'crop': 'centre', 'seed': seed,
        'captions_sha256': results.sha256(self._captions), 'precision': 'float32',
        'config_sha256': results.sha256(config.to_json_best_effort()),
        'differs': protocol.differences(self._fakes, len(real)), 'also': sorted(extra),
        'kid_subset': scores.kid_subset(self._fakes, len(real)), 'splits': scores.SPLITS,
        **results.environment()}

  def take(self, model: TextToImage) -> list[dict[str, Any]]:
    """The scores of one checkpoint, as lines."""
    answers = self._collect(Painter('images', model.paint, model.tree, self._inputs))
    manifest = {'step': model.step, 'weights': model.weights, **self._manifest}
    of_the_protocol = scores.distances(answers[self.protocol.name], self._reals, self.protocol)
    parts = [(of_the_protocol, manifest),
             *((measure.score(answers), {**manifest, **measure.facts}) for measure in self._also)]
    for found, _ in parts:
      results.finite(found)
    return [line for found, facts in parts for line in results.lines(found, facts)]

  def known(self, workdir: str | os.PathLike[str], step: int, weights: str) -> list[dict[str, Any]]:
    """The run's lines of this checkpoint that the same commit took in this way; none if changed."""
    if (self._manifest['commit'] or '+').endswith('+') or jax.process_count() > 1:
      return []      # processes must not decide each for itself
    wanted = {'step': step, 'weights': weights, **self._manifest}
    has = lambda line, keys: all(line.get(key) == wanted[key] for key in keys)
    of_a_network = {*self.protocol.facts(), 'weights_sha256'} - {'protocol'}
    lines = [line for line in results.read(workdir) if has(line, wanted.keys() - of_a_network)]
    return lines if any(has(line, of_a_network) for line in lines) else []


def choose(source: sources.Source, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """n rows of a set, and which of its captions each is drawn from.

  Rows are in random order, and one comes again only when all have come; captions are random.
  """
  rng = np.random.default_rng(seed)
  rows = np.concatenate([rng.permutation(len(source)) for _ in range(-(-n // len(source)))])[:n]
  counts = np.array([len(source.captions(int(i))) for i in rows])
  return rows, (rng.random(n) * counts).astype(int)

