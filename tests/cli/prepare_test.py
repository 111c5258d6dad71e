"""`xmc prepare` from the command line, and a run that trains with what it made."""
import json
import re
import runpy
import shlex
import sys

import numpy as np
import pytest
import tiny
import toy_protocol

from xmc_jax.cli import prepare as prepare_verb
from xmc_jax.cli.main import main
from xmc_jax.encoders import registry
from xmc_jax.evals import protocols, results
from xmc_jax.prepare import images, job, readers

sys.path.append(str(tiny.ROOT / 'tests' / 'prepare'))
import toy_original  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
  """The set `toy`; `cub` is one too, so that a config can name it."""
  for name in ('toy', 'cub'):
    monkeypatch.setitem(readers.DATASETS, name, readers.Dataset(
        'toy_original', 'a toy', 'https://toy.example', size=32, codec='png'))
  monkeypatch.setenv('XMC_JAX_DATA', str(tmp_path / 'data'))
  monkeypatch.setenv('XMC_JAX_CACHE', str(tmp_path / 'cache'))


def prepare(tmp_path, *flags, name='toy'):
  (tmp_path / 'original').mkdir(exist_ok=True)
  return main(['xmc', 'prepare', name, f'--source={tmp_path / "original"}', '--workers=1', *flags])


def test_a_set_is_prepared_by_name_and_checked(tmp_path, capsys):
  assert prepare(tmp_path, '--option=word=b') == 0
  folder, told = tmp_path / 'data' / 'toy-32', capsys.readouterr().out
  manifest = json.loads((folder / 'manifest.json').read_text())
  assert manifest['settings']['storage'] == {'size': 32, 'margin': 1.0, 'codec': 'png',
                                             'quality': 90}
  assert manifest['settings']['options'] == {'word': 'b'}
  assert f'{folder} is ready. Train with it:  xmc train --config configs/emoji64.py' in told
  assert f'--config.data.name=records --config.data.options.folder={folder}' in told
  assert main(['xmc', 'prepare', f'--check={folder}']) == 0
  assert f'{folder} is complete: 4 files, ' in capsys.readouterr().out
  (folder / 'tokenizer.json').write_text('{}')
  assert main(['xmc', 'prepare', f'--check={folder}']) == 2
  assert 'tokenizer.json is damaged' in capsys.readouterr().err


def test_flags_decide(tmp_path, capsys):
  assert prepare(tmp_path, '--size=16', '--margin=1.5', '--codec=webp', '--quality=50',
                 '--shard_examples=10', f'--out={tmp_path / "mine"}') == 0
  manifest = json.loads((tmp_path / 'mine' / 'manifest.json').read_text())
  assert manifest['settings']['storage'] == {'size': 16, 'margin': 1.5, 'codec': 'webp',
                                             'quality': 50}
  assert [shard['examples'] for shard in manifest['splits']['train']] == [10, 10, 3]
  assert 'it is for methods of your own' in capsys.readouterr().out


def test_without_a_name_the_sets_are_listed(capsys):
  assert main(['xmc', 'prepare']) == 0
  told = capsys.readouterr().out
  assert all(name in told for name in readers.DATASETS)
  assert 'https://cocodataset.org' in told and '--option broken, slow' in told


@pytest.mark.parametrize('argv, words', [
    (['cifar'], "'cifar' is unknown; choose one of coco2014"),
    (['toy'], 'xmc prepare toy: --source is missing, the folder of the original files (https://toy'),
    (['toy', '--source=no/such'], 'there is no such folder'),
    (['toy', '--source=.', '--codec=gif'], '--codec=gif: choose one of jpeg, png, webp'),
    (['toy', '--source=.', '--margin=0.5'], '--margin=0.5: must be from 1 to 4'),
    (['toy', '--source=.', '--hosts=2', '--host=2'], '--host=2: must be from 0 to 1'),
    (['toy', '--source=.', '--size=4'], '--size'), (['toy', '--source=.', '--quality=0'], '--qual'),
    (['toy', 'cub', '--source=.'], "'cub'"), (['--size=64'], '--size: give the name'),
    (['--check=.', '--size=64'], '--size: not allowed with --check'),
    (['toy', '--check=.'], 'DATASET: not allowed'),
    (['--check=no/such'], 'no/such has no manifest.json')])
def test_what_is_refused(capsys, argv, words):
  assert main(['xmc', 'prepare', *argv]) == 2
  error = capsys.readouterr().err
  assert words in error and error.startswith('xmc') and error.count('\n') == 1


def how_to_train(tmp_path, name, size, found_by_name=True):
  original = toy_original.toy(tmp_path, name=name, counts={'train': 8000, 'heldout': 100})
  task = job.Job(original, tmp_path, images.Storage(size), 5, {})
  return prepare_verb.how_to_train(task, found_by_name).split('\n  and then:  ')


