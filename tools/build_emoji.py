"""Writes the embedded image set: xmc_jax/data/embedded/assets/emoji.npz and emoji.json.

    python tools/build_emoji.py [--google TGZ] [--emojibase TGZ] [--out FOLDER]

Images: the 1,911 base images of Google's Noto Emoji, 64 x 64 with alpha, from the npm package
`emoji-datasource-google`. Words: names and keywords of Unicode's CLDR, from `emojibase-data`.
Without the two flags the packages are fetched by `npm pack`, at the versions named below.

emoji.npz holds `bytes` uint8 [total], the concatenated WebP files, and `ends` int64 [n], the end of
each file. emoji.json holds one record per image, in the same order: hexcode, name, phrase (the name
with its article), keywords, group, subgroup, kind (the subgroup in words), colours (none to two
that cover much of the image; none where the name has a color), heldout. Needs Pillow with WebP;
everything is deterministic.
"""
from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

import emoji_words
import numpy as np
from PIL import Image

from xmc_jax.data.embedded.emoji_colors import NAMED, colors

GOOGLE = 'emoji-datasource-google@16.0.0'
EMOJIBASE = 'emojibase-data@17.0.0'
ASSETS = pathlib.Path(__file__).resolve().parent.parent / 'xmc_jax' / 'data' / 'embedded' / 'assets'
HELDOUT = 0.1  # fraction of every subgroup that is held out
QUALITY = 95


def pack(package: str, folder: str) -> pathlib.Path:
  """Fetches `name@version` from the npm registry into `folder`; returns the .tgz file's path."""
  done = subprocess.run(['npm', 'pack', '--silent', package], cwd=folder, capture_output=True,
                        text=True)
  if done.returncode:
    sys.exit(f'npm pack {package} failed: {done.stderr.strip()}')
  return pathlib.Path(folder, done.stdout.split()[-1])


def read_google(tgz: pathlib.Path) -> tuple[list[dict], dict[str, Image.Image]]:
  """Returns the datasource's records and {hexcode: RGBA image, 64 x 64}."""
  with tarfile.open(tgz) as archive:
    records = json.load(archive.extractfile('package/emoji.json'))
    files = {f"package/img/google/64/{r['image']}": r['unified'] for r in records}
    images = {files[m.name]: Image.open(io.BytesIO(archive.extractfile(m).read())).convert('RGBA')
                for m in archive if m.name in files}
  return records, images


def read_emojibase(tgz: pathlib.Path) -> tuple[dict[str, dict], dict]:
  """Returns {hexcode without its variation selectors: record} and the names of the groups."""
  with tarfile.open(tgz) as archive:
    records = json.load(archive.extractfile('package/en/data.json'))
    groups = json.load(archive.extractfile('package/meta/groups.json'))
  return {bare(record['hexcode']): record for record in records}, groups


def bare(hexcode: str) -> str:
  return '-'.join(part for part in hexcode.upper().split('-') if part != 'FE0F')


def keywords(tags: list[str], name: str) -> list[str]:
  """Up to four of CLDR's keywords that add a word to the name, in CLDR's order.

  A keyword that only inflects a word of the name or of an earlier keyword ("run", "running") adds
  none; slang ("haha", "lol") is left out.
  """
  chosen: list[str] = []
  seen = set(re.findall(r'[a-z]+', name.lower()))
  for tag in tags:
    tag = emoji_words.plain(tag)
    words = re.findall(r'[a-z]+', tag.lower())
    new = [w for w in words if not any(inflects(w, s) for s in seen)]
    if new and len(tag) > 2 and tag.isascii() and tag not in emoji_words.SLANG:
      chosen.append(tag)
      seen.update(words)
    if len(chosen) == 4:
      break
  return chosen


def inflects(a: str, b: str) -> bool:
  """Whether two words are likely to be forms of one: "run" and "running", "smile" and "smiling"."""
  return a[:4] == b[:4] or (min(len(a), len(b)) == 3 and a[:3] == b[:3])


