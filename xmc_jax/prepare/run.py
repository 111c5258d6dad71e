"""A preparation from beginning to end. The same call continues after a stop.

  Original --pool, several processes and hosts--> *.rec --finishing--> a folder to train from

A shard is a function of the original and the settings alone, and appears under its name when it is
complete. So a stop loses only shards in progress, and any number of processes and hosts makes the
same bytes.
"""
from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from xmc_jax.data import records
from xmc_jax.prepare import estimate, finishing, pool
from xmc_jax.prepare.estimate import gigabytes
from xmc_jax.prepare.job import Job, shard_facts
from xmc_jax.types import UserError
from xmc_jax.utils import atomic, lock, machine
from xmc_jax.utils.progress import Progress, duration

IMAGES = 'images'
NEW = '.new'     # folder of a set that is prepared again
WORTH = 15.0     # seconds of work below which starting other processes does not pay


def prepare(job: Job, *, workers: int | None = None, host: int = 0, hosts: int = 1,
            most_bad: float = 0.01, force: bool = False) -> dict[str, Any] | None:
  """Writes the shards that do not exist yet, and the manifest if all shards exist.

  Args:
    job: the data set, how images are stored, and the folder.
    workers: number of processes on this machine. None: one per core, or only this process if there
      is little to do.
    host, hosts: index and number of the machines that share the folder. This one writes the shards
      host, host + hosts, …
    most_bad: largest fraction of a split's images that may be unusable.
    force: write all shards again, once the original has been found to be usable.

  Returns:
    The manifest, or None while shards of other hosts are missing.

  Raises:
    UserError: the folder has shards with other settings or files of something else, the disk is too
      small, too many images cannot be used, the reader finds a mistake, or the work was stopped
      (`pool.Stopped`).
  """
  if not job.original.counts.get('train'):
    left_out = ', '.join(f'{n:,} {why}' for why, n in job.original.left_out.items())
    raise UserError(f'--source: {job.original.name} has no images to train on'
                    f'{f" (left out: {left_out})" if left_out else ""}; add some')
  with _alone(job, host):
    if not force:
      return _prepare(job, workers, host, hosts, most_bad)
    return _prepare_again(job, workers, host, hosts, most_bad)


def _prepare_again(job: Job, workers: int | None, host: int, hosts: int, most_bad: float
                   ) -> dict[str, Any] | None:
  """Prepares the set in a hidden folder inside, so that what is there stays until it is complete.

  Inside, and so on the same disk also where the folder is a link or a mounted disk.
  """
  _refuse_foreign(job)
  new = dataclasses.replace(job, folder=job.folder / NEW)
  shards = {new.path(split, number).name: (split, number) for split, total in new.shards.items()
            for number in range(total)}
  # Of an earlier attempt with other settings.
  stale = [path for path in _shards(new.folder)
           if path.name not in shards or not _is_current(new, shards[path.name])]
  manifest = new.folder / records.MANIFEST
  if stale or not manifest.exists():      # else only the last moves were cut off
    new.folder.mkdir(parents=True, exist_ok=True)
    for path in (manifest, *stale):
      path.unlink(missing_ok=True)
    if not _make_shards(new, workers, host, hosts, most_bad):
      return None
  with lock.turn(job.folder / f'{lock.NAME}.end', remove=True):
    if not _shards(new.folder):      # another host that ended at the same time has moved them
      return records.read_manifest(job.folder)
    if not manifest.exists():
      _finish(new, most_bad)
    (job.folder / records.MANIFEST).unlink(missing_ok=True)
    for path in _shards(job.folder):
      if path.name not in shards:
        path.unlink(missing_ok=True)
    for path in sorted(new.folder.iterdir(), key=lambda path: path == manifest):
      if path == manifest:      # the last: a set without it is not complete
        atomic.sync(job.folder)
      os.replace(path, job.folder / path.name)
    atomic.sync(job.folder)
    with contextlib.suppress(OSError):
      new.folder.rmdir()
  return records.read_manifest(job.folder)


