"""A preparation from beginning to end; the same call goes on after a stop.

  Original --shards, several processes and hosts--> *.rec --finishing--> a folder to train from

A shard is a function of the original and the settings alone, and gets its name when it is complete.
So a stop at any time loses only shards that are not complete, and any number of processes and hosts
makes the same bytes.
"""
from __future__ import annotations

import collections
import json
import time
from typing import Any

from xmc_jax.data import records
from xmc_jax.prepare import estimate, finishing, pool
from xmc_jax.prepare.estimate import gigabytes
from xmc_jax.prepare.job import Job, shard_facts
from xmc_jax.types import UserError
from xmc_jax.utils.progress import Progress, duration

WORTH = 15.0     # seconds of work that are worth the start of other processes


def prepare(job: Job, *, workers: int | None = None, host: int = 0, hosts: int = 1,
            most_bad: float = 0.01, force: bool = False) -> dict[str, Any] | None:
  """Makes the shards that are not there yet, and finishes the folder if all are.

  Args:
    job: the data set, how images are stored, and the folder.
    workers: processes of this machine; None: one a core, or only this one for a little work.
    host, hosts: this one of several machines that share the folder, from 0; it makes the shards
      host, host + hosts, …
    most_bad: the largest share of a split's images that may be left out because they cannot be
      used.
    force: make all shards anew.

  Returns:
    The manifest, or None while other hosts are still at work.

  Raises:
    UserError: the folder has shards of other settings, the disk is too small, too many images
      cannot be used, the reader finds a mistake, or the work was stopped.
  """
  mine = [(split, number) for split, total in job.shards.items() for number in range(total)]
  everything, mine = mine, mine[host::hosts]
  manifest = job.folder / records.MANIFEST
  if force:
    manifest.unlink(missing_ok=True)
    for shard in mine:
      job.path(*shard).unlink(missing_ok=True)
  _check_settings(job)
  if manifest.exists():
    print(f'{job.folder} is prepared already; --force makes it anew')
    return records.read_manifest(job.folder)
  bad, todo = _look(job, mine, most_bad)
  if todo:
    _make(job, todo, workers, bad, most_bad)
  if missing := sum(not job.path(*shard).exists() for shard in everything):
    print(f'host {host} of {hosts} is done; {missing} shards of other hosts are still to come, and '
          'who comes last finishes the folder')
    return None
  found = finishing.finish(job, most_bad)
  print(summary(job, found))
  return found


def _check_settings(job: Job) -> None:
  """Raises UserError if the folder has a shard that this preparation would not make."""
  ours = json.loads(json.dumps(job.facts()))
  known = {path.name for split, number in job.shards.items()
           for path in (job.path(split, i) for i in range(number))}
  for path in sorted(job.folder.glob('*.rec')):
    records.open_shard(path, job.about)
    theirs = shard_facts(path).get('settings', {})
    changed = [key for key in ours if theirs.get(key) != ours[key]]
    if changed or path.name not in known:
      told = '; '.join(f'{key} was {theirs.get(key)} and is {ours[key]}' for key in changed)
      raise UserError(f'{job.folder} has images that were prepared in another way '
                      f'({told or f"{path.name} is none of this set"}); choose another folder with '
                      '--out, or delete this one')


def _look(job: Job, mine: list[pool.Shard], most_bad: float
          ) -> tuple[dict[str, list[tuple[str, str]]], list[pool.Shard]]:
  """Bad images of the shards that are there, and which shards are to make.

  A shard with more bad images than allowed is made again: they may have been repaired since.
  """
  bad, todo = collections.defaultdict(list), []
  for shard in mine:
    path = job.path(*shard)
    those = shard_facts(path)['bad'] if path.exists() else None
    if those is None or len(those) > most_bad * size_of(job, shard):
      todo.append(shard)
    else:
      bad[shard[0]] += map(tuple, those)
  return bad, todo


def _make(job: Job, todo: list[pool.Shard], workers: int | None,
          bad: dict[str, list[tuple[str, str]]], most_bad: float) -> None:
  left = sum(size_of(job, shard) for shard in todo)
  each = estimate.measure(job, most_bad)
  if not workers:
    workers = 1 if left * each.seconds < WORTH else pool.cores()
  workers = min(workers, len(todo))
  estimate.tell(job, left, workers, each)
  job.folder.mkdir(parents=True, exist_ok=True)
  progress, began = Progress('images', left), time.perf_counter()
  for (split, _), facts in pool.make(job, todo, workers, progress.reach):
    bad[split] += map(tuple, facts['bad'])
    finishing.check_bad(job, split, bad[split], most_bad)
  seconds = time.perf_counter() - began
  print(f'{left:,} images in {duration(seconds)}, {left / seconds:.3g} a second')


def size_of(job: Job, shard: pool.Shard) -> int:
  """Examples of the original that belong to a shard."""
  split, number = shard
  return min(job.shard_examples, job.original.counts[split] - number * job.shard_examples)


def summary(job: Job, manifest: dict[str, Any]) -> str:
  """What a prepared folder has, in a few lines."""
  lines = []
  for split, counts in manifest['counts'].items():
    size = sum(shard['bytes'] for shard in manifest['splits'][split])
    lines.append(f'{split}: {counts["examples"]:,} images, {counts["captions"]:,} captions, '
                 f'{gigabytes(size)}; {counts["enlarged"]:,} enlarged, {counts["cut"]:,} cut, '
                 f'{counts["kept"]:,} as they were, {counts["bad"]:,} unusable')
  lines += [f'left out: {number:,}, {why}' for why, number in manifest['left_out'].items()]
  if any(counts['bad'] for counts in manifest['counts'].values()):
    lines.append(f'{job.folder / finishing.BAD} says which are unusable and why')
  return '\n'.join(lines)
