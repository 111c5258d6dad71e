"""From the files as published to a score: COCO and Localized Narratives through `xmc`."""
import json

import coco_files
import narrative_files
import numpy as np
import pytest
import tiny

from xmc_jax.cli.main import main
from xmc_jax.data import records
from xmc_jax.evals import results

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('toy', 'compiled_once')]


def coco_of(folder, train=16, heldout=24):
  """A set of images i with the captions "first i", "second i" and an object of class i % 3."""
  lists, parts = {}, {}
  for part, count in (('train2014', train), ('val2014', heldout)):
    numbers = list(range(1, count + 1))
    images = coco_files.images(reversed(numbers), part, (48, 40))
    said = [coco_files.caption(2 * n + k, n, f'{word} {n}')
            for n in numbers for k, word in enumerate(('first', 'second'))]
    seen = [coco_files.thing(n, n, coco_files.CATEGORIES[n % 3]['id'], [0, 0, 24, 40], 960)
            for n in numbers]
    lists[f'captions_{part}.json'] = coco_files.captions_file(images, said)
    lists[f'instances_{part}.json'] = coco_files.instances_file(images, seen)
    parts[part] = {coco_files.name_of(n, part): coco_files.jpeg(n, 48, 40) for n in numbers}
  return coco_files.as_zips(folder, lists, parts)


def narratives_of(folder, train=16, heldout=12):
  """Images i of Localized Narratives with the narratives "One i" and "Two i"."""
  folder.mkdir()
  for part, count in (('train', train), ('val', heldout)):
    coco_files.zipped(folder / f'{part}2017.zip', {
        f'{part}2017/{n:012d}.jpg': coco_files.jpeg(n, 48, 40) for n in range(count)})
    (folder / f'coco_{part}_captions.jsonl').write_text(''.join(
        narrative_files.narrative(f'mscoco_{part}2017', str(n), 1, f'{word} {n}.')
        for word in ('One', 'Two') for n in range(count)))
  return folder


def prepare(name, source, *flags):
  assert main(['xmc', 'prepare', name, f'--source={source}', '--size=32', '--workers=1',
               '--shard_examples=10', *flags]) == 0


def train_and_evaluate(name, tmp_path, encoder_folder):
  """Two steps of a tiny network with the prepared set; the metrics of its last checkpoint."""
  workdir = tmp_path / 'run'
  argv = tiny.train_argv(workdir, encoder_folder, data__name=name, data__loader='arrays', steps=2)
  assert main(argv) == 0
  assert main(['xmc', 'evaluate', f'--workdir={workdir}', '--protocol=toy']) == 0
  return {line['metric']: line for line in results.read(workdir)}


def test_coco_from_its_zips_to_a_score(tmp_path, encoder_folder):
  prepare('coco2014', coco_of(tmp_path / 'coco'), '--codec=png')
  folder = tmp_path / 'data' / 'coco2014-32'
  train, heldout = (records.load(split, 32, str(folder)) for split in ('train', 'heldout'))
  assert (len(train), len(heldout)) == (16, 24) and train.class_names == ('person', 'car', 'dog')
  for i in range(16):
    assert train.captions(i) == (f'first {i + 1}', f'second {i + 1}')
    facts = train.record(i)
    assert (facts['labels'], facts['areas'], facts['image_id']) == ([(i + 1) % 3], [0.5], i + 1)
    np.testing.assert_array_equal(np.flatnonzero(train.label(i)), [(i + 1) % 3])
  assert json.loads((folder / 'manifest.json').read_text())['left_out'] == {
      'train2014, images of the 82,783 published that its list does not have': 82_767,
      'val2014, images of the 40,504 published that its list does not have': 40_480}
  found = train_and_evaluate('coco2014', tmp_path, encoder_folder)
  assert found['FID']['reference'] == 'coco2014/heldout' and found['FID']['reals'] == 24
  assert np.isfinite(found['FID']['value'])


def test_narratives_from_their_lines_to_a_score(tmp_path, encoder_folder):
  prepare('ln_coco', narratives_of(tmp_path / 'ln'), '--option=each=narrative')
  train = records.load('train', 32, str(tmp_path / 'data' / 'ln_coco-32'))
  assert len(train) == 32 and train.class_names == ()
  assert [train.captions(i) for i in range(4)] == [('One 0.',), ('Two 0.',), ('One 1.',),
                                                   ('Two 1.',)]
  np.testing.assert_array_equal(train.image(0), train.image(1))
  found = train_and_evaluate('ln_coco', tmp_path, encoder_folder)
  assert found['FID']['reals'] == 24 and np.isfinite(found['FID']['value'])


def test_broken_images_are_listed_and_left_out(tmp_path, capsys):
  lists, parts = coco_files.small_coco()
  del parts['train2014'][coco_files.name_of(25)]
  parts['train2014'][coco_files.name_of(42)] = coco_files.jpeg(42)[:100]
  source = coco_files.as_zips(tmp_path / 'coco', lists, parts)
  prepare('coco2014', source, '--most_bad=0.7')
  folder = tmp_path / 'data' / 'coco2014-32'
  assert records.load('train', 32, str(folder)).captions(0)[1] == 'A dog near a car.'
  bad = [json.loads(line) for line in (folder / 'bad.jsonl').read_text().splitlines()]
  assert [one['name'][-6:] for one in bad] == ['25.jpg', '42.jpg']
  (source / 'val2014.zip').unlink()
  capsys.readouterr()
  assert main(['xmc', 'prepare', 'coco2014', f'--source={source}']) == 2
  assert 'has no val2014.zip' in capsys.readouterr().err
