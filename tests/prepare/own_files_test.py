"""From original files through `xmc prepare` to a run and its scores, for birds and one's own."""
import cub_files
import numpy as np
import pytest
import tiny
from PIL import Image

from xmc_jax.cli.main import main
from xmc_jax.data import prepared, records
from xmc_jax.evals import results

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('toy', 'compiled_once')]


def prepare(name, source, *flags):
  argv = ['xmc', 'prepare', name, f'--source={source}', '--size=32', '--workers=1', *flags]
  assert main(argv) == 0


def train_and_evaluate(workdir, encoder_folder, **data):
  settings = {'data__loader': 'arrays', 'steps': 2, 'every__save': 2, 'every__images': 2}
  assert main(tiny.train_argv(workdir, encoder_folder, **settings, **data)) == 0
  assert main(['xmc', 'evaluate', f'--workdir={workdir}', '--protocol=toy']) == 0
  lines = results.read(workdir)
  assert lines and all(np.isfinite(line['value']) and line['step'] == 2 for line in lines)
  return {line['metric']: line for line in lines}


def test_birds(tmp_path, encoder_folder):
  images = cub_files.many(12)
  cub_files.write_images(tmp_path / 'source', images)
  said = {f'text/{key}.txt': f'bird {n}\non its right, bird {n}\n'.encode()[:7 if n % 2 else None]
          for n, key, _, _ in images}
  for folder, rest in (('train', {1, 3}), ('test', {2})):
    those = [one for one in images if one[2] in rest][::-1]
    said[f'{folder}/filenames.pickle'] = cub_files.python2([key.encode() for _, key, _, _ in those])
    said[f'{folder}/class_info.pickle'] = cub_files.python2([label for _, _, label, _ in those])
  cub_files.zipped(tmp_path / 'birds.zip', said, 'birds/')
  prepare('cub', tmp_path / 'source', f'--option=captions={tmp_path / "birds.zip"}')
  folder = prepared.folder_of('cub', 32)
  train, heldout = (records.load(split, 32, folder=str(folder)) for split in ('train', 'heldout'))
  assert (len(train), len(heldout)) == (24, 12) and train.class_names == cub_files.SPECIES
  assert [int(train.label(i)) for i in (0, 11, 12, 23)] == [2, 2, 0, 0]
  assert {int(heldout.label(i)) for i in range(12)} == {1}
  assert train.captions(0) == ('bird 36', 'on its right, bird 36')
  assert heldout.captions(11) == ('bird 13',)
  assert not train.flippable[0] and heldout.flippable[11]
  # Half a side is int(0.75 * 10) = 7 px around (15, 15): columns 8 to 21, of which the first 12
  # are black as the left half of image 36. They become 38 px, and 32 of these begin at the sixth.
  assert 12 / 14 * 38 - 6 == pytest.approx(26.6, abs=0.1)
  row = train.image(0, (0.5, 0.99))[16, :, 0]
  assert row[:23].max() < 30 and row[30:].min() > 225
  scores = train_and_evaluate(tmp_path / 'run', encoder_folder, data__name='cub')
  assert scores['FID']['reals'] == 12 and scores['FID']['reference'] == 'cub/heldout'


def test_images_of_ones_own(tmp_path, encoder_folder, capsys):
  source = tmp_path / 'my images'
  (source / 'deep').mkdir(parents=True)
  lines = ['file,caption,label,split']
  for i in range(30):
    name = f'deep/{i}.png' if i % 2 else f'{i}.jpg'
    rgba = np.full((36, 33, 4 if i % 2 else 3), 8 * i, np.uint8)
    Image.fromarray(rgba).save(source / name, quality=95)
    lines += [f'{name},"grey, {i}",{"odd" if i % 2 else "even"},{"val" if i >= 20 else "train"}',
              f'{name},left of {i},,' if i == 3 else f'{name},a picture,,']
  (source / 'captions.csv').write_text('\n'.join(lines))
  Image.fromarray(np.zeros((40, 40), np.uint8)).save(source / 'silent.png')
  out = tmp_path / 'ready'
  prepare('folder', source, f'--out={out}', '--option=labels=column')
  told = capsys.readouterr().out
  assert 'left out: 1, images without a caption (silent.png)' in told
  assert f'--config.data.options.folder={out}' in told
  train, heldout = (records.load(split, 32, folder=str(out)) for split in ('train', 'heldout'))
  assert (len(train), len(heldout)) == (20, 10) and train.info.name == 'my images'
  assert train.class_names == ('even', 'odd')
  assert train.captions(3) == ('grey, 3', 'left of 3') and int(train.label(3)) == 1
  assert heldout.captions(4) == ('grey, 24', 'a picture') and int(heldout.label(4)) == 0
  assert [i for i in range(20) if not train.flippable[i]] == [3]
  assert abs(train.image(4).astype(int) - 32).max() < 4
  # Of number 3 the transparency too is 24 of 255, the rest is white.
  assert abs(train.image(3).astype(int) - (255 - 231 * 24 / 255)).max() < 5
  scores = train_and_evaluate(tmp_path / 'run', encoder_folder, data__name='records',
                              data__options__folder=out)
  assert scores['FID']['reals'] == 10