@pytest.mark.parametrize('name, size, flags', [
    ('coco2014', 256, ['xmc_gan_coco256']), ('coco2014', 300, ['xmc_gan_coco256']),
    ('coco2014', 200, ['xmc_gan_coco128']), ('ln_coco', 256, ['xmc_gan_ln_coco256']),
    ('ln_openimages', 256, ['xmc_gan_ln_openimages256']),
    ('cub', 304, ['damsm_cub', 'attngan_cub']),
    ('cub', 256, ['damsm_cub --config.model.size=256', 'attngan_cub'])])
def test_the_next_command_is_of_the_sets_own_config(tmp_path, name, size, flags):
  stems = [flag.split()[0] for flag in flags]
  told = how_to_train(tmp_path, name, size)
  assert told == [f'xmc train --config configs/{stem}.py --workdir runs/{flag}'
                  for stem, flag in zip(stems, flags)]
  elsewhere = how_to_train(tmp_path, name, size, found_by_name=False)
  assert elsewhere == [f'{command} --config.data.options.folder={tmp_path}' for command in told]
  for command in told:     # the files are there, train on this set, and need no more pixels
    path, given = re.match(r'xmc train --config (\S+)(?:.*model.size=(\d+))?', command).groups()
    config = runpy.run_path(str(tiny.ROOT / path))['get_config']()
    assert config.data.name == name and int(given or config.model.size) <= size


@pytest.mark.parametrize('name, size, words', [
    ('cub', 64, '--config configs/swift_emoji64.py --workdir runs/cub --config.data.name=cub'),
    ('folder', 300, '--config configs/xmc_gan_coco256.py --workdir runs/folder '
     '--config.model.size=256 --config.data.name=records --config.data.options.folder='),
    ('folder', 64, '--config configs/swift_emoji64.py'),
    ('folder', 32, '--config configs/emoji64.py --workdir runs/folder --config.model.size=32')])
def test_the_next_command_fits_any_other_set(tmp_path, name, size, words):
  (told,) = how_to_train(tmp_path, name, size)
  assert f'xmc train {words}' in told


def test_the_next_command_can_be_pasted(tmp_path):
  folder = tmp_path / "it's päth ☃ $HOME"
  (told,) = how_to_train(folder, 'folder', 64)
  assert shlex.split(told)[-1] == f'--config.data.options.folder={folder}'


@pytest.mark.parametrize('below', ['', 'new'])
def test_a_file_is_no_folder_to_write_to(tmp_path, capsys, below):
  (tmp_path / 'out').write_text('')
  assert prepare(tmp_path, f'--out={tmp_path / "out" / below}') == 2
  assert 'is a file; give a folder' in capsys.readouterr().err


def test_a_prepared_set_is_trained_and_measured(tmp_path, encoder_folder, monkeypatch, capsys):
  monkeypatch.setitem(protocols.PROTOCOLS, 'toy', toy_protocol.PROTOCOL)
  monkeypatch.setattr(registry, 'load', toy_protocol.load)
  argv = tiny.train_argv(tmp_path / 'run', encoder_folder, data__name='cub', data__loader='arrays',
                         steps=2)
  assert main(argv) == 2
  assert '`xmc prepare cub --source DIR --size 32`' in capsys.readouterr().err
  folder = tmp_path / 'data' / 'cub-48'
  assert prepare(tmp_path, '--size=48', f'--out={folder}', name='cub') == 0
  assert main(argv) == 0
  assert 'toy_methods.quick on cub: 23 images, 32 px' in capsys.readouterr().out
  assert main(['xmc', 'evaluate', f'--workdir={tmp_path / "run"}', '--protocol=toy']) == 0
  lines = results.read(tmp_path / 'run')
  assert {line['metric'] for line in lines} >= {'FID', 'KID', 'IS'}
  for line in lines:
    assert np.isfinite(line['value']) and line['data'] == 'cub' and line['reals'] == 7
    assert line['reference'] == 'toy/heldout' and line['step'] == 2
  sample = ['xmc', 'sample', f'--workdir={tmp_path / "run"}', '--caption=noise', '--each=1']
  assert main(sample) == 0


def test_a_folder_of_ones_own_is_trained_by_its_path(tmp_path, encoder_folder, capsys):
  assert prepare(tmp_path, f'--out={tmp_path / "mine"}') == 0
  argv = tiny.train_argv(tmp_path / 'run', encoder_folder, data__name='records', steps=1,
                         data__loader='arrays', data__options__folder=tmp_path / 'mine')
  assert main(argv) == 0
  assert 'toy_methods.quick on records: 23 images, 32 px' in capsys.readouterr().out
