"""`xmc train`: one run from start to end; the same call resumes it."""
from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import shlex
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath

from xmc_jax import __version__, methods
from xmc_jax import config as defaults
from xmc_jax.config import flat
from xmc_jax.curve import Curve, evaluates, remembered
from xmc_jax.data import partners as positives
from xmc_jax.data import pipeline
from xmc_jax.data import source as sources
from xmc_jax.data.text import Tokenizer
from xmc_jax.distributed import processes
from xmc_jax.distributed.signals import StopSignal
from xmc_jax.evals import protocols
from xmc_jax.pretrained.start import begin_with
from xmc_jax.sampling import TextToImage
from xmc_jax.training import mesh as meshes
from xmc_jax.training import profile as traces
from xmc_jax.training import same_run
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.memory import compile_to_fit, less
from xmc_jax.training.memory import summary as memory_summary
from xmc_jax.training.metric_writer import Reporter
from xmc_jax.training.program import TITLES, Program, Step, parameters
from xmc_jax.training.state import TrainState
from xmc_jax.types import PARTNER, UserError
from xmc_jax.utils import atomic, image_io
from xmc_jax.utils.lock import locked
from xmc_jax.weight_files import files


def train(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], *,
          allow_changes: bool = False, profile: tuple[int, int] | None = None) -> TrainState:
  """Trains until `config.steps`, or until SIGTERM or Ctrl-C; resumes the run in `workdir`, if any.

  In a run of several processes (`distributed/processes.py`), each of them calls this.

  Args:
    config: of the run.
    workdir: folder of the run; on several hosts, one that all of them share.
    allow_changes: resume even if the method, the data or the tokenizer are not those that the run
      began with.
    profile: the first and the last of the steps to record in `workdir`/profile.
  Returns:
    The last state.
  Raises:
    UserError: a mistake that can be found before the first step, or a loss that is not finite.
  """
  workdir = epath.Path(workdir).expanduser()
  defaults.check(config)
  protocols.find(config.evals.protocol, '--config.evals.protocol')
  processes.check_same({f'config.{key}': value for key, value in flat(_settings(config)).items()})
  config = methods.with_absolute_paths(config)
  with config.unlocked():
    config.data.options = ml_collections.ConfigDict(
        sources.absolute(config.data.name, config.model.size, config.data.options))
  settings = _settings(config)
  mesh = meshes.make_mesh()
  meshes.check_rows(config.batch_size, config.microbatches, mesh)
  method = methods.build(config)
  program = methods.program(method, config, mesh)
  source, heldout = (sources.load(config.data.name, split, config.model.size,
                                  **config.data.options) for split in sources.SPLITS)
  methods.check_training(method, config)
  methods.check_labels(method, config, source)
  methods.check_objects(method, config, source)
  tokenizer, loader = method.tokenizer(), pipeline.choose_loader(config.data.loader)

  with contextlib.ExitStack() as stack:
    if jax.process_index() == 0:
      stack.enter_context(locked(workdir))
    checkpoints = stack.enter_context(
        Checkpoints(workdir / 'checkpoints', every=config.every.save, keep=config.keep,
                    keep_every=config.keep_every))
    processes.check_shared(workdir)
    if jax.process_index() == 0:
      for line in checkpoints.set_aside_damaged():
        print(line)
    processes.gather(None)      # until then the other processes would see the damaged ones
    latest = checkpoints.latest()
    start = latest or 0
    processes.check_same({'the newest checkpoint': latest})
    meta: dict[str, Any] = {
        'config': settings, 'version': __version__, 'tokenizer': tokenizer.text(),
        'frozen_settings': method.frozen_settings,
        'data': sources.fingerprint(source), 'heldout': sources.fingerprint(heldout)}
    processes.check_same({'the data': meta['data'], 'the held-out data': meta['heldout'],
                          **methods.frozen_facts(method, tokenizer)})
    began_with = checkpoints.meta() if latest is not None else {}
    if began_with and not allow_changes:
      same_run.check(workdir, began_with, meta)
    if start >= config.steps:
      state = checkpoints.restore(program.state_spec)
      if method.export:
        _export(method, workdir, state, tokenizer, mesh)
      _score_last(config, method, program, tokenizer, checkpoints, workdir, state)
      if began_with['config']['steps'] != config.steps:      # schedulers read it there
        _write_config(workdir, config)
      print(f'{workdir} is finished: {start:,} of {config.steps:,} steps. '
            f'{_next_steps(method, workdir)}')
      return state
    program.trace()      # raises for losses that cannot be computed; compiling traces no more
    frozen = method.load_frozen()
    meta['frozen'] = {name: files.fingerprint(tree) for name, tree in frozen.items()}
    processes.check_same({f'the frozen network {name}': digits
                          for name, digits in meta['frozen'].items()})
    frozen = program.put_frozen(frozen)
    if latest is None:          # before compiling: the weights may be of another model
      state = program.init(config.seed)
      if config.init:
        state = begin_with(config.init, state)
    else:
      state = checkpoints.restore(program.state_spec)
      same_run.report(began_with, meta)
    if partners := positives.find(source, config.data.partners):
      print(partners.summary())
    model = method.sample and TextToImage.of_training(config, method, program, tokenizer, frozen,
                                                      checkpoints.directory)
    curve = _curve(workdir, model, config, checkpoints, start)      # early: it may lack weights
    compiled = _compile(program, config, less(config.model, method.microbatches), source,
                        tokenizer, start)
    _write_config(workdir, config)
    rounds = len(method.objective.rounds)
    reporter = Reporter(workdir, total_steps=config.steps, every=config.every.report, start=start,
                        rows_per_step=rounds * config.batch_size)
    stack.callback(reporter.close)
    sample_grid = SampleGrid(config, {'train': source, 'heldout': heldout})

    def evaluate(curve, step):
      began = time.perf_counter()
      reporter.scores(step, curve.score(step, state, checkpoints.wait))
      checkpoints.best = curve.best
      reporter.leave_out(time.perf_counter() - began)

    checkpoints.best = _best(curve, workdir, checkpoints.steps())
    if curve:
      if start and processes.gather(curve.missing(start, checkpoints.saved(start)))[0]:
        evaluate(curve, start)
    stop, agreed = stack.enter_context(StopSignal()), processes.Agreement(mesh)
    batches = stack.enter_context(contextlib.closing(pipeline.batches(
        source, tokenizer, seed=config.seed, start=start, rounds=rounds, rows=config.batch_size,
        loader=loader, process=(jax.process_index(), jax.process_count()),
        partners=partners)))

    to_float = jax.jit(pipeline.to_float)
    # Looking for NaNs fetches all arrays.
    guard = 'allow' if jax.config.values['jax_debug_nans'] else 'disallow'
    for step in stack.enter_context(contextlib.closing(traces.steps(
        range(start + 1, config.steps + 1), profile, workdir / 'profile'))):
      began = time.perf_counter()
      batch = next(batches)
      waited = time.perf_counter() - began
      batch = meshes.put_rows({k: batch[k] for k in method.batch_spec}, program.rows)
      batch |= {k: to_float(batch[k]) for k in ('image', f'{PARTNER}image') if k in batch}
      with jax.transfer_guard(guard):
        state, metrics = compiled(state, frozen, batch)
      reporter.step(step, metrics, waited)
      # Saved before the next batch is taken: the checkpoint of step s has seen batches 1 to s.
      stopping = agreed(stop.requested)
      ending, due = stopping or step == config.steps, curve and curve.due(step)
      if ending or due or step % config.every.save == 0:
        reporter.settle()        # raises if a loss is not finite, before that is saved
        checkpoints.save(step, state, meta, force=ending or due)
        if method.export:
          _export(method, workdir, state, tokenizer, mesh)
      if model and (ending or step % config.every.images == 0):
        for name, grid in sample_grid.render(model.of_state(step, state)):
          reporter.images(step, grid, name)
      if due and not stopping:   # after a stop it is made up for when the run is resumed
        evaluate(curve, step)
      if ending:               # not `stop.requested`, which may have changed since saving
        break
    # Before the handlers of signals go: a second one must not end a process that still writes.
    checkpoints.prune()
    processes.gather(None)

  if step < config.steps:
    print(f'Stopped and saved at step {step:,}; the same command resumes the run.')
  else:
    best = curve.summary() if curve else ''
    print(f'Done: {step:,} steps{"; " if best else ""}{best}. '
          f'{_next_steps(method, workdir)}')
  return state


