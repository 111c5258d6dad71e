"""Settings that make no sense, on the command line, in config files and in saved configs."""
import functools
import json
import shutil

import jax
import pytest
import tiny

from xmc_jax.cli import config_file

pytestmark = pytest.mark.slow

BASE = 'from xmc_jax.methods import xmc_gan\ndef get_config():\n  config = xmc_gan.config()\n'
UNLOCKED = '  with config.unlocked():\n    config.data.options.{} = {}\n  return config\n'


@pytest.mark.parametrize('words, value', [
    (['--config.steps=7'], 7), (['--config.steps', '7'], 7), ([], 800),
    (['--config.steps=7', '--config.steps=8'], 8)])
def test_overrides_of_a_config(words, value):
  assert config_file.load(str(tiny.DEMO), words).steps == value


def test_new_options_have_the_same_type_with_and_without_an_equals_sign():
  for words in (['--config.data.options.most=64'], ['--config.data.options.most', '64']):
    assert config_file.change(config_file._read('demo'), words).data.options.most == 64


def test_none_can_be_given_where_it_is_a_default():
  config = config_file.load('emoji64', ['--config.model.bn_group_size=None', '--config.seed=3',
                                        '--config.evals.fakes', 'None'])
  assert config.model.bn_group_size is config.evals.fakes is None and config.seed == 3
  config = config_file.change(config, ['--config.evals.fakes=8', '--config.evals.fakes=None'])
  assert config.evals.fakes is None      # the last one counts
  config = config_file.change(config, ['--config.evals.fakes=None', '--config.evals.fakes=9'])
  assert config.evals.fakes == 9
  config = config_file.change(config, ['--config.evals.fakes=8', '--config.model.bn_group_size=4'])
  assert (config.evals.fakes, config.model.bn_group_size) == (8, 4)


def test_a_colon_may_be_in_the_path(tmp_path):
  (tmp_path / 'a:b').mkdir()
  shutil.copy(tiny.DEMO, tmp_path / 'a:b' / 'demo.py')
  assert config_file.load(str(tmp_path / 'a:b' / 'demo.py')).steps == 800
  shutil.copy(tiny.ROOT / 'configs/smoke.py', tmp_path / 'a:b')
  assert config_file.load(f'{tmp_path}/a:b/smoke.py:demo').steps == 50


def test_overrides_by_type():
  config = config_file.load(str(tiny.DEMO), [
      '--config.model.augment=("color", "cutout")', '--config.ema_decay=0.5', '--config.seed=9',
      '--noconfig.model.one_class', '--config.data.options.first=3'])
  assert config.model.augment == ('color', 'cutout') and config.ema_decay == 0.5
  assert config.seed == 9 and config.model.one_class is False and config.data.options.first == 3
  assert config.is_locked


@pytest.fixture
def argv(tmp_path, encoder_folder):
  """Arguments of a correct run of XMC-GAN, which has more settings than most."""
  return tiny.train_argv(tmp_path / 'run', encoder_folder, config=tiny.DEMO, data__loader='arrays')


@pytest.mark.parametrize('flag, words', [
    ('model.depth=3', ['--config.model.depth', "no key 'depth'", 'width']),
    ('wdith=3', ['--config.wdith', "no key 'wdith'", 'batch_size']),
    ('model.widht=3', ["no key 'widht'", 'did you mean width?']),
    ('batch_size.rows=3', ['--config.batch_size.rows', "no key 'rows'"]),
    ('batch_size=many', ['--config.batch_size', "'many'"]),
    ('model.width=3.5', ['--config.model.width', "'3.5'"]),
    ('model.impl=slow', ['model.impl', 'slow', 'reference']),
    ('model.width=0', ['--config.model.width=0', 'at least 1']),
    ('steps=0', ['--config.steps=0', 'at least 1']),
    ('every.save=0', ['--config.every.save=0', 'at least 1']),
    ('seed=-1', ['--config.seed=-1', 'at least 0']),
    ('ema_decay=2', ['--config.ema_decay=2', '0 to 1']),
    ('batch_size=0', ['batch_size=0', '--config.batch_size=']),
    ('batch_size=-8', ['batch_size=-8', '--config.batch_size=']),
    ('model.size=100', ['--config.model.size=100', '32, 64, 128, 256']),
    ('model.dtype=float33', ['--config.model.dtype=float33', 'bfloat16']),
    ('model.augment=rotation', ['model.augment', 'rotation', 'translation']),
    ("model={'width': 16}", ['--config.model: is a section', '--config.model.KEY']),
    ('steps=None', ['--config.steps=None', 'always has a value']),
    ('init=None', ['--config.init=None', 'always has a value']),
    ('model.bn_group_size=3', ['--config.model.bn_group_size=3', 'divisor']),
    ('method=cubism', ['--config.method=cubism', 'xmc_gan']),
    ('data.name=cifar', ['--config.data.name=cifar', 'emoji']),
    ('data.name=no.such.module', ['no.such.module', 'emoji']),
    ('data.options.groups=3', ['--config.data.options.groups', "no group '3'", 'animals-nature']),
    ('data.options.colour=3', ['--config.data.options', "'colour'"]),
    ('data.options=5', ['--config.data.options=5', 'not a dict']),
    ('data.options.groups.first=3', ["no key 'groups' there\n"]),
    ('data.loader=grain', ['--config.data.loader=grain', 'tf_data', 'arrays']),
    ('text.pool=max', ['--config.text.pool=max', 'masked_mean']),
    ('text.script=greek', ['--config.text.script=greek', 'latin']),
    ('text.length=2', ['text.length', '3']),
    ('text.length=100', ['100 word pieces', '32 positions']),
    ('text.encoder=no/such/folder', ['config.json', 'no/such/folder', 'all-MiniLM-L6-v2']),
])
def test_config_values_that_make_no_sense(refused, argv, flag, words):
  refused([*argv, f'--config.{flag}'], *words)


