"""`xmc soa`: images in the public scorer's layout, and scores by a detector."""
import pickle
import shutil
import sys
import types

import numpy as np
import pytest
from PIL import Image

from xmc_jax.cli.main import main
from xmc_jax.evals import results, soa

pytestmark = pytest.mark.slow


@pytest.fixture
def captions(tmp_path):
  folder = tmp_path / 'captions'
  folder.mkdir()
  for name, n in (('label_14_bird', 2), ('label_15_cat', 3)):
    entries = [{'image_id': i, 'id': i, 'idx': [i], 'caption': f'a {name[9:]} number {i}'}
               for i in range(n)]
    (folder / f'{name}.pkl').write_bytes(pickle.dumps(entries))
  return folder


@pytest.fixture
def detector(monkeypatch):
  """Finds a bird in every image, and nothing else."""
  module = types.ModuleType('birdwatch')
  module.make = lambda: lambda images: [[soa.Detection(14, 0.9, (0, 0, 1, 1))] for _ in images]
  monkeypatch.setitem(sys.modules, 'birdwatch', module)
  return 'birdwatch:make'


def test_images_and_scores(trained, captions, detector, tmp_path, capsys):
  trained = shutil.copytree(trained, tmp_path / 'run')
  before = len(results.read(trained))
  assert main(['xmc', 'soa', f'--workdir={trained}', f'--captions={captions}',
               f'--out={tmp_path / "drawn"}', f'--detector={detector}']) == 0
  files = sorted(path.relative_to(tmp_path / 'drawn').as_posix()
                 for path in (tmp_path / 'drawn').rglob('*.png'))
  assert len(files) == 3 * 5 and files[0] == 'label_14_bird/00000_0.png'
  images = [np.asarray(Image.open(tmp_path / 'drawn' / file)) for file in files]
  assert all(p.shape == (32, 32, 3) for p in images)
  assert len({p.tobytes() for p in images}) == len(images)        # no noise comes twice
  found = {line['metric']: line['value'] for line in results.read(trained)[before:]}
  assert found['SOA-C'] == 0.5 and found['SOA-I'] == pytest.approx(6 / 15)
  assert found['SOA-C top 1'] == 0.0 and found['SOA-C bottom 1'] == 1.0
  line = results.read(trained)[before]
  assert line['size'] == 32 and len({line['generator_sha256'], line['captions_sha256']}) == 2
  assert '15 images of 2 classes' in capsys.readouterr().out


@pytest.mark.parametrize('mistake, words', [
    (lambda run, captions: (captions / 'label_15_cat.pkl').unlink(), 'at least two classes'),
    (lambda run, captions: (run / results.FILE).mkdir(), 'cannot be written')])
def test_scores_that_cannot_be_are_refused_before_any_image(
    trained, captions, detector, tmp_path, capsys, mistake, words, monkeypatch):
  run = shutil.copytree(trained, tmp_path / 'run')
  (run / results.FILE).unlink(missing_ok=True)
  mistake(run, captions)
  monkeypatch.setattr('xmc_jax.evaluate_soa.TextToImage', None)
  argv = ['xmc', 'soa', f'--workdir={run}', f'--captions={captions}', f'--detector={detector}']
  assert main(argv) == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize('flags, words', [
    ([], '--out FOLDER'), (['--detector=nothing.here:make'], 'nothing'),
    (['--detector=json:make'], '--detector=json:make'),
    (['--detector=leaves:make'], 'sys.exit()')])
def test_mistakes(trained, captions, flags, words, capsys, tmp_path, monkeypatch):
  (tmp_path / 'leaves.py').write_text('import sys\nsys.exit()\n')
  monkeypatch.syspath_prepend(tmp_path)
  assert main(['xmc', 'soa', f'--workdir={trained}', f'--captions={captions}', *flags]) == 2
  assert words in capsys.readouterr().err
