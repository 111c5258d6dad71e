"""The command line: help, and one sentence with what is wrong, where and what to do."""
import functools
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest
import tiny

from xmc_jax import __version__
from xmc_jax.cli import config_file
from xmc_jax.cli.main import entry, main
from xmc_jax.cli.parser import Parser

pytestmark = pytest.mark.slow

BASE = 'from xmc_jax.methods import xmc_gan\ndef get_config():\n  config = xmc_gan.config()\n'
UNLOCKED = '  with config.unlocked():\n    config.data.options.{} = {}\n  return config\n'


@pytest.fixture
def refused(capsys, monkeypatch):
  """Asserts that a call of `xmc` ends as it should, before anything is compiled."""
  def compiles(*_):
    raise AssertionError('this should have been refused before the step is compiled')

  def check(argv, *words):
    with monkeypatch.context() as patch:
      patch.setattr(jax.stages.Lowered, 'compile', compiles)
      code = main([str(x) for x in argv])
    error = capsys.readouterr().err
    assert code == 2
    assert re.match(r'xmc( \w+)*: ', error), error
    assert error.count('\n') == 1, f'not one line: {error}'
    for word in words:
      assert word in error, f'{word!r} is not in: {error}'
  return check


@pytest.fixture
def argv(tmp_path, encoder_folder):
  """Arguments of a correct run, to be changed."""
  return tiny.train_argv(tmp_path / 'run', encoder_folder, data__loader='arrays')


@pytest.fixture
def workdir(tmp_path, trained):
  return shutil.copytree(trained, tmp_path / 'run')


COMMANDS = ('train', 'sample', 'demo', 'export', 'evaluate', 'compare', 'soa', 'report', 'prepare',
            'weights', 'configs', 'describe')


@pytest.mark.parametrize('command, words', [
    (['xmc', ''], ['required', '--help']),
    (['xmc', 'colour'], ['colour: no such command', *COMMANDS]),
    (['xmc', 'trian'], ['did you mean train?']),
    (['xmc', 'weights', 'gte'], ['xmc weights: gte', 'did you mean get?']),
    (['xmc', 'train', '--workdir=run'], ['--workdir=run', '--config']),
    (['xmc', 'train', f'--config={tiny.DEMO}'], ['xmc train: ', 'required', '--workdir']),
    (['xmc', 'train', '--config.steps=2', '--workdir=run'], ['--workdir=run', '--config']),
    (['xmc', 'describe', '--config.steps=2'], ['xmc describe: ', 'required', '--config']),
    (['xmc', 'train', f'--config={tiny.DEMO}', '--workdr=run'], ['did you mean --workdir?']),
    (['xmc', 'sample', '--workdir=run', '--colour=red'], ['xmc sample: --colour: no such flag']),
    (['xmc', 'sample', '--workdir'], ['--workdir: expected one argument']),
    (['xmc', 'sample', '--config.steps=2'], ['--config.steps: no such flag']),
    (['xmc', 'describe', f'--config={tiny.DEMO}', 'now'], ["'now' is not a flag"]),
    (['xmc', 'evaluate', '--images=a'], ['--images: no such flag', '`xmc compare`']),
    (['xmc', 'evaluate', '--detector=a'], ['--detector: no such flag', '`xmc soa`']),
    (['xmc', 'compare', '--fakes=9'], ['--fakes: no such flag', '`xmc evaluate`']),
    (['xmc', 'compare', '--images=a'], ['required', '--reference']),
    (['xmc', 'evaluate', '--workdir=run', '--every', '--step=2'], ['--step', '--every']),
    (['xmc', 'weights', 'list', '--force'], ['--force: no such flag']),
    (['xmc', 'sample', '--workdir=', '--caption=a'], ['xmc sample: --workdir: is empty']),
    (['xmc', 'compare', '--images=a', '--reference=b', '--workdir='], ['--workdir: is empty']),
    (['xmc', 'train', f'--config={tiny.DEMO}', '--workdir='], ['--workdir: is empty']),
    (['xmc', 'sample', '--workdir=a', '--caption=a', '--out='], ['--out: is empty']),
])
def test_commands_and_flags_that_do_not_exist_or_are_missing(refused, command, words):
  refused([word for word in command if word], *words)


