"""What each command of `xmc` does with its flags."""
from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence

from absl import flags

from xmc_jax import __version__
from xmc_jax.cli import config_file
from xmc_jax.types import UserError
from xmc_jax.utils.text_lines import read_lines


@dataclasses.dataclass(frozen=True)
class Command:
  """`define(values, argv)` adds its flags, `run(values, *words)` does it.

  needs  flags that have to be given; another in `instead` makes up for them
  words  names of the words that are no flags, such as 'list|get|check'
  """
  run: Callable[..., None]
  define: Callable[[flags.FlagValues, Sequence[str]], None]
  needs: tuple[str, ...] = ('workdir',)
  instead: str | None = None
  words: tuple[str, ...] = ()


def _train(values: flags.FlagValues) -> None:
  with _processes(values):
    from xmc_jax.train import train
    train(values.config, values.workdir)


def _train_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  config_file.define(values, argv)
  flags.DEFINE_string('workdir', None, 'Folder of the run; what is there is resumed.',
                      flag_values=values)
  _process_flags(values)


def _sample(values: flags.FlagValues) -> None:
  captions = list(values.caption)
  if values.captions:
    captions += read_lines(values.captions, '--captions')
  with _processes(values):
    from xmc_jax.cli.sample import sample
    sample(values.workdir, captions, out=values.out, each=values.each, seed=values.seed,
           truncation=values.truncation, live=values.live, step=values.step,
           text_encoder=values.text_encoder)


def _sample_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  _run_flags(values)
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  flags.DEFINE_multi_string('caption', [], 'What to draw; may be given several times.',
                            flag_values=values)
  text('captions', None, 'File with one caption a line.', flag_values=values)
  text('out', None, 'Folder for the images; default: WORKDIR/samples.', flag_values=values)
  number('each', 4, 'Images of every caption.', lower_bound=1, flag_values=values)
  flags.DEFINE_float('truncation', None, 'Noise beyond this is drawn again; default: none.',
                     flag_values=values)


def _evaluate(values: flags.FlagValues) -> None:
  from xmc_jax.training.mesh import one_cpu_device_a_core
  one_cpu_device_a_core()
  with _processes(values):
    if values.images or values.reference:
      from xmc_jax.evaluate import compare
      if not (values.images and values.reference):
        raise UserError('give two folders: --images, which is scored, and --reference, real images')
      compare(values.images, values.reference, protocol=values.protocol or 'tf2015',
              workdir=values.workdir, random_seed=values.random_weights)
      return
    if values.soa:
      from xmc_jax.evaluate_soa import evaluate_soa
      evaluate_soa(values.workdir, values.soa, out=values.out, detector=values.detector,
                   seed=values.seed, step=values.step, live='live' in values.weights,
                   text_encoder=values.text_encoder)
      return
    from xmc_jax.evaluate import evaluate
    evaluate(values.workdir, protocol=values.protocol, fakes=values.fakes, seed=values.seed,
             step=values.step, every=values.every, follow=values.follow, weights=values.weights,
             metrics=values.metrics, random_seed=values.random_weights,
             text_encoder=values.text_encoder)


def _evaluate_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  text, several, yes = flags.DEFINE_string, flags.DEFINE_list, flags.DEFINE_bool
  text('workdir', None, 'Folder of a trained run; or, with --images, where to keep the scores.',
       flag_values=values)
  text('protocol', None, "The protocol, see docs/evaluation.md; default: the run's "
       'config.evals.protocol, or tf2015 with --images.', flag_values=values)
  text('images', None, 'Score this folder of images instead of a run.', flag_values=values)
  text('reference', None, 'The folder of real images, with --images.', flag_values=values)
  flags.DEFINE_integer('fakes', None, 'Images to draw; default: as the protocol says.',
                       lower_bound=2, flag_values=values)
  _draw_flags(values)
  yes('every', False, 'Score every checkpoint that has no score yet.', flag_values=values)
  yes('follow', False, 'The same, then each new one, until the run has ended.', flag_values=values)
  several('weights', ['averaged'], 'averaged, live or both: averaged,live.', flag_values=values)
  several('metrics', [], 'Extra metrics: clip, cmmd, damsm, duplicates.', flag_values=values)
  text('soa', None, 'Folder of label_XX_name.pkl caption files: semantic object accuracy instead.',
       flag_values=values)
  text('out', None, 'Where to write the images for the public scorer, with --soa.',
       flag_values=values)
  text('detector', None, 'package.module:function that makes a detector, with --soa.',
       flag_values=values)
  flags.DEFINE_integer('random_weights', None, 'Seed of random weights for the network of the '
                       'protocol: a trial whose numbers mean nothing.', flag_values=values)
  _process_flags(values)


def _run_flags(values: flags.FlagValues) -> None:
  """Flags of commands that take a trained run."""
  flags.DEFINE_string('workdir', None, 'Folder of a trained run.', flag_values=values)
  flags.DEFINE_bool('live', False, 'Use the live weights, not their moving average.',
                    flag_values=values)
  _draw_flags(values)
  _process_flags(values)


def _draw_flags(values: flags.FlagValues) -> None:
  """Flags of commands that draw images."""
  flags.DEFINE_integer('seed', 0, 'Of the noise: same seed, same images.', lower_bound=0,
                       upper_bound=2**32 - 1, flag_values=values)
  flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.', flag_values=values)
  flags.DEFINE_string('text_encoder', None, "Folder of the run's text encoder, where it is not the "
                      'one that its config names.', flag_values=values)


