"""Damage of files, by their formats: what tools/fuzz.py does to good inputs."""
from __future__ import annotations

import json
import os
import pathlib
from random import Random


def damaged_bytes(data: bytes, random: Random) -> tuple[str, bytes]:
  """(what was done, the bytes after it)."""
  at = random.randrange(max(len(data), 1))
  bit = bytes([data[at] ^ 1 << random.randrange(8)]) if data else b''
  return random.choice([
      ('cut', data[:at]), ('emptied', b''), ('bit flipped', data[:at] + bit + data[at + 1:]),
      ('zeroed', data[:at] + bytes(min(64, len(data) - at)) + data[at + 64:]),
      ('all zero', bytes(len(data))), ('a web page', b'<!DOCTYPE html><html>404</html>\n'),
      ('noise', random.randbytes(200)), ('doubled', data + data), ('longer', data + b'\0' * 9),
      ('a git-lfs pointer', b'version https://git-lfs.github.com/spec/v1\noid sha256:'
                            + b'0' * 64 + b'\nsize 12345\n')])


def damaged_text(data: bytes, random: Random) -> tuple[str, bytes]:
  lines = data.splitlines(keepends=True)
  at = random.randrange(max(len(lines), 1))
  return random.choice([
      damaged_bytes(data, random), ('byte order mark', b'\xef\xbb\xbf' + data),
      ('UTF-16', data.decode(errors='replace').encode('utf-16')),
      ('Latin-1', 'é ü ß ñ'.encode('latin-1') + data), ('CRLF', data.replace(b'\n', b'\r\n')),
      ('NUL inside', data[:at] + b'\0' + data[at:]), ('a line twice', b''.join(lines + lines[at:])),
      ('a line missing', b''.join(lines[:at] + lines[at + 1:])),
      ('a long line', data + b'word ' * 50_000 + b'\n'), ('blank lines', data + b'\n\n \n'),
      ('an open quote', b'"' + data), ('other separator', data.replace(b',', b';')),
      ('lines reversed', b''.join(reversed(lines))),
      ('line separators', '\u2028\u0085'.encode() + data)])


VALUES = (None, True, -1, 0, 10 ** 30, 1.5, float('nan'), float('inf'), '', 'x', '../../x', '\0',
          [], {}, [None], [[[]]], {'a': {}}, 'ü' * 300)


def damaged_lines(data: bytes, random: Random) -> tuple[str, bytes]:
  return damaged_json(data, random, [json.loads(line) for line in data.splitlines()])


def damaged_json(data: bytes, random: Random, rows: list | None = None) -> tuple[str, bytes]:
  """One value replaced or removed, somewhere; or damage of the text itself."""
  if random.random() < 0.3:
    return damaged_text(data, random)
  tree = rows if rows is not None else json.loads(data)
  places = []

  def walk(node):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
      places.append((node, key))
      if isinstance(value, (dict, list)) and value and len(places) < 10_000:
        walk(value)
  walk([tree] if not isinstance(tree, (dict, list)) else tree)
  if not places:
    return damaged_text(data, random)
  node, key = random.choice(places)
  if random.random() < 0.3:
    what = f'{key!r} removed'
    del node[key]
  else:
    value = random.choice(VALUES)
    what = f'{key!r} = {value!r:.20}'
    node[key] = value
  text = '\n'.join(map(json.dumps, rows)) + '\n' if rows is not None else json.dumps(tree)
  return what, text.encode()


def damage_file(path: pathlib.Path, random: Random) -> str:
  """Damages a file in the way of its format, or puts something else in its place."""
  if random.random() < 0.08:
    path.unlink()
    return random.choice([
        lambda: 'missing', lambda: path.mkdir() or 'a folder',
        lambda: path.symlink_to('nowhere') or 'a broken link', lambda: os.mkfifo(path) or 'a FIFO',
        lambda: path.symlink_to(path.parent) or 'a link to its folder'])()
  by_format = {'.json': damaged_json, '.jsonl': damaged_lines, '.txt': damaged_text,
               '.csv': damaged_text, '.py': damaged_text}
  what, data = by_format.get(path.suffix, damaged_bytes)(path.read_bytes(), random)
  path.write_bytes(data)
  return what
