"""Settings that make no sense are refused before any weights are read; paths become absolute."""
import dataclasses

import numpy as np
import pytest
import tiny

from xmc_jax import methods, preflight
from xmc_jax.cli import config_file
from xmc_jax.cli.main import main
from xmc_jax.data import source as sources
from xmc_jax.distributed import processes
from xmc_jax.types import UserError


@pytest.mark.parametrize('setting', [
    'seed=-1', 'seed=4294967296', 'seed=9223372036854775808', 'steps=0', 'steps=-3',
    'batch_size=0', 'microbatches=-1', 'keep=0', 'grid=0', 'every.save=0', 'every.images=-5',
    'text.length=0', 'text.length=2', 'model.size=0', 'model.width=-4', 'evals.fakes=1',
    'ema_decay=nan', 'ema_decay=1.5', 'ema_decay=-0.1', 'optim.g.lr=nan', 'optim.g.lr=-0.001',
    'optim.d.lr=inf', 'optim.g.b1=1.0', 'optim.d.b2=-0.5', 'optim.d.b2=nan', 'terms.hinge=-1.0',
    'terms.word=nan', 'terms.image=inf', 'shard=all', 'data.loader=fast', 'model.dtype=int8'])
def test_values_out_of_range_are_refused_by_name(setting):
  name = setting.partition('=')[0]
  with pytest.raises(UserError, match=name.replace('.', r'\.')) as error:
    config_file.load(str(tiny.DEMO), [f'--config.{setting}'])
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('setting', ['optim.g.lr=inf', 'terms.word=nan', 'ema_decay=-inf'])
def test_numbers_have_to_be_finite(setting):
  with pytest.raises(UserError, match=f'--config.{setting}: must be a finite number'):
    config_file.load(str(tiny.DEMO), [f'--config.{setting}'])


@pytest.mark.parametrize('setting', [
    'seed=4294967295', 'optim.g.lr=0.0', 'optim.g.b1=0.0', 'ema_decay=1.0', 'terms.word=0.0',
    'text.length=3', 'every.save=1'])
def test_values_at_the_ends_are_taken(setting):
  config_file.load(str(tiny.DEMO), [f'--config.{setting}'])


@pytest.mark.parametrize('config, change', [
    ('demo', 'method=galip'), ('demo', 'method=swift'), ('demo', 'method=attngan'),
    ('attngan_emoji', 'method=xmc_gan'), ('scl:attngan_emoji', 'base=galip')])
def test_a_method_of_another_family_needs_a_config_of_its_own(config, change):
  found = config_file.load(config, [f'--config.{change}'])
  with pytest.raises(UserError, match=f'--config.{change}: .*has no key'):
    methods.build(found)


class Unlabeled:
  """What the checks ask of a data set without labels."""
  class_names = ()

  def __len__(self):
    return 9

  def label(self, index):
    return np.zeros(0, np.float32)


@pytest.mark.parametrize('data, one_class, classes, words', [
    ('emoji_scenes', True, None, ['any number of 114', '--noconfig.model.one_class']),
    ('emoji_scenes', False, 80, ['classes=80', '--config.model.classes=114']),
    ('emoji', False, 99, ['one of 99', 'set --config.model.one_class']),
    ('none', True, None, ['no labels', 'set --noconfig.terms.mask_same_class, or'])])
def test_losses_of_labels_need_data_with_such_labels(data, one_class, classes, words):
  config = config_file.load('damsm_emoji', [f'--config.model.classes={classes or 1}',
                                            '--config.terms.mask_same_class'])
  config.model.one_class, config.model.classes, config.data.name = one_class, classes, data
  source = Unlabeled() if data == 'none' else sources.load(data, 'train', 32)
  with pytest.raises(UserError, match=f'--config.data.name={data}: ') as error:
    methods.check_labels(methods.build(config), config, source)
  assert all(word in str(error.value) for word in words)


class OneClass(Unlabeled):
  class_names = ('bird',)

  def label(self, index):
    return np.int32(0)


def test_data_of_one_class_have_nothing_to_tell_apart():
  config = config_file.load('scl:swift_emoji64', ['--config.model.classes=1'])
  with pytest.raises(UserError, match='one class.*--config.data.partners=self'):
    methods.check_labels(methods.build(config), config, OneClass())
  config.data.partners = 'self'
  methods.check_labels(methods.build(config), config, OneClass())


def test_data_of_one_class_leave_no_negatives():
  flags = ['--config.model.classes=1', '--config.data.name=mine.birds']
  config = config_file.load('damsm_emoji', [*flags, '--config.terms.mask_same_class'])
  with pytest.raises(UserError, match='one class, .* set --noconfig.terms.mask_same_class$'):
    methods.check_labels(methods.build(config), config, OneClass())
  config = config_file.load('damsm_emoji', [*flags, '--noconfig.terms.mask_same_class'])
  methods.check_labels(methods.build(config), config, OneClass())


@pytest.mark.parametrize('data, change', [
    ('emoji', ['--config.terms.mask_same_class', '--config.model.classes=9']),
    ('emoji_scenes', ['--noconfig.terms.mask_same_class', '--config.text.words=273'])])
def test_labels_that_no_loss_compares_may_be_any(data, change):
  config = config_file.load('damsm_emoji', [f'--config.data.name={data}', *change])
  methods.check_labels(methods.build(config), config, sources.load(data, 'train', 32))


