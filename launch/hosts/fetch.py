"""Copies a prepared data set to this host: fetch.py FROM, a folder or a bucket, into data/NAME.

A file that is there in full is not copied again. The manifest comes last, so that a copy that broke
off is not taken for a whole one.
"""
import concurrent.futures
import pathlib
import shutil
import sys

from etils import epath


def copy(file, target):
  if target.exists() and target.stat().st_size == file.stat().length:
    return
  target.parent.mkdir(parents=True, exist_ok=True)
  partial = target.with_name(f'{target.name}.partial')
  with file.open('rb') as source, partial.open('wb') as out:
    shutil.copyfileobj(source, out, 2 ** 24)
  partial.rename(target)


def main(source):
  folder = epath.Path(source.rstrip('/'))
  files = [f for f in folder.iterdir() if f.is_file()] if folder.exists() else []
  if not files:
    sys.exit(f'fetch.py: there are no files in {source}; give the folder of a prepared data set')
  into = lambda file: pathlib.Path('data', folder.name, file.name)
  last = [file for file in files if file.name == 'manifest.json']
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda file: copy(file, into(file)), [f for f in files if f not in last]))
  for file in last:
    copy(file, into(file))
  print(f'{source}: {len(files):,} files are in {pathlib.Path("data", folder.name)}', flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