def _prepare(job: Job, workers: int | None, host: int, hosts: int, most_bad: float
             ) -> dict[str, Any] | None:
  _refuse_foreign(job)
  if not _make_shards(job, workers, host, hosts, most_bad):
    return None
  if (job.folder / records.MANIFEST).exists():
    print(f'{job.folder} is already prepared; --force prepares it again')
    return records.read_manifest(job.folder)
  return _finish(job, most_bad)


def _make_shards(job: Job, workers: int | None, host: int, hosts: int, most_bad: float) -> bool:
  """Writes the shards of this host that are missing; whether those of all hosts are there.

  A manifest stays only if nothing was written.
  """
  own = [(split, number) for split, total in job.shards.items() for number in range(total)]
  everything, own = own, own[host::hosts]
  manifest = job.folder / records.MANIFEST
  _check_settings(job)
  count_missing = lambda: sum(not job.path(*shard).exists() for shard in everything)
  if manifest.exists() and (missing := count_missing()):
    print(f'{missing} of {len(everything)} shards are missing and are written again')
    manifest.unlink(missing_ok=True)
  bad, todo = _find_work(job, own, most_bad)
  if todo:
    manifest.unlink(missing_ok=True)
    _make(job, todo, workers, bad, most_bad)
  if missing := count_missing():
    print(f'host {host} of {hosts} is done; {missing} shards of other hosts are missing, and the '
          'last host finishes the folder')
  return not missing


def _finish(job: Job, most_bad: float) -> dict[str, Any]:
  found = finishing.finish(job, most_bad)
  print(summary(found))
  return found


@contextlib.contextmanager
def _alone(job: Job, host: int) -> Iterator[None]:
  """Waits while this host prepares the same folder in another process; no file is left behind."""
  new = not job.folder.exists()
  job.folder.mkdir(parents=True, exist_ok=True)
  if not os.access(job.folder, os.W_OK):      # so nothing in it will be written
    yield
    return
  wait = lambda: print(f'{job.folder} is being prepared by another process; waiting for it',
                       flush=True)
  try:
    with lock.turn(job.folder / f'{lock.NAME}.{host}', wait=wait, remove=True):
      yield
  finally:
    if new:
      with contextlib.suppress(OSError):      # it is not empty
        job.folder.rmdir()


def _shards(folder: pathlib.Path) -> list[pathlib.Path]:
  """The shards in a folder by their names; other programs have .rec files too."""
  return sorted(filter(records.is_shard, folder.glob('*.rec')))


def _refuse_foreign(job: Job) -> None:
  """UserError if files that would be replaced are there, but nothing of a prepared data set."""
  names = [name for name in (records.MANIFEST, finishing.BAD, finishing.TOKENIZER)
           if (job.folder / name).exists()]
  if not names or _shards(job.folder):
    return
  try:
    records.read_manifest(job.folder)
  except UserError as error:
    raise UserError(f'{job.folder / names[0]} is of something else than a prepared data set, and '
                    'would be replaced; choose another folder with --out') from error


def _is_current(job: Job, shard: pool.ShardKey) -> bool:
  """Whether a shard exists and is what this preparation would write, but for its images."""
  try:
    facts = shard_facts(job.path(*shard))
  except (UserError, OSError):      # missing, damaged, or another host is replacing it
    return False
  return (facts.get('settings') == _settings(job)
          and facts.get('fingerprint') == job.fingerprint(*shard))


def _settings(job: Job) -> dict[str, Any]:
  """The settings as shards hold them."""
  return json.loads(json.dumps(job.facts()))


def _check_settings(job: Job) -> None:
  """Raises UserError if the folder has a shard that this preparation would not write."""
  wanted = _settings(job)
  known = {path.name for split, number in job.shards.items()
           for path in (job.path(split, i) for i in range(number))}
  for path in _shards(job.folder):
    records.open_shard(path, job.info)
    found = shard_facts(path).get('settings', {})
    changed = [key for key in wanted if found.get(key) != wanted[key]]
    if changed or path.name not in known:
      changes = '; '.join(f'{key} was {found.get(key)} and is {wanted[key]}' for key in changed)
      raise UserError(f'{job.folder} has images that were prepared with other settings '
                      f'({changes or f"{path.name} does not belong to this set"}); choose another '
                      'folder with --out, or delete this one')