def test_a_mistake_ends_the_process_with_code_2_and_one_line(tmp_path):
  process = tiny.start(['xmc', 'train', '--config=nowhere.py', f'--workdir={tmp_path}'])
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 2
  assert output.startswith('xmc: --config: nowhere.py') and output.count('\n') == 1


def test_help_lists_the_commands(capsys):
  assert main(['xmc', '--help']) == 0
  text = capsys.readouterr().out
  assert not [name for name in COMMANDS if name not in text]


@pytest.mark.parametrize('command, words', [
    ('train', ['--config', '--workdir', '--config.KEY=VALUE', '--coordinator']),
    ('sample', ['--caption', '--each', '--truncation', '--live', '--model']),
    ('demo', ['MODEL', '--host', '--port', '--captions']),
    ('export', ['RUN', 'FOLDER', '--dtype', '--text', '--cut', '--full', '--license', '--page',
                '--captions', '--runtime']),
    ('evaluate', ['--protocol', '--metrics', '--follow']),
    ('compare', ['--images', '--reference']),
    ('soa', ['--captions', '--detector']),
    ('report', ['RUN', '--across_protocols']),
    ('prepare', ['DATASET', '--source', '--codec']),
    ('weights', ['list', 'get', 'check']),
    ('configs', ['xmc configs']),
    ('describe', ['--config', '--no_compile'])])
@pytest.mark.parametrize('flag', ['-h', '--help'])
def test_help_of_each_command_lists_its_flags(capsys, command, words, flag):
  assert main(['xmc', command, flag]) == 0
  text = capsys.readouterr().out
  assert text.startswith(f'usage: xmc {command} ')
  assert not [word for word in words if word not in text]


def test_configs_lists_what_the_package_has(capsys):
  assert main(['xmc', 'configs']) == 0
  listed, told = capsys.readouterr().out.split('\n\n')
  names = {line.split()[0] for line in listed.splitlines()}
  there = {path.stem for path in (tiny.ROOT / 'configs').glob('*.py')} - {'__init__'}
  assert {name.partition(':')[0] for name in names} == there
  assert {name for name in names if ':' in name} == {'scl:NAME', 'smoke:NAME',
                                                        'xmc_gan_ablation:ROW'}
  assert 'demo                        XMC-GAN on the embedded emoji at 32 px' in listed
  assert 'xmc train --config NAME' in told


def test_version_and_help_as_a_module_need_no_jax():
  run = lambda *argv: subprocess.run([sys.executable, '-X', 'importtime', '-m', 'xmc_jax', *argv],
                                     cwd=tiny.ROOT, capture_output=True, text=True, check=True)
  assert run('--version').stdout == f'xmc_jax {__version__}\n'
  for argv in (['--help'], ['train', '--help']):
    modules = {line.rpartition('|')[2].strip() for line in run(*argv).stderr.splitlines()}
    assert 'xmc_jax.cli.main' in modules
    assert not modules & {'jax', 'numpy', 'tensorflow', 'ml_collections'}


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
  def interrupted(*_):
    raise KeyboardInterrupt

  def leave(code):
    raise SystemExit(code)

  monkeypatch.setattr(Parser, 'parse_args', interrupted)
  monkeypatch.setattr('os._exit', leave)
  monkeypatch.setattr('signal.signal', lambda *_: None)
  with pytest.raises(SystemExit) as leaving:
    entry()
  assert leaving.value.code == 130
  assert capsys.readouterr().err == 'xmc: interrupted\n'


@pytest.mark.parametrize('phase', ['loading', 'compiling'])
def test_ctrl_c_before_the_first_step(argv, phase):
  process = tiny.start(argv, JAX_ENABLE_COMPILATION_CACHE='0')
  if phase == 'loading':
    time.sleep(2.5)
  else:
    while 'device (' not in process.stdout.readline():      # the last line before compiling
      assert process.poll() is None
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 130
  assert output.endswith('xmc: interrupted\n') and 'Traceback' not in output


@pytest.mark.parametrize('words, value', [
    (['--config.steps=7'], 7), (['--config.steps', '7'], 7), ([], 800),
    (['--config.steps=7', '--config.steps=8'], 8)])
def test_overrides_of_a_config(words, value):
  assert config_file.load(str(tiny.DEMO), words).steps == value


