"""Packages as npm and Debian write them, made by hand."""
import gzip
import io
import json
import lzma
import tarfile

import numpy as np
from PIL import Image


def tar(files):
  """A tar of {name: bytes}; a name that ends with "/" is a folder, str is the target of a link."""
  whole = io.BytesIO()
  with tarfile.open(fileobj=whole, mode='w') as archive:
    for name, data in files.items():
      member = tarfile.TarInfo(name.rstrip('/'))
      if name.endswith('/'):
        member.type = tarfile.DIRTYPE
      elif isinstance(data, str):
        member.type, member.linkname = tarfile.SYMTYPE, data
      else:
        member.size = len(data)
      archive.addfile(member, io.BytesIO(data) if isinstance(data, bytes) else None)
  return whole.getvalue()


def npm(path, name, version, files):
  """Writes a .tgz of npm: everything below package/, with a package.json."""
  about = {'package.json': json.dumps({'name': name, 'version': version}).encode()}
  path.write_bytes(gzip.compress(tar({f'package/{k}': v for k, v in (about | files).items()})))
  return path


def ar(members):
  """An ar archive of (name, bytes): a header of 60 characters, and data padded to even lengths."""
  whole = b'!<arch>\n'
  for name, data in members:
    header = f'{name:<16}{1656937135:<12}{0:<6}{0:<6}{"100644":<8}{len(data):<10}'.encode()
    whole += header + b'`\n' + data + b'\n' * (len(data) % 2)
  return whole


def deb(path, files, suffix='.xz'):
  """Writes a .deb: debian-binary, control.tar of an odd length, data.tar.xz or .gz."""
  pack = {'.xz': lzma.compress, '.gz': gzip.compress}[suffix]
  path.write_bytes(ar([('debian-binary', b'2.0\n'), ('control.tar.xz', b'odd'),
                       (f'data.tar{suffix}', pack(tar(files))), ('_extra', b'more')]))
  return path


def image(colour, size=(64, 64), kind='PNG', mode='RGBA'):
  """The bytes of an image of one colour; the left half of RGBA is clear."""
  pixels = np.zeros((size[1], size[0], 4), np.uint8)
  pixels[:, size[0] // 2 if mode == 'RGBA' else 0:] = (*colour, 255)
  file = io.BytesIO()
  options = {'lossless': True} if kind == 'WEBP' else {}
  Image.fromarray(pixels).convert(mode).save(file, kind, **options)
  return file.getvalue()