def _compile(program: Program, config, advice: str, source, tokenizer, start: int) -> Step:
  """Compiles the step and prints a summary of the run. advice: as of `compile_to_fit`."""
  print(f'{config.method} on {config.data.name}: {len(source):,} images, {config.model.size} px, '
        f'batch size {config.batch_size} per round, steps {start + 1:,} to {config.steps:,}')
  for warning in pipeline.warnings(source, tokenizer, config.batch_size, config.text.script):
    print(f'Warning: {warning}')
  group = config.model.get('bn_group_size')
  if group and group > config.batch_size:
    print(f'Warning: config.model.bn_group_size = {group} exceeds the batch size, so BatchNorm '
          f'statistics are those of the {config.batch_size} examples of the batch')
  if cut := pipeline.truncated_share(source, tokenizer):
    print(f'{cut:.1%} of the captions are truncated to text.length = {config.text.length} tokens')
  print(meshes.summary(program.mesh))
  began = time.perf_counter()
  # In another thread, so that Ctrl-C need not wait for the compiler.
  compiled = concurrent.futures.ThreadPoolExecutor(1).submit(
      compile_to_fit, program, advice).result()
  for name, count in parameters(program.state_spec).items():
    print(f'{TITLES.get(name, name)}: {count:,} parameters')
  if memory := memory_summary(compiled.memory()):
    print(memory)
  print(f'compiled in {time.perf_counter() - began:.0f} s', flush=True)
  return compiled