def test_overrides_by_type():
  config = config_file.load(str(tiny.DEMO), [
      '--config.model.augment=("color", "cutout")', '--config.ema_decay=0.5', '--config.seed=9',
      '--noconfig.model.one_class', '--config.data.options.first=3'])
  assert config.model.augment == ('color', 'cutout') and config.ema_decay == 0.5
  assert config.seed == 9 and config.model.one_class is False and config.data.options.first == 3
  assert config.is_locked


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


def test_encoder_weights_that_are_cut_short(refused, argv, tmp_path, encoder_folder):
  folder = shutil.copytree(encoder_folder, tmp_path / 'cut')
  cut(folder / 'model.safetensors')
  refused([*argv, f'--config.text.encoder={folder}'], str(folder / 'model.safetensors'),
          'cannot be read')


def test_network_without_a_loss(refused, argv):
  off = [f'--config.terms.{name}=0.0' for name in ('hinge', 'sentence', 'word', 'image')]
  refused([*argv, *off], 'config.terms', 'weight 0')


def test_workdir_that_cannot_be_written(refused, argv, tmp_path):
  (tmp_path / 'file').write_text('')
  refused([*argv, f'--workdir={tmp_path / "file" / "run"}'], str(tmp_path / 'file'), '--workdir')


def cut(path, kept=0.5):
  path.write_bytes(path.read_bytes()[:int(path.stat().st_size * kept)])


def test_newest_checkpoint_has_arrays_cut_short(argv, workdir):
  for path in (workdir / 'checkpoints' / '4' / 'state').glob('ocdbt.process_0/d/*'):
    cut(path, 0.01)
  sample = ['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple']
  # In processes of their own: orbax leaves reads behind, which would complain in this one.
  process = tiny.start(sample)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 2
  assert output.startswith('xmc: the checkpoint of step 4 is damaged')
  assert 'delete that folder to resume from' in output and 'step 2' in output
  assert output.count('\n') == 1, output
  process = tiny.start(argv)                           # training goes on from the one before
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  assert output.startswith('the checkpoint of step 4 is damaged') and '4.damaged' in output
  assert 'steps 3 to 4' in output


@pytest.mark.parametrize('damage', [
    lambda step: cut(step / 'state' / '_METADATA'),
    lambda step: cut(step / 'meta' / 'metadata'),
    lambda step: [shutil.rmtree(p) if p.is_dir() else p.unlink() for p in step.iterdir()],
], ids=['tree', 'meta', 'everything'])
def test_newest_checkpoint_is_damaged(refused, argv, workdir, damage, capsys):
  damage(workdir / 'checkpoints' / '4')
  words = ['step 4 is damaged', str(workdir / 'checkpoints' / '4'), 'delete that folder', 'step 2']
  refused(['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple'], *words)
  assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == ['2', '4']
  assert main(argv) == 0                               # training goes on from the one before
  output = capsys.readouterr().out
  assert output.startswith('the checkpoint of step 4 is damaged') and 'steps 3 to 4' in output
  assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == ['2', '4', '4.damaged.1']


def test_checkpoint_of_another_model(refused, argv, workdir):
  refused([*argv, '--config.steps=6', '--config.model.width=8'], 'of another model',
          str(workdir / 'checkpoints'), '--workdir', '--config')


def test_half_written_checkpoint_is_not_a_checkpoint(argv, workdir, capsys):
  checkpoints = workdir / 'checkpoints'
  shutil.copytree(checkpoints / '4', checkpoints / '6.orbax-checkpoint-tmp')
  sample = ['xmc', 'sample', f'--workdir={workdir}', '--caption=a red apple', '--each=1']
  assert main(sample) == 0
  assert 'weights of step 4' in capsys.readouterr().out
  assert main(argv) == 0
  assert 'is finished: 4 of 4 steps' in capsys.readouterr().out


