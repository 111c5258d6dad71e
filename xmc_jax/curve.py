"""Evaluation at intervals inside training: `config.evals.every`."""
from __future__ import annotations

import json
from collections.abc import Callable, Container

import jax
import ml_collections
from etils import epath

from xmc_jax.distributed import processes
from xmc_jax.evals import protocols, results
from xmc_jax.evaluator import Evaluator
from xmc_jax.sampling import TextToImage
from xmc_jax.training.state import TrainState
from xmc_jax.types import NotFinite, UserError
from xmc_jax.utils import atomic

BEST = 'best.json'      # in the folder of a run


def evaluates(config: ml_collections.ConfigDict, draws: bool) -> bool:
  """Whether a run of `config` is evaluated while it trains.

  draws: whether its method draws images. UserError if its settings of this make no sense.
  """
  evals = config.evals
  protocol = protocols.find(evals.protocol, '--config.evals.protocol')
  if not evals.every:
    if evals.best:
      raise UserError(f'--config.evals.best={evals.best} needs --config.evals.every: the steps '
                      'between two evaluations')
    return False
  if not draws:
    raise UserError(f'--config.evals.every={evals.every}: {config.method} trains an encoder, which '
                    'draws no images to evaluate; set it to 0')
  if not results.better(evals.best or protocol.distance):
    raise UserError(f'--config.evals.best={evals.best}: whether lower or higher is better is not '
                    'known; choose a score of docs/evaluation.md, such as '
                    f'{protocol.distance}')
  return True


def remembered(workdir: epath.Path) -> tuple[int, str] | None:
  """The best step of a run by its last evaluation in training, and the score that decided; or None.

  Unlike `Curve.best` whatever the settings of the evaluation were.
  """
  try:
    facts = json.loads((workdir / BEST).read_text())
    return int(facts['step']), str(facts['metric'])
  except (OSError, ValueError, KeyError, TypeError):
    return None


class Curve:
  """Scores a run at intervals while it trains, and knows which step was the best so far.

  Attributes:
    metric: the score that decides: `config.evals.best`, or the distance of the protocol.
  """

  def __init__(self, workdir: epath.Path, model: TextToImage, start: int, saved: Container[int]):
    """The evaluations of steps up to `start` are read from the run's scores.jsonl.

    saved: steps whose checkpoints are on the disk; of others none can be the best.
    """
    evals = model.config.evals
    self._workdir, self._every, self._last = workdir, evals.every, model.config.steps
    self._model = model
    protocol = protocols.find(evals.protocol)
    self.metric = evals.best or protocol.distance
    self._better = results.better(self.metric)
    self._evaluator = Evaluator(model, protocol, None, 0, (), None)
    if self.metric not in self._evaluator.best:
      raise UserError(f'--config.evals.best={self.metric}: is none of the scores of this run; '
                      f'choose one of {", ".join(self._evaluator.best)}')
    lines = [line | {'saved': line['step'] in saved} for line in self._evaluator.of_run(workdir)
             ] if jax.process_index() == 0 else []
    self._values: dict[int, float] = {}
    self._times: dict[int, float] = {}
    for line in processes.gather(lines)[0]:
      if line['step'] <= start:
        self._times[line['step']] = max(line['time'], self._times.get(line['step'], 0))
        if line['metric'] == self.metric and line['saved']:
          self._values[line['step']] = line['value']

  @property
  def best(self) -> int | None:
    """The best step so far; None before the first evaluation."""
    if not self._values:
      return None
    value = self._better(self._values.values())
    return next(step for step, found in self._values.items() if found == value)

  def due(self, step: int) -> bool:
    return step % self._every == 0 or step == self._last

  def missing(self, step: int, saved: float) -> bool:
    """Whether the evaluation of a checkpoint is due and was not made since it was saved."""
    return self.due(step) and self._times.get(step, -1) < saved

  def score(self, step: int, state: TrainState, saved: Callable[[], None]) -> dict[str, float]:
    """Scores a step, appends the scores to scores.jsonl and prints them; {metric: value}.

    They are written after `saved` has returned, so they are those of a checkpoint on the disk. {}
    if images or scores are not finite: the losses are, so training goes on.
    """
    try:
      lines = self._evaluator.score(self._model.of_state(step, state))
    except NotFinite as error:
      print(f'step {step:,} has no scores: {error}', flush=True)
      return {}
    saved()
    now = results.now()      # later than the checkpoint, or a resumed run would score it again
    lines = [line | {'time': now} for line in lines]
    found = {line['metric']: line['value'] for line in lines}
    if self.metric in found:       # the precision of objects is undefined where none is found
      self._values[step] = found[self.metric]
    print(f'step {step:,}, averaged weights, {self._evaluator.title}\n'
          f'{results.table(lines)}\n{self.summary()}', flush=True)
    results.append(self._workdir, lines)
    if self.best is not None and jax.process_index() == 0:
      facts = {'step': self.best, 'metric': self.metric, 'value': self._values[self.best]}
      atomic.save(self._workdir / BEST, json.dumps(facts) + '\n')
    return {f'{self._evaluator.protocol.name}/averaged/{name}': value
            for name, value in found.items()}

  def summary(self) -> str:
    """The best step so far, in words; '' before the first evaluation."""
    if self.best is None:
      return ''
    return (f'best so far by {self.metric}: step {self.best:,} with '
            f'{results.digits(self._values[self.best])}')