def _find_work(job: Job, own: list[pool.ShardKey], most_bad: float
               ) -> tuple[dict[str, list[tuple[str, str]]], list[pool.ShardKey]]:
  """Returns {split: bad images} of the existing shards, and the shards that must be written.

  A shard with too many bad images is written again: they may have been repaired since. In a
  finished set, which has few enough as a whole, it is only if its examples have changed. UserError
  if another one has other images, captions, labels or boxes than its examples have now. Before the
  set is finished, a shard with other images is written again instead.
  """
  bad, todo = collections.defaultdict(list), []
  finished = (job.folder / records.MANIFEST).exists()
  there = {shard: shard_facts(job.path(*shard)) for shard in own if job.path(*shard).exists()}
  progress, done = Progress('images compared', sum(size_of(job, s) for s in there)), count(1)
  for shard in own:
    facts = there.get(shard)
    too_bad = facts and len(facts['bad']) > most_bad * size_of(job, shard)
    if facts is None or too_bad and not finished:
      todo.append(shard)
      continue
    other = _what_changed(job, shard, facts, lambda: progress.reach(next(done)))
    if other and (too_bad or other == IMAGES and not finished):
      todo.append(shard)
      continue
    if other:
      raise UserError(f'{job.path(*shard)} was prepared from other {other} than the original files '
                      'have now; prepare the set again with --force')
    bad[shard[0]] += map(tuple, facts['bad'])
  return bad, todo


def _what_changed(job: Job, shard: pool.ShardKey, facts: dict[str, Any],
                  tick: Callable[[], None]) -> str | None:
  """What of the original files is no longer as it was when an existing shard was written."""
  if facts.get('fingerprint') != job.fingerprint(*shard):
    return 'captions, labels or boxes'
  before = facts.get('images_fingerprint')      # older shards do not have it
  return IMAGES if before and before != job.images_fingerprint(*shard, tick) else None


def _make(job: Job, todo: list[pool.ShardKey], workers: int | None,
          bad: dict[str, list[tuple[str, str]]], most_bad: float) -> None:
  left = sum(size_of(job, shard) for shard in todo)
  each = estimate.measure(job, most_bad)
  if not workers:
    workers = 1 if left * each.seconds < WORTH else machine.cores()
  workers = min(workers, len(todo))
  estimate.report(job, left, workers, each)
  progress, began = Progress('images', left), time.perf_counter()
  with pool.stoppable():
    for (split, _), facts in pool.make(job, todo, workers, progress.reach):
      bad[split] += map(tuple, facts['bad'])
      finishing.check_bad(job, split, bad[split], most_bad)
  seconds = time.perf_counter() - began
  print(f'{left:,} images in {duration(seconds)}, {left / seconds:.3g} a second')


def size_of(job: Job, shard: pool.ShardKey) -> int:
  """Returns the number of the original's examples that belong to a shard."""
  split, number = shard
  return min(job.shard_examples, job.original.counts[split] - number * job.shard_examples)


def summary(manifest: dict[str, Any]) -> str:
  """Summarizes a prepared folder in a few lines."""
  lines = []
  for split, counts in manifest['counts'].items():
    size = sum(shard['bytes'] for shard in manifest['splits'][split])
    lines.append(f'{split}: {counts["examples"]:,} images, {counts["captions"]:,} captions, '
                 f'{gigabytes(size)}; {counts["enlarged"]:,} enlarged, {counts["cut"]:,} cut, '
                 f'{counts["kept"]:,} unchanged, {counts["bad"]:,} unusable')
    if number := counts.get('captions_in_other_scripts'):
      lines.append(f'{split}: {number:,} captions have words without Latin letters, or no word at '
                   'all, which the vocabulary of words does not have and an English text encoder '
                   f'does not know, first {counts["first_in_another_script"]!r}')
  lines += [f'left out: {number:,}, {why}' for why, number in manifest['left_out'].items()]
  if any(counts['bad'] for counts in manifest['counts'].values()):
    lines.append(f'{finishing.BAD} lists the unusable images with the reasons')
  return '\n'.join(lines)
