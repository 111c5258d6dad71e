"""A shard: one file with many encoded images and their metadata, for random access.

  image, metadata   of example 0, of example 1, …: a JPEG, PNG or WebP file, then JSON
  index             one `INDEX` per example: where its parts end, their checksums, its mirror flag
  facts             JSON: which data set the shard belongs to
  tail              `TAIL`: number of examples, bytes of the facts, `MAGIC`

Numbers are little-endian. Reading a random 25 kB example takes about 9 µs of CPU, ArrayRecord 12 to
14 (array-record 0.8, groups of one, warm page cache), so speed does not decide between them. We
keep this container because it needs no compiled library, which tensorflow-datasets installs on
Linux only, and because its index answers what the pipeline asks of all examples before the first
batch.
"""
from __future__ import annotations

import json
import os
import pathlib
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from xmc_jax.types import UserError
from xmc_jax.utils import atomic, regular

INDEX = np.dtype([('metadata', '<u8'), ('end', '<u8'), ('image_crc', '<u4'),
                  ('metadata_crc', '<u4'), ('flippable', '?')])
TAIL = struct.Struct('<QQ8s')
MAGIC = b'xmcrec01'


class StoredExample(NamedTuple):
  """What a shard stores of one captioned image.

  Attributes:
    image: bytes of a JPEG, PNG or WebP file.
    metadata: captions, labels and so on; must be valid JSON.
    flippable: whether the captions stay true of the mirror image.
  """
  image: bytes
  metadata: dict[str, Any]
  flippable: bool


def write(path: pathlib.Path, facts: Callable[[], dict[str, Any]],
          examples: Iterable[StoredExample]) -> None:
  """Writes a shard. The file appears under its name only when it is complete.

  `facts` is called after the last example has been written.
  """
  index, end = [], 0
  with atomic.whole(path) as unfinished, open(unfinished, 'wb') as file:
    for example in examples:
      metadata = json.dumps(example.metadata, ensure_ascii=False).encode()
      file.write(example.image)
      file.write(metadata)
      middle, end = end + len(example.image), end + len(example.image) + len(metadata)
      index.append((middle, end, zlib.crc32(example.image), zlib.crc32(metadata),
                    example.flippable))
    text = json.dumps(facts()).encode()
    file.write(np.array(index, INDEX).tobytes())
    file.write(text)
    file.write(TAIL.pack(len(index), len(text), MAGIC))


class Shard:
  """Random access to a shard. Threads may share it; a pickled copy opens the file again.

  Attributes:
    path: of the file.
    facts: JSON, as given to `write`.
    index: array of `INDEX`.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the index.

    Raises:
      UserError: there is no such file, or it is not a complete shard.
    """
    self.path, self._file = path, None
    try:
      regular.check(path)
      with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - TAIL.size, 0))
        tail = file.read()
        number, length, magic = TAIL.unpack(tail) if len(tail) == TAIL.size else (0, 0, b'')
        after = size - TAIL.size - length - number * INDEX.itemsize
        if magic != MAGIC or after < 0:
          raise self.damaged('its end is missing')
        file.seek(after)
        self.index = np.frombuffer(file.read(number * INDEX.itemsize), INDEX)
        self.facts = json.loads(file.read(length))
    except OSError as error:
      raise UserError(f'{path}: cannot be read ({error.strerror}); copy or prepare the data set '
                      'again') from error
    except ValueError as error:
      raise self.damaged('its facts are not JSON') from error
    if number and self.index['end'][-1] != after:
      raise self.damaged('its length is wrong')

  def __len__(self) -> int:
    return len(self.index)

  def image(self, at: int) -> bytes:
    """Returns the encoded image of example `at`. UserError if it is damaged."""
    start = int(self.index['end'][at - 1]) if at else 0
    stop, _, crc, _, _ = self.index[at].item()
    return self._read(at, start, stop, crc)

  def metadata(self, at: int) -> dict[str, Any]:
    """Returns the metadata of example `at`. UserError if it is damaged."""
    start, stop, _, crc, _ = self.index[at].item()
    return json.loads(self._read(at, start, stop, crc))

  def damaged(self, what: str) -> UserError:
    """Returns the error for a damaged shard; `what` says how it is damaged."""
    return UserError(f'{self.path} is damaged: {what}; copy the data set again, or delete this '
                     'file and prepare it again')

  def _read(self, at: int, start: int, stop: int, crc: int) -> bytes:
    file = self._file
    if file is None:  # if two threads come here at once, each keeps its own file until it has read
      file = self._file = open(self.path, 'rb', buffering=0)  # noqa: SIM115
    try:
      data = os.pread(file.fileno(), stop - start, start)  # releases the GIL
    except OSError as error:      # which does not know the name
      error.filename = str(self.path)
      raise
    if zlib.crc32(data) != crc:
      raise self.damaged(f'the checksum of example {at} is wrong')
    return data

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_file': None}