def test_batch_that_the_devices_do_not_divide(refused, argv):
  n = jax.device_count()
  assert n > 1
  refused([*argv, f'--config.batch_size={n + 1}'], f'batch_size={n + 1}', f'devices, {n}',
          f'--config.batch_size={n}')


def test_config_file_that_is_not_there(refused, tmp_path):
  refused(['xmc', 'train', '--config=configs/nowhere.py', f'--workdir={tmp_path}'],
          '--config: configs/nowhere.py', 'get_config()')


@pytest.mark.parametrize('text, words', [
    ('def get_config(:\n', ['line 1', 'SyntaxError']),
    ('import no_such_module\n', ['line 1', 'no_such_module']),
    ('import sys\nsys.exit()\n', ['line 2', 'SystemExit']),
    ('steps = 3\n', ['has no get_config()']),
    ('def get_config():\n  pass\n', ['get_config()', 'returns a config']),
    (BASE + '  return 1 / 0\n', ['line 4', 'ZeroDivisionError']),
    (BASE + '  config.model.depth = 3\n  return config\n', ['line 4', '"depth"']),
    (BASE + '  config.batch_size = "many"\n  return config\n', ['line 4', 'batch_size', 'int']),
    (BASE + '  config.data.name = "nowhere"\n  return config\n', ['data.name=nowhere', 'emoji']),
    (BASE + UNLOCKED.format('colour', '"red"'), ["'emoji'", "'colour'"]),
    (BASE + UNLOCKED.format('groups', '("cars",)'), ["'cars'", 'food-drink']),
])
def test_config_file_with_a_mistake(refused, tmp_path, encoder_folder, text, words):
  path = tmp_path / 'mine.py'
  path.write_text(text)
  argv = ['xmc', 'train', f'--config={path}', f'--workdir={tmp_path}']
  if 'return config' in text:
    argv += ['--config.model.size=32', f'--config.text.encoder={encoder_folder}']
  refused(argv, *words)


def test_base_encoder_that_nobody_downloaded(refused, argv, tmp_path, monkeypatch):
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))
  refused([*argv, '--config.text.encoder=bert-base-uncased'], 'bert-base-uncased',
          'https://huggingface.co/', 'all-MiniLM-L6-v2')


@pytest.mark.usefixtures('filled')
def test_network_without_a_loss(refused, argv):
  off = [f'--config.terms.{name}=0.0' for name in ('hinge', 'sentence', 'word', 'image')]
  refused([*argv, *off], 'config.terms', 'weight 0')


def test_workdir_that_cannot_be_written(refused, argv, tmp_path):
  (tmp_path / 'file').write_text('')
  refused([*argv, f'--workdir={tmp_path / "file" / "run"}'], str(tmp_path / 'file'), '--workdir')


@pytest.mark.parametrize('key, value', [
    ('optim.g', '../x'), ('optim.g', None), ('optim', []), ('optim.g.lr', 'fast'),
    ('optim.g.lr', None), ('steps', 'many'), ('steps', 2.5), ('steps', {'a': 1}), ('steps', True),
    ('data', []), ('data.name', 7), ('data.options', 'x'), ('model', None), ('model.size', None),
    ('terms', {}), ('terms.sentence', [1]), ('evals', 'often'), ('every.save', ''),
    ('method', None), ('method', {}), ('text.length', '16'), ('negatives', 8),
    ('text.pool', ('max',)), ('seed', [0])])
def test_a_saved_config_of_another_shape_is_refused(refused, workdir, key, value):
  path = workdir / 'config.json'
  config = json.loads(path.read_text())
  *groups, last = key.split('.')
  functools.reduce(dict.__getitem__, groups, config)[last] = value
  path.write_text(json.dumps(config))
  refused(['xmc', 'train', f'--workdir={workdir}', '--config.grid=2'])


@pytest.mark.parametrize('text, value', [('64', 64), ('-3', -3), ('0', 0), ('007', '007'),
                                         ('1e3', '1e3'), ('x', 'x')])
def test_an_option_of_the_data_is_a_number_if_it_is_written_as_one(text, value):
  config = config_file.load('demo', [f'--config.data.options.part={text}'])
  assert config.data.options.part == value