def twins(images: dict[str, Image.Image]) -> dict[str, str]:
  """Returns {hexcode: representative hexcode}: same pixels, or the same figure facing right."""
  by_pixels: dict[bytes, str] = {}
  leader = {}
  for code in sorted(images):
    left = bare(code).replace('-200D-27A1', '')
    first = by_pixels.setdefault(images[code].tobytes(), left)
    leader[code] = leader.get(first, first)
  return leader


def heldout(records: list[dict], leader: dict[str, str]) -> set[str]:
  """Returns the hexcodes of the held-out images: `HELDOUT` of each subgroup, by hash of the leader.

  Twins are in the same split, so that no held-out image is seen in training.
  """
  by_subgroup: dict[str, set[str]] = {}
  for record in records:
    by_subgroup.setdefault(record['subgroup'], set()).add(leader[record['hexcode']])
  digest = lambda code: hashlib.sha256(code.encode()).hexdigest()
  chosen: set[str] = set()
  for subgroup in sorted(by_subgroup):
    codes = sorted(by_subgroup[subgroup], key=digest)
    chosen.update(codes[:math.floor(len(codes) * HELDOUT + 0.5)])
  return {r['hexcode'] for r in records if leader[r['hexcode']] in chosen}


def make_records(google: list[dict], base: dict[str, dict], groups: dict,
                 images: dict[str, Image.Image]) -> list[dict]:
  """Returns one record per image, as listed in the module's docstring, in Unicode's order."""
  records = []
  for item in sorted(google, key=lambda item: item['sort_order']):
    code = item['unified']
    source = base[bare(code)]
    group = groups['groups'][str(source['group'])]
    subgroup = groups['subgroups'][str(source['subgroup'])]
    name = emoji_words.name(source['label'], subgroup)
    records.append(dict(
        hexcode=code, name=name, phrase=emoji_words.phrase(name, subgroup),
        keywords=keywords(source.get('tags', []), name), group=group, subgroup=subgroup,
        kind=emoji_words.KINDS[subgroup],
        colours=[] if NAMED.search(name) else colors(images[code])))
  held = heldout(records, twins(images))
  return [{**record, 'heldout': record['hexcode'] in held} for record in records]


def write(out: pathlib.Path, records: list[dict], images: dict[str, Image.Image]) -> None:
  """Writes emoji.npz and emoji.json into the folder `out`."""
  blobs = []
  for record in records:
    buffer = io.BytesIO()
    images[record['hexcode']].save(buffer, 'WEBP', quality=QUALITY, method=6)
    blobs.append(buffer.getvalue())
  out.mkdir(parents=True, exist_ok=True)
  np.savez(out / 'emoji.npz', bytes=np.frombuffer(b''.join(blobs), np.uint8),
           ends=np.cumsum([len(blob) for blob in blobs]).astype(np.int64))
  lines = ',\n'.join(json.dumps(record, ensure_ascii=False) for record in records)
  (out / 'emoji.json').write_text(f'[\n{lines}\n]\n', encoding='utf-8')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--google', type=pathlib.Path, help=f'the .tgz of {GOOGLE}')
  parser.add_argument('--emojibase', type=pathlib.Path, help=f'the .tgz of {EMOJIBASE}')
  parser.add_argument('--out', type=pathlib.Path, default=ASSETS)
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    google, images = read_google(flags.google or pack(GOOGLE, folder))
    base, groups = read_emojibase(flags.emojibase or pack(EMOJIBASE, folder))
  records = make_records(google, base, groups, images)
  write(flags.out, records, images)
  held = sum(record['heldout'] for record in records)
  size = sum(path.stat().st_size for path in flags.out.glob('emoji.*'))
  print(f'{len(records)} images, {held} held out, {size / 1e6:.2f} MB in {flags.out}')


if __name__ == '__main__':
  main()