@pytest.mark.parametrize('flags, words', [
    (['--caption='], ['--caption', 'is empty']),
    (['--caption=red apple', '--caption= '], ["caption ''", 'no words']),
    (['--caption=' + 20 * 'red apple '], ['42 tokens', '16', 'shorten']),
    (['--caption=красное яблоко'], ["'к'", 'not Latin', 'English']),
    (['--caption=苹果'], ["'苹'", 'not Latin', 'English']),
    (['--caption=🍎 on a table'], ["'🍎'", 'leave it out']),
    ([], ['--caption', '--captions FILE']),
    (['--captions=no_such_file.txt'], ['--captions', 'no_such_file.txt']),
    (['--captions={folder}/latin1.txt'], ['--captions', 'latin1.txt', 'UTF-8']),
    (['--captions={folder}/empty.txt'], ['nothing to sample', '--caption']),
    (['--caption=apple', '--each=0'], ['--each=0']),
    (['--caption=apple', '--seed=-1'], ['--seed=-1']),
    (['--caption=apple', '--seed=x'], ['--seed=x']),
    (['--caption=apple', '--step=3'], ['step 3', '2, 4']),
    (['--caption=apple', '--truncation=-0.5'], ['--truncation', '-0.5', 'above 0']),
    (['--caption=apple', '--truncation=nan'], ['--truncation', 'nan', 'above 0']),
    (['--caption=apple', '--out={folder}/empty.txt/x'], ['empty.txt/x', 'is a file; give']),
    (['--caption=apple', '--workdir={folder}'], ['no checkpoint in {folder}', '--workdir']),
])
def test_sample_refuses(refused, trained, tmp_path, flags, words):
  (tmp_path / 'latin1.txt').write_bytes('a café\n'.encode('latin-1'))
  (tmp_path / 'empty.txt').write_text('\n \n')
  fill = lambda texts: [text.format(folder=tmp_path) for text in texts]
  refused(['xmc', 'sample', f'--workdir={trained}', *fill(flags)], *fill(words))
  assert not (trained / 'samples').exists()


def test_describe_prints_json_and_compiles_on_request(capsys, argv):
  flags = [flag for flag in argv[2:] if not flag.startswith('--workdir')]
  assert main(['xmc', 'describe', '--json', '--no_compile', *flags]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found['networks']['g']['parameters'] > 1000 and 'step' not in found
  assert main(['xmc', 'describe', *flags]) == 0
  told = capsys.readouterr().out
  assert f'generator: {found["networks"]["g"]["parameters"]:,} parameters' in told
  assert 'GFLOP' in told and 'frozen text: ' in told and 'batch image: float32[2, 8, 32' in told


@pytest.mark.parametrize('argv', [
    ['sample', '--workdir={long}', 'a'], ['sample', '--model={long}', 'a'],
    ['sample', '--workdir={workdir}', '--captions={long}'],
    ['sample', '--workdir={workdir}', '--out={long}', 'a'], ['report', '{long}'],
    ['compare', '--protocol=offline', '--images={long}', '--reference=.'],
    ['export', '{workdir}', '--page={long}'], ['demo', '{long}'],
    ['evaluate', '--workdir={long}'], ['prepare', 'folder', '--source={long}'],
    ['prepare', '--check={long}'], ['train', '--config={long}', '--workdir=x'],
    ['train', '--config=demo', '--workdir={long}'], ['export', '{workdir}', '{long}'],
    ['soa', '--workdir={workdir}', '--captions={long}'],
    ['train', '--config=demo', '--workdir={folder}/x', '--config.data.name=records',
     '--config.data.options.folder={long}'],
    ['train', '--config=demo', '--workdir={folder}/x', '--config.text.encoder={long}']],
    ids=lambda argv: ' '.join(argv)[:60])
def test_a_name_that_no_file_can_have(refused, trained, tmp_path, argv):
  places = {'long': tmp_path / ('y' * 300), 'workdir': trained, 'folder': tmp_path}
  refused(['xmc', *(word.format(**places) for word in argv)])


@pytest.mark.parametrize('key, value', [
    ('optim.g', '../x'), ('optim.g', None), ('optim', []), ('optim.g.lr', 'fast'),
    ('optim.g.lr', None), ('steps', 'many'), ('steps', 2.5), ('steps', {'a': 1}), ('steps', True),
    ('data', []), ('data.name', 7), ('data.options', 'x'), ('model', None), ('model.size', None),
    ('terms', {}), ('terms.word', [1]), ('evals', 'often'), ('every.save', ''), ('method', None),
    ('method', {}), ('text.length', '16'), ('negatives', 8), ('model.augment', 'none'),
    ('seed', [0])])
def test_a_saved_config_of_another_shape_is_refused(refused, workdir, key, value):
  path = workdir / 'config.json'
  config = json.loads(path.read_text())
  *groups, last = key.split('.')
  functools.reduce(dict.__getitem__, groups, config)[last] = value
  path.write_text(json.dumps(config))
  refused(['xmc', 'train', f'--workdir={workdir}', '--config.grid=2'])