def _process_flags(values: flags.FlagValues) -> None:
  """Flags of commands that may run as several processes."""
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  flags.DEFINE_bool('distributed', False, 'One of several processes, as Cloud TPU, SLURM, '
                    'Kubernetes or Open MPI started them.', flag_values=values)
  text('coordinator', None, 'HOST:PORT of process 0, where nothing of that kind started them.',
       flag_values=values)
  number('processes', None, 'How many there are, with --coordinator.', flag_values=values)
  number('process', None, 'Which of them this is, from 0, with --coordinator.',
         flag_values=values)
  number('heartbeat', 60, 'Seconds of silence after which another process counts as dead.',
         lower_bound=1, flag_values=values)
  number('wait', 300, 'Seconds to wait for all processes to come.', lower_bound=1,
         flag_values=values)


def _processes(values: flags.FlagValues) -> contextlib.AbstractContextManager:
  import jax

  from xmc_jax.distributed import processes
  return processes.joined(
      distributed=values.distributed, coordinator=values.coordinator, processes=values.processes,
      process=values.process, heartbeat=values.heartbeat, wait=values.wait,
      facts={'the version of xmc_jax': __version__, 'the version of jax': jax.__version__},
      command='xmc')


def _describe(values: flags.FlagValues) -> None:
  from xmc_jax.cli import describe
  found = describe.describe(values.config, compile_step=values.compile)
  print(json.dumps(found) if values.json else describe.table(found))


def _describe_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  config_file.define(values, argv)
  flags.DEFINE_bool('json', False, 'Print JSON with every shape.', flag_values=values)
  flags.DEFINE_bool('compile', True, 'Compile the step to tell its FLOPs and memory.',
                    flag_values=values)


def _weights(values: flags.FlagValues, do: str = 'list', *names: str) -> None:
  from xmc_jax.cli import weights
  if do == 'list':
    weights.list_()
  elif do == 'check':
    weights.check(names)
  elif do == 'get' and names:
    for name in names:
      weights.get(name, force=values.force)
  else:
    raise UserError('usage: xmc weights list | get NAME ... [--force] | check [NAME ...]')


def _weights_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  flags.DEFINE_bool('force', False, 'Download what is here already.', flag_values=values)


def _prepare(values: flags.FlagValues, *names: str) -> None:
  from xmc_jax.cli import prepare
  if values.check:
    prepare.check(values.check)
  elif not names:
    prepare.list_()
  elif len(names) == 1:
    fields = dataclasses.fields(prepare.Wishes)
    wishes = prepare.Wishes(**{field.name: values[field.name].value for field in fields})
    prepare.prepare(names[0], wishes)
  else:
    raise UserError('usage: xmc prepare DATASET --source DIR | prepare --check FOLDER | prepare')


def _prepare_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  text, number, share = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
  text('source', None, 'Folder of the original files.', flag_values=values)
  text('out', None, 'Folder to prepare; default: data/DATASET-SIZE, or in XMC_JAX_DATA.',
       flag_values=values)
  flags.DEFINE_multi_string('option', [], "KEY=VALUE of the data set's own; may be given several "
                            'times.', flag_values=values)
  number('size', None, 'Pixels of a side of the square that training takes; default: of the set.',
         lower_bound=8, flag_values=values)
  share('margin', None, "Shorter side of a stored image by --size; default: the set's.",
        flag_values=values)
  text('codec', None, 'jpeg, png or webp; default: of the set.', flag_values=values)
  number('quality', 90, 'Of JPEG and WebP.', lower_bound=1, upper_bound=100, flag_values=values)
  number('shard_examples', 2048, 'Images of one file.', lower_bound=1, flag_values=values)
  number('workers', None, 'Processes; default: one a core, or only one where that is enough.',
         lower_bound=1, flag_values=values)
  number('hosts', 1, 'Machines that prepare one shared folder together.', lower_bound=1,
         flag_values=values)
  number('host', 0, 'Which of them this is, from 0.', lower_bound=0, flag_values=values)
  share('most_bad', 0.01, 'Largest share of unusable images in a split.', lower_bound=0,
        upper_bound=1, flag_values=values)
  flags.DEFINE_bool('force', False, 'Prepare anew what is there.', flag_values=values)
  text('check', None, 'Check the hashes of this prepared folder instead.', flag_values=values)


def _report(values: flags.FlagValues, *runs: str) -> None:
  from xmc_jax.report.report import report
  print(report(runs or [values.workdir], out=values.out, across_protocols=values.across_protocols))


def _report_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
  flags.DEFINE_string('workdir', None, 'Folder of a run.', flag_values=values)
  flags.DEFINE_string('out', None, 'The page; default: report.html in the (first) run.',
                      flag_values=values)
  flags.DEFINE_bool('across_protocols', False, 'Show scores of different protocols side by side; '
                    'they are not comparable.', flag_values=values)


COMMANDS: dict[str, Command] = {
    'train': Command(_train, _train_flags, ('config', 'workdir')),
    'sample': Command(_sample, _sample_flags),
    'evaluate': Command(_evaluate, _evaluate_flags, instead='images'),
    'report': Command(_report, _report_flags, (), words=('RUN',)),
    'prepare': Command(_prepare, _prepare_flags, (), words=('DATASET',)),
    'weights': Command(_weights, _weights_flags, (), words=('list|get|check', 'NAME')),
    'describe': Command(_describe, _describe_flags, ('config',))}