class SampleGrid:
  """Images of the same captions with the same noise, to compare over the course of a run."""

  def __init__(self, config, splits):
    self._seed = config.seed
    self._captions = {name: _evenly(split, config.grid) for name, split in splits.items()}

  def render(self, model: TextToImage):
    """Yields each split's name and its grid, uint8 [h, w, 3]."""
    for name, captions in self._captions.items():
      try:
        grid = image_io.grid(model.generate(captions, seed=self._seed), captions, columns=8)
      except UserError as error:      # the losses are finite, so training goes on
        print(error, flush=True)
      else:
        yield name, grid


def _curve(workdir: epath.Path, model: TextToImage | None, config, checkpoints: Checkpoints,
           start: int) -> Curve | None:
  """The evaluations that `config.evals.every` asks for, if it does."""
  if not evaluates(config, draws=model is not None):
    return None
  assert model, 'it draws'
  return Curve(workdir, model, start, checkpoints.steps())


def _best(curve: Curve | None, workdir: epath.Path, steps: list[int]) -> int | None:
  """The best step so far, whose checkpoint stays, by the settings of `curve` or by earlier ones."""
  if curve and curve.best is not None:
    return curve.best
  step, metric = processes.gather(remembered(workdir))[0] or (None, '')
  if step not in steps:      # there is none, or its checkpoint has gone
    return None
  print(f'The checkpoint of step {step:,} stays, the best by {metric} of earlier evaluations'
        + (', until the next one, whose settings are others' if curve else ''))
  return step


def _score_last(config, method, program: Program, tokenizer: Tokenizer, checkpoints: Checkpoints,
                workdir: epath.Path, state: TrainState) -> None:
  """Makes up for the evaluation of a finished run that was stopped or failed before its end."""
  if not config.evals.every:
    return
  step = int(state.step)
  frozen = program.put_frozen(method.load_frozen())
  model = method.sample and TextToImage.of_training(config, method, program, tokenizer, frozen,
                                                    checkpoints.directory)
  curve = _curve(workdir, model, config, checkpoints, step)
  assert curve, 'evaluations were asked for'
  if processes.gather(curve.missing(step, checkpoints.saved(step)))[0]:
    curve.score(step, state, checkpoints.wait)


def _evenly(source: sources.Source, n: int) -> list[str]:
  """The first captions of up to `n` examples, evenly spaced over the data set."""
  return [source.captions(int(i))[0] for i in np.linspace(0, len(source) - 1, min(n, len(source)))]


def _settings(config: ml_collections.ConfigDict) -> dict:
  return json.loads(config.to_json_best_effort())


def _write_config(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  if jax.process_index() == 0:
    atomic.save(workdir / 'config.json', config.to_json_best_effort(indent=2) + '\n')


def _export(method, workdir: epath.Path, state: TrainState, tokenizer: Tokenizer, mesh) -> None:
  """Lets the method write what other runs read, from parameters gathered on every process."""
  gather = jax.jit(lambda tree: tree, out_shardings=meshes.replicated(mesh))
  params = {name: gather(network.params) for name, network in state.networks.items()}
  if jax.process_index() == 0:
    method.export(workdir, jax.device_get(params), tokenizer)


def _next_steps(method, workdir: epath.Path) -> str:
  if not method.sample:
    return f'The trained encoder is in {workdir / "encoder"}.'
  return (f'Sample grids are in {workdir / "images"}.\n'
          f'To generate an image:  xmc sample --workdir {shlex.quote(str(workdir))} "a red apple"')
