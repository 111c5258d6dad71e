"""Copies a prepared data set to this host: fetch.py FROM, a folder or a bucket, into data/NAME."""
import pathlib
import sys

from xmc_jax.types import UserError
from xmc_jax.utils import mirror


def main(source):
  source = source.rstrip('/')
  into = pathlib.Path('data', source.rpartition('/')[2])
  try:
    count = mirror.copy(source, into, '--data')
  except UserError as error:
    sys.exit(f'fetch.py: {error}')
  print(f'{source}: {count:,} files are in {into}', flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
