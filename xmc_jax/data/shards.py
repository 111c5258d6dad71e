"""A shard: a file of encoded images with their words, each one read away.

  images and words   of example 0, of example 1, …: a JPEG, PNG or WebP file, then JSON
  index                one `INDEX` an example: where its parts end, their checksums, its flag
  facts                JSON: what the shard is a part of
  tail                 `TAIL`: number of examples, bytes of the facts, `MAGIC`

Numbers are little-endian. The container is our own because reading a random example of 25 kB then
takes 7 µs of a core, where ArrayRecord's Python reader took 53, and needs no compiled library.
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
from xmc_jax.utils import atomic

INDEX = np.dtype([('words', '<u8'), ('end', '<u8'), ('image_crc', '<u4'), ('words_crc', '<u4'),
                  ('flippable', '?')])
TAIL = struct.Struct('<QQ8s')
MAGIC = b'xmcrec01'


class Example(NamedTuple):
  """What a shard stores of one image.

  image    the bytes of a JPEG, PNG or WebP file
  words      captions, labels and the like, ready for JSON
  flippable  whether the words stay true of the mirror image
  """
  image: bytes
  words: dict[str, Any]
  flippable: bool


def write(path: pathlib.Path, facts: Callable[[], dict[str, Any]],
          examples: Iterable[Example]) -> None:
  """Writes a shard; the file gets its name when it is complete, so that a kill leaves no half.

  `facts` is called when the last example has been written.
  """
  index, end = [], 0
  with atomic.whole(path) as unfinished, open(unfinished, 'wb') as file:
    for example in examples:
      words = json.dumps(example.words, ensure_ascii=False).encode()
      file.write(example.image)
      file.write(words)
      middle, end = end + len(example.image), end + len(example.image) + len(words)
      index.append((middle, end, zlib.crc32(example.image), zlib.crc32(words),
                    example.flippable))
    text = json.dumps(facts()).encode()
    file.write(np.array(index, INDEX).tobytes())
    file.write(text)
    file.write(TAIL.pack(len(index), len(text), MAGIC))
    file.flush()
    os.fsync(file.fileno())


class Shard:
  """Random access to a shard. Threads may share it; a copy in another process opens it anew.

  facts  what `write` was given, JSON
  index  array of `INDEX`
  """

  def __init__(self, path: pathlib.Path):
    """Reads the index.

    Raises:
      UserError: if there is no such file, or it is not a whole shard.
    """
    self.path, self._file = path, None
    try:
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
      raise UserError(f'{path} cannot be read ({error.strerror}); copy or prepare the data set '
                      'again.') from error
    except ValueError as error:
      raise self.damaged('its facts are not JSON') from error
    if number and self.index['end'][-1] != after:
      raise self.damaged('its length is wrong')

  def __len__(self) -> int:
    return len(self.index)

  def image(self, at: int) -> bytes:
    """The encoded image of example `at`. UserError if it is damaged."""
    start = int(self.index['end'][at - 1]) if at else 0
    stop, _, crc, _, _ = self.index[at].item()
    return self._read(at, start, stop, crc)

  def words(self, at: int) -> dict[str, Any]:
    """The words of example `at`. UserError if they are damaged."""
    start, stop, _, crc, _ = self.index[at].item()
    return json.loads(self._read(at, start, stop, crc))

  def damaged(self, what: str) -> UserError:
    return UserError(f'{self.path} is damaged: {what}; copy the data set again, or delete this '
                     'file and prepare it again.')

  def _read(self, at: int, start: int, stop: int, crc: int) -> bytes:
    file = self._file
    if file is None:  # a thread that loses this race keeps its own until it has read
      file = self._file = open(self.path, 'rb', buffering=0)  # noqa: SIM115
    data = os.pread(file.fileno(), stop - start, start)  # other threads run meanwhile
    if zlib.crc32(data) != crc:
      raise self.damaged(f'the checksum of example {at} is wrong')
    return data

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {'_file': None}
