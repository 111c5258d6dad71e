"""The JavaScript that a page runs on: ONNX Runtime and a tokenizer, in pinned versions from npm."""
from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from xmc_jax.types import UserError
from xmc_jax.utils import atomic, mirror
from xmc_jax.utils.hashing import file_sha256

_ORT, _TOKENIZERS = 'onnxruntime-web', '@huggingface/tokenizers'
PACKAGES = {_ORT: '1.30.0', _TOKENIZERS: '0.2.0'}
# Name in the page: (package, path in it, SHA-256). Not .mjs, which some servers do not know.
FILES = {
    'ort.js': (_ORT, 'dist/ort.wasm.bundle.min.mjs',
               '11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90'),
    'ort.wasm': (_ORT, 'dist/ort-wasm-simd-threaded.wasm',
                 '3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2'),
    'ort-gpu.js': (_ORT, 'dist/ort.webgpu.bundle.min.mjs',
                   '0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2'),
    'ort-gpu.wasm': (_ORT, 'dist/ort-wasm-simd-threaded.asyncify.wasm',
                     '39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da'),
    'tokenizers.js': (_TOKENIZERS, 'dist/tokenizers.min.mjs',
                      '258e46332101335ce8d95aed7745b19ac3b46d37f3e159a89cf894c2ea9b1d3a'),
    'tokenizers.LICENSE': (_TOKENIZERS, 'LICENSE',
                           'c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4')}
INSTALL = ' '.join(f'{name}@{version}' for name, version in PACKAGES.items())


def find(node_modules: str | os.PathLike[str] | None = None) -> dict[str, pathlib.Path]:
  """The files of `FILES` on this machine, by their names in a page, checked.

  Args:
    node_modules: the folder into which npm has installed `PACKAGES`; None: they come from npm
      once, into XMC_JAX_CACHE, by default ~/.cache/xmc_jax.
  Raises:
    UserError: npm is missing or fails, or a file is missing or of another version.
  """
  if node_modules is not None:
    return _checked(pathlib.Path(node_modules).expanduser(), f'--runtime={node_modules}')
  cache = mirror.cache_folder() / 'npm'
  if all((cache / package / path).is_file() for package, path, _ in FILES.values()):
    return _checked(cache, str(cache))
  with tempfile.TemporaryDirectory() as folder:
    _download(pathlib.Path(folder))
    for path in _checked(pathlib.Path(folder), 'npm').values():
      atomic.save(cache / path.relative_to(folder), path.read_bytes())
  return _checked(cache, str(cache))


def _checked(folder: pathlib.Path, where: str) -> dict[str, pathlib.Path]:
  found = {name: folder / package / path for name, (package, path, _) in FILES.items()}
  for name, path in found.items():
    if not path.is_file() or file_sha256(path) != FILES[name][2]:
      problem = 'is not that of the pinned version' if path.is_file() else 'is missing'
      raise UserError(f'{where}: the file {path} {problem}; run `npm install {INSTALL}` in another '
                      'folder and give its node_modules with --runtime')
  return found


def _download(folder: pathlib.Path) -> None:
  """Takes the files of `FILES` from npm's archives to folder/PACKAGE/PATH."""
  npm = shutil.which('npm')
  by_hand = (f'run `npm install {INSTALL}` on a machine that can, and give its folder node_modules '
             'with --runtime')
  if npm is None:
    raise UserError(f'--page: npm, which fetches the JavaScript of the page, is not installed; '
                    f'install Node.js, or {by_hand}')
  for package, version in PACKAGES.items():
    done = subprocess.run([npm, 'pack', '--silent', f'{package}@{version}'], cwd=folder, text=True,
                          capture_output=True)
    archive = folder / (done.stdout.split() or ['missing'])[-1]
    if done.returncode or not archive.is_file():
      why = (done.stderr.strip().splitlines() or ['no archive came'])[-1]
      raise UserError(f'--page: npm could not fetch {package} {version} ({why}); {by_hand}')
    with tarfile.open(archive) as packed:
      for owner, path, _ in FILES.values():
        if owner == package:
          member = packed.extractfile(f'package/{path}')
          assert member, f'{path} is a file'
          atomic.save(folder / package / path, member.read())
