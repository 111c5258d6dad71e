"""A pipe in the place of a file ends in one sentence; reading it would never end."""
import os
import threading

import coco_files
import cub_files
import narrative_files
import pytest

from xmc_jax.cli.main import main


def coco(folder):
  lists, parts = coco_files.small_coco()
  return coco_files.unpacked(folder, lists, parts)


def zipped_coco(folder):
  lists, parts = coco_files.small_coco()
  return coco_files.as_zips(folder, lists, parts)


def birds(folder):
  folder.mkdir()
  cub_files.write_images(folder)
  return cub_files.write(folder, cub_files.attngan())


def narratives(folder):
  narrative_files.small_ln_coco(folder)
  return folder


def own(folder):
  return cub_files.write(folder, {'0.png': b'', 'captions.csv': b'file,caption\n0.png,a\n'})


@pytest.mark.parametrize('name, write, file, words', [
    ('coco2014', coco, 'annotations/captions_train2014.json', 'is a pipe'),
    ('coco2014', coco, 'annotations/instances_val2014.json', 'is a pipe'),
    ('coco2014', zipped_coco, 'annotations_trainval2014.zip', 'is a pipe'),
    ('cub', birds, 'CUB_200_2011/images.txt', 'has no'),
    ('cub', birds, 'train/filenames.pickle', 'is a pipe'),
    ('ln_coco', narratives, 'coco_train_captions.jsonl', 'has no'),
    ('folder', own, 'captions.csv', 'no captions')])
def test_a_pipe_in_the_place_of_a_file(tmp_path, capsys, name, write, file, words):
  path = write(tmp_path / 'in') / file
  path.unlink()
  os.mkfifo(path)

  def write_nothing():      # whoever reads gets nothing, instead of waiting
    while path.exists():
      path.open('wb').close()
  threading.Thread(target=write_nothing, daemon=True).start()
  assert main(['xmc', 'prepare', name, f'--source={tmp_path / "in"}', '--size=32',
               f'--out={tmp_path / "out"}', '--workers=1']) == 2
  error = capsys.readouterr().err
  assert error.startswith('xmc: ') and error.count('\n') == 1, error
  assert path.name in error and words in error, error
