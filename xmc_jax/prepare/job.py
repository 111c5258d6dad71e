"""A preparation: which shards it makes, and how one of them is made, in any process."""
from __future__ import annotations

import dataclasses
import errno
import hashlib
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from xmc_jax.data import records
from xmc_jax.data.shards import Shard
from xmc_jax.prepare.images import EncodedImage, Storage, store
from xmc_jax.prepare.original import BadImage, Original, OriginalExample
from xmc_jax.types import UserError

# Errors that say nothing of an image: too many open files, a server or a link that is away.
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN,
            errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN)
TALLY = ('enlarged', 'cut', 'kept')     # fields of `EncodedImage`, counted in every shard


@dataclasses.dataclass(frozen=True)
class Job:
  """A data set, how its images are stored, and where. Can be pickled.

  Shard i of a split holds the usable ones of the original's examples i * shard_examples to
  (i + 1) * shard_examples - 1. It depends on nothing else.

  Attributes:
    original: the data set.
    folder: of the prepared data set.
    storage: how images are stored.
    shard_examples: examples of the original per shard.
    settings: the options of the data set, valid JSON.
  """
  original: Original
  folder: pathlib.Path
  storage: Storage
  shard_examples: int
  settings: dict[str, Any]

  @property
  def info(self) -> records.DatasetInfo:
    original = self.original
    return records.DatasetInfo(original.name, self.storage.size, tuple(original.class_names),
                         original.several_labels)

  @property
  def shards(self) -> dict[str, int]:
    """Returns {split: number of its shards}."""
    return {split: math.ceil(count / self.shard_examples)
            for split, count in self.original.counts.items()}

  def path(self, split: str, number: int) -> pathlib.Path:
    return records.shard_path(self.folder, split, number)

  def originals(self, split: str, number: int) -> Iterator[OriginalExample]:
    """The original's examples of a shard."""
    start = number * self.shard_examples
    stop = min(start + self.shard_examples, self.original.counts[split])
    return self.original.examples(split, start, stop)

  def fingerprint(self, split: str, number: int) -> str:
    """A hash of what the reader says of a shard's examples: captions, labels, boxes; no pixels."""
    digest = hashlib.sha256()
    for original in self.originals(split, number):
      digest.update(_said(original))
    return digest.hexdigest()

  def images_fingerprint(self, split: str, number: int, tick: Callable[[], None]) -> str:
    """A hash of the image files of a shard, all of which it reads; `tick` as in `write`."""
    digest = hashlib.sha256()
    for original in self.originals(split, number):
      try:
        _hashing(original, digest).image()
      except BadImage:
        pass
      except OSError as error:
        _refuse_passing(original, error)
      tick()
    return digest.hexdigest()

  def facts(self) -> dict[str, Any]:
    """Returns what decides the contents of the shards, as JSON reads it back."""
    files = {name: pathlib.Path(path).stat().st_size
             for name, path in sorted(self.original.files.items())}
    return {'storage': dataclasses.asdict(self.storage), 'shard_examples': self.shard_examples,
            'options': self.settings, 'counts': dict(self.original.counts), 'files': files}

  def write(self, split: str, number: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Writes a shard, replacing an existing one, and returns its facts.

    `tick` is called after every example.

    Raises:
      UserError: as the reader says.
    """
    path = self.path(split, number)
    path.unlink(missing_ok=True)
    facts = {'settings': self.facts(), 'bad': [], **dict.fromkeys(TALLY, 0)}
    some = self._examples(self.originals(split, number), facts, tick)
    records.write_shard(self.folder, self.info, split, number, some, facts)
    return facts

  def _examples(self, originals: Iterator[OriginalExample], facts: dict[str, Any],
                tick: Callable[[], None]) -> Iterator[records.Example]:
    digest, images = hashlib.sha256(), hashlib.sha256()
    for original in originals:
      digest.update(_said(original))
      try:
        encoded = encode_example(_hashing(original, images), self.storage)
      except BadImage as error:
        facts['bad'].append([original.name, str(error)])
      else:
        for what in TALLY:
          facts[what] += getattr(encoded, what)
        yield _example(original, encoded)
      tick()
    facts |= {'fingerprint': digest.hexdigest(), 'images_fingerprint': images.hexdigest()}


def _said(original: OriginalExample) -> bytes:
  """What the reader says of an example, but for its pixels."""
  o = original
  return repr((o.name, o.captions, o.labels, o.areas, o.box, o.flippable, sorted(o.more.items()))
              ).encode('utf-8', 'surrogatepass')


def _hashing(original: OriginalExample, digest: Any) -> OriginalExample:
  """The same example; when its image is read, the bytes are added to the digest."""
  def image() -> bytes:
    data = original.image()
    digest.update(len(data).to_bytes(8, 'little') + data)
    return data
  return dataclasses.replace(original, image=image)


def encode_example(original: OriginalExample, storage: Storage) -> EncodedImage:
  """Returns the image of an example as it is stored.

  Raises:
    BadImage: there is no image or caption.
    UserError: the image may be there and cannot be read at the moment.
  """
  if not any(caption.strip() for caption in original.captions):
    original.image()              # may raise a more specific error
    raise BadImage('it has no caption')
  try:
    data = original.image()
  except OSError as error:
    _refuse_passing(original, error)      # left out, it would be missing for good
    raise BadImage(error.strerror or str(error)) from error
  return store(data, storage, original.box)


def _refuse_passing(original: OriginalExample, error: OSError) -> None:
  """UserError if an error says nothing of the image that could not be read."""
  if error.errno in _PASSING:
    raise UserError(f'{original.name} cannot be read now ({error.strerror}); the same command goes '
                    'on') from error


def _example(original: OriginalExample, encoded: EncodedImage) -> records.Example:
  captions = tuple(caption.strip() for caption in original.captions if caption.strip())
  return records.Example(encoded.data, captions, tuple(original.labels), original.flippable,
                        {**original.more, 'name': original.name}, tuple(original.areas))


def shard_facts(path: pathlib.Path) -> dict[str, Any]:
  """Returns the facts of a shard that `Job.write` made. UserError if it is damaged."""
  return Shard(path).facts