def test_classes_that_the_classifier_lacks_are_refused():
  config = config_file.load('damsm_emoji', ['--config.terms.labels=1.0',
                                            '--config.model.classes=9'])
  with pytest.raises(UserError, match='one of 99 classes; set .*classes=99'):
    methods.check_labels(methods.build(config), config, sources.load('emoji', 'train', 32))


@pytest.mark.parametrize('flags', [[], ['--check']])
def test_labels_are_looked_at_before_anything_is_compiled(tmp_path, capsys, monkeypatch, flags):
  monkeypatch.setattr(preflight, '_step', lambda *_: None)   # a check goes on, a run does not
  assert main(['xmc', 'train', '--config=damsm_emoji', f'--workdir={tmp_path / "run"}',
               '--config.data.name=emoji_scenes', '--config.data.loader=arrays',
               '--config.text.words=273', '--config.terms.mask_same_class',
               '--config.data.options.examples=500', *flags]) == 2
  assert 'set --noconfig.model.one_class' in capsys.readouterr().err


@pytest.mark.parametrize('line', [
    "config.data.options.folder = 'mine'", "config.data.options = {'folder': 'mine'}",
    "config.data.options.update(folder='mine')"])
def test_a_config_file_may_set_options_of_the_data(tmp_path, line):
  (tmp_path / 'mine.py').write_text(
      'from xmc_jax.methods import xmc_gan\ndef get_config():\n  config = xmc_gan.config()\n'
      f'  {line}\n  return config\n')
  config = config_file.load(str(tmp_path / 'mine.py'))
  assert config.data.options.folder == 'mine' and config.is_locked and config.data.is_locked
  with pytest.raises(AttributeError):
    config.data.optionz = 3


@pytest.mark.parametrize('flag', ['--config.data.options.folder=2014', '--data=2014'])
def test_a_folder_of_data_may_be_called_by_a_number(tmp_path, monkeypatch, capsys, flag):
  monkeypatch.chdir(tmp_path)
  assert main(['xmc', 'train', '--config=demo', '--workdir=run', '--config.data.name=records',
               flag]) == 2
  assert f'{tmp_path / "2014"} has no manifest.json' in capsys.readouterr().err


def test_the_file_of_a_matching_network_becomes_absolute(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = config_file.load('swift_scenes64', ['--config.model.matcher=a/m.safetensors'])
  assert methods.with_absolute_paths(config).model.matcher == str(tmp_path / 'a/m.safetensors')
  assert not methods.with_absolute_paths(config_file.load('swift_scenes64')).model.matcher


def test_folders_of_data_become_absolute(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert sources.absolute('emoji', 32, {'groups': 'a'}) == {'groups': 'a'}
  assert sources.absolute('records', 32, {'folder': 'x'}) == {'folder': str(tmp_path / 'x')}
  assert sources.absolute('records', 32, {'folder': 'gs://x'}) == {'folder': 'gs://x'}
  prepared = tmp_path / 'data' / 'cub-64'
  prepared.mkdir(parents=True)
  (prepared / 'manifest.json').write_text('{}')
  assert sources.absolute('cub', 32, {}) == {'folder': str(prepared)}


@pytest.mark.parametrize('variable', ['SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE'])
@pytest.mark.parametrize('tasks, told', [('2', True), ('1', False), ('', False), ('2(x2)', False)])
def test_tasks_that_work_alone_are_told(monkeypatch, capsys, variable, tasks, told):
  monkeypatch.setenv(variable, tasks)
  with processes.joined(facts={}):
    pass
  assert ('--distributed' in capsys.readouterr().out) == told


def test_losses_are_looked_at_before_any_weights_are_made(tmp_path, encoder_folder, capsys,
                                                          monkeypatch):
  monkeypatch.setattr(methods.Program, 'init', None)
  argv = tiny.train_argv(tmp_path / 'run', encoder_folder, terms__hinge=0, terms__sentence=0)
  assert main(argv) == 2
  assert "every loss of the network 'd'" in capsys.readouterr().err


def test_processes_must_agree_on_what_they_read(tmp_path, encoder_folder, monkeypatch):
  compared = []
  monkeypatch.setattr(processes, 'check_same', compared.extend)
  monkeypatch.setattr(methods.Program, 'trace', None)
  with pytest.raises(TypeError):
    main(tiny.train_argv(tmp_path / 'run', encoder_folder, config=tiny.DEMO))
  assert {'config.seed', 'the newest checkpoint', 'the data', 'the sha256 of the tokenizer',
          'eps of the frozen network text'} <= set(compared)


@pytest.mark.parametrize('config, setting, words', [
    ('damsm_emoji', 'model.width=255', 'must be even'),
    ('galip_coco', 'model.width=1', 'must be at least 2')])
def test_channels_that_cannot_be_halved_are_refused(config, setting, words):
  found = config_file.load(config, [f'--config.{setting}'])
  with pytest.raises(UserError, match=f'--config.{setting}: {words}'):
    methods.build(found)


def test_microbatches_that_a_method_does_not_make_are_refused():
  config = config_file.load(str(tiny.DEMO), ['--config.microbatches=2',
                                             '--config.model.bn_group_size=4'])
  method = methods.build(config)
  methods.check_training(method, config)
  with pytest.raises(UserError, match='--config.microbatches=2: xmc_gan does not split batches'):
    methods.check_training(dataclasses.replace(method, microbatches=False), config)
