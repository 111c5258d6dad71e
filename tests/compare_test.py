"""Scores of folders of images, end to end, with a toy network in place of Inception."""
import shutil

import noise_records
import numpy as np
import pytest
import toy_protocol
import toys
from PIL import Image
from toy_protocol import by_metric

from xmc_jax import evaluator as module
from xmc_jax.cli.main import main
from xmc_jax.encoders import registry
from xmc_jax.evals import (
  feature_cache,
  image_sets,
  results,
)
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError
from xmc_jax.utils.hashing import file_sha256
from xmc_jax.weight_files import cache

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('toy')]


@pytest.fixture
def folders(tmp_path):
  rng = np.random.default_rng(1)
  for name, n in (('fakes', 12), ('reals', 30)):
    (tmp_path / name).mkdir()
    for i in range(n):
      Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(
          tmp_path / name / f'{i}.png')
  return [f'--images={tmp_path / "fakes"}', f'--reference={tmp_path / "reals"}']


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(
    folders, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(module, 'FeatureCollector', None)
  (tmp_path / 'file').write_text('')
  argv = [*folders, '--protocol=toy', f'--workdir={tmp_path / "file" / "scores"}']
  assert main(['xmc', 'compare', *argv]) == 2
  assert 'scores.jsonl cannot be written' in capsys.readouterr().err


def test_scores_that_cannot_be_written_at_the_end_are_shown(folders, tmp_path, monkeypatch, capsys):
  def full(*_):
    raise UserError('no space left')
  monkeypatch.setattr(results, 'append', full)
  assert main(['xmc', 'compare', *folders, '--protocol=toy', f'--workdir={tmp_path}']) == 2
  shown = capsys.readouterr()
  assert 'FID' in shown.out and 'no space left' in shown.err


@pytest.mark.parametrize('seed', [-1, 1.5])
def test_random_weights_need_a_seed_that_is_one(folders, tmp_path, seed):
  images, reference = (flag.partition('=')[2] for flag in folders)
  with pytest.raises(UserError, match=f'random_seed={seed}'):
    module.compare(images, reference, protocol='tf2015', random_seed=seed)
  with pytest.raises(UserError, match=f'random_seed={seed}'):
    module.evaluate(tmp_path / 'no_run', random_seed=seed)


def test_two_folders_without_a_model(folders, tmp_path, capsys):
  out = tmp_path / 'out'
  assert main(['xmc', 'compare', *folders, '--protocol=toy', f'--workdir={out}']) == 0
  lines = results.read(out)
  assert by_metric(lines).keys() == {'FID', 'KID', 'IS', 'precision', 'recall', 'density',
                                     'coverage'}
  assert lines[0]['fakes'] == 12 and lines[0]['reals'] == 30
  assert len(lines[0]['images_sha256']) == 64
  assert lines[0]['differs'] == ['12 fakes instead of 20']
  assert '12 images of' in capsys.readouterr().out


def test_features_of_reference_are_kept_until_a_pixel_changes(folders, tmp_path, monkeypatch):
  argv = ['xmc', 'compare', *folders, '--protocol=toy']
  made = []
  save = cache._save
  monkeypatch.setattr(cache, '_save', lambda *x: (made.append(x), save(*x)))
  assert main(argv) == main(argv) == 0 and len(made) == 1
  path = tmp_path / 'reals' / '7.png'
  image = np.array(Image.open(path))
  image[0, 0, 0] ^= 1
  Image.fromarray(image).save(path)
  assert main(argv) == 0 and len(made) == 2
  image[0, 0, 0] ^= 1
  Image.fromarray(image).save(path)
  whole = made[0][0].read_bytes()
  flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
  for i, damaged in enumerate((b'cut', whole[:len(whole) // 2], flipped)):      # it is made anew
    made[0][0].write_bytes(damaged)
    assert main(argv) == 0 and len(made) == 3 + i
    assert made[0][0].read_bytes() != damaged


def test_features_of_other_code_are_computed_anew(toy, monkeypatch):
  protocol, seen = toy_protocol.PROTOCOL, []
  images = toys.ArrayImages(np.zeros((6, 8, 8, 3), np.uint8), 'six')
  extractor = protocol.feature_extractor()
  collect = feature_cache.FeatureCollector
  monkeypatch.setattr(feature_cache, 'FeatureCollector',
                      lambda *given: seen.append(1) or collect(*given))
  for code in ('a', 'a', 'b'):
    monkeypatch.setattr(feature_cache, '_code_sha256', lambda code=code: code)
    feature_cache.features(images, protocol, extractor, make_mesh())
  assert len(seen) == 2


def test_statistics_of_other_tools_as_reference(folders, tmp_path, capsys):
  argv = ['xmc', 'compare', folders[0], '--protocol=toy', f'--workdir={tmp_path / "out"}']
  assert main([*argv, folders[1]]) == 0
  # From 9 to 4 pixels: what TensorFlow 1's bilinear takes lies between pixels.
  found = module.FeatureCollector([toy_protocol.PROTOCOL.feature_extractor(None)],
                                  module.make_mesh())(
      image_sets.FolderImages(tmp_path / 'reals', ''))['toy'].pool.astype(np.float64)
  np.savez(tmp_path / 'stats.npz', mu=found.mean(0), sigma=np.cov(found.T))
  assert main([*argv, f'--reference={tmp_path / "stats.npz"}']) == 0
  told = capsys.readouterr().out
  assert 'does not say' in told and 'pytorch-fid' in told and '12 images of' in told
  lines = results.read(tmp_path / 'out')
  alone = lines[-2:]
  assert [line['metric'] for line in alone] == ['FID', 'IS'] and alone[0]['reals'] is None
  assert alone[0]['value'] == pytest.approx(by_metric(lines[:-2])['FID'], rel=1e-6)
  assert alone[0]['reference_sha256'] == file_sha256(tmp_path / 'stats.npz')
  assert 'reals are statistics from a file' in alone[0]['differs']

  np.savez(tmp_path / 'stats.npz', mu=np.zeros(2048), sigma=np.eye(2048))
  assert main([*argv, f'--reference={tmp_path / "stats.npz"}']) == 2
  told = capsys.readouterr()
  assert '2,048 features' in told.err and 'toy gives 12' in told.err and 'FID' not in told.out


def test_a_prepared_folder_as_reference(folders, tmp_path, capsys):
  prepared = noise_records.make_folder(tmp_path / 'prepared', heldout=(6,))
  argv = ['xmc', 'compare', f'--workdir={tmp_path / "out"}', '--protocol=toy']
  assert main([*argv, folders[0], f'--reference={prepared}']) == 0
  assert 'differ' not in capsys.readouterr().out       # read at 9 pixels, as training would
  lines = results.read(tmp_path / 'out')
  heldout = module.sources.load('records', 'heldout', 9, folder=str(prepared))
  assert lines[0]['reals'] == len(heldout) and lines[0]['reference'].endswith('prepared, heldout')
  images = np.stack([heldout.image(i) for i in range(len(heldout))])
  assert lines[0]['reference_sha256'] == image_sets.fingerprint(toys.ArrayImages(images, ''))
  assert main([*argv, folders[0], f'--reference={prepared}', '--split=train']) == 0
  assert results.read(tmp_path / 'out')[-1]['reference'].endswith('prepared, train')

  large = tmp_path / 'large'
  large.mkdir()
  for i in range(6):
    Image.new('RGB', (40, 36), (40 * i, 0, 0)).save(large / f'{i}.png')
  capsys.readouterr()
  assert main([*argv, f'--images={large}', f'--reference={prepared}']) == 0
  assert '40 x 36 pixels and those of the reference 32 x 32' in capsys.readouterr().out
  (prepared / 'manifest.json').unlink()
  assert main([*argv, folders[0], f'--reference={prepared}']) == 2
  assert 'has not finished' in capsys.readouterr().err


def test_mistakes_with_folders(folders, tmp_path, capsys):
  def refused(*words):
    assert main(['xmc', 'compare', *folders, '--protocol=toy']) == 2
    shown = capsys.readouterr()
    assert all(word in shown.err for word in words) and 'FID' not in shown.out, shown
  Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / 'fakes' / '3.png')
  refused('3.png', 'mode L')
  (tmp_path / 'fakes' / '3.png').write_bytes(b'')
  refused('3.png', 'cannot be read')
  for i in range(1, 12):
    (tmp_path / 'fakes' / f'{i}.png').unlink()
  refused('at least 6', '1 generated', '30 real')
  for i in range(1, 5):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / 'fakes' / f'{i}.png')
  refused('at least 6', '5 generated')
  shutil.rmtree(tmp_path / 'fakes')
  refused('is not a folder')
  (tmp_path / 'fakes').mkdir()
  refused('holds no images')
  assert main(['xmc', 'compare', folders[0]]) == 2
  assert '--reference' in capsys.readouterr().err


def test_features_that_are_not_numbers_give_no_score(folders, monkeypatch, capsys):
  broken = toy_protocol.MATRIX.copy()
  broken[0, 0] = np.nan
  loaded = registry.Loaded(toy_protocol.Toy(), broken, 'x', None)
  monkeypatch.setattr(registry, 'load', lambda *_, **__: loaded)
  assert main(['xmc', 'compare', *folders, '--protocol=toy']) == 2
  shown = capsys.readouterr()
  assert 'NaN' in shown.err and 'FID' not in shown.out


@pytest.mark.parametrize('name, text', [
    ('manifest.json', '{"name": "my web app"}'), ('manifest.json', 'no JSON'),
    ('session.rec', 'recorded')])
def test_files_of_other_programs_do_not_make_a_prepared_set(folders, tmp_path, name, text):
  (tmp_path / 'fakes' / name).write_text(text)
  assert main(['xmc', 'compare', *folders, '--protocol=toy']) == 0
