"""The command line: help, and one sentence with what is wrong, where and what to do."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tiny

from xmc_jax import __version__
from xmc_jax.cli.main import entry, main
from xmc_jax.cli.parser import Parser

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize('code, told', [
    ('None', 'it calls sys.exit()'), ('"needs a GPU"', 'needs a GPU')])
def test_user_code_that_exits_does_not_pass_for_success(tmp_path, monkeypatch, capsys, code, told):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'leaves.py').write_text(f'import sys\nsys.exit({code})\n')
  monkeypatch.syspath_prepend(tmp_path)
  assert main(['xmc', 'prepare', 'mine.leaves', '--source', str(tmp_path), '--out',
               str(tmp_path / 'out'), '--size=32']) == 2
  assert told in capsys.readouterr().err


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='needs /dev/full')
def test_output_that_nobody_reads_or_that_has_no_room():
  run = lambda rest: subprocess.run(['bash', '-c', f'{sys.executable} -m xmc_jax configs {rest}'],
                                    capture_output=True, text=True, cwd=tiny.ROOT)
  read, write = os.pipe()
  os.close(read)
  done = subprocess.run([sys.executable, '-m', 'xmc_jax', 'configs'], stdout=write, text=True,
                        stderr=subprocess.PIPE, cwd=tiny.ROOT)
  os.close(write)
  assert (done.returncode, done.stderr) == (141, '')
  lost = ('import sys, xmc_jax.cli.main as m\ndef lost(): raise BrokenPipeError("of a server")\n'
          'm.main = lost\nm.entry()')
  done = subprocess.run([sys.executable, '-c', lost], capture_output=True, text=True,
                        cwd=tiny.ROOT)      # somebody reads: it is of a connection, and told
  assert done.returncode == 1 and 'of a server' in done.stderr
  full = run('> /dev/full')
  assert full.returncode == 2 and full.stderr.startswith('xmc: ') and 'make room' in full.stderr


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


def test_the_folder_of_the_user_is_known_behind_an_equals_sign(monkeypatch, tmp_path, capsys):
  """Shells leave --out=~/images as it is."""
  monkeypatch.setenv('HOME', str(tmp_path))
  assert main(['xmc', 'sample', '--workdir=~/runs/none', 'a cat']) == 2
  assert f'{tmp_path}/runs/none' in capsys.readouterr().err


def test_the_home_folder_of_nobody_is_told(capsys):
  for argv in (['compare', '--images=~nobodyx/a', '--reference=b'], ['demo', '~nobodyx/m'],
               ['sample', 'a cat', '--out', '~nobodyx/o']):
    assert main(['xmc', *argv]) == 2
    assert 'the home folder of ~nobodyx is not known' in capsys.readouterr().err


def test_an_empty_cache_variable_is_as_good_as_none(monkeypatch):
  import jax
  before = jax.config.jax_compilation_cache_dir
  monkeypatch.setenv('XMC_JAX_CACHE', '')
  assert main(['xmc', 'configs']) == 0
  assert jax.config.jax_compilation_cache_dir == str(pathlib.Path('~/.cache/xmc_jax').expanduser())
  jax.config.update('jax_compilation_cache_dir', before)


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
    (['--captions={folder}/empty.txt'], ['empty.txt: has no captions']),
    (['--caption=apple', '--each=0'], ['--each=0']),
    (['--caption=apple', '--seed=-1'], ['--seed=-1']),
    (['--caption=apple', '--seed=x'], ['--seed=x']),
    (['--caption=apple', '--step=3'], ['step 3', '2, 4']),
    (['--caption=apple', '--truncation=-0.5'], ['--truncation', '-0.5', 'above 0']),
    (['--caption=apple', '--truncation=nan'], ['--truncation', 'nan', 'above 0']),
    (['--caption=apple', '--out={folder}/empty.txt/x'], ['empty.txt/x', 'is a file; give']),
    (['--caption=apple', '--workdir={folder}'], ['no checkpoint in {folder}', '--workdir']),
    (['--caption=apple', '--matcher=x.safetensors'], ['--matcher', '--best_of N']),
    (['--caption=apple', '--latent_steps=-1'], ['--latent_steps=-1']),
    (['--caption=apple', '--latent_steps=1'], ['--latent_steps', 'the method toy_methods.quick']),
    (['--caption=apple', '--matcher=x.safetensors', '--best_of=2'],
     ['--matcher=x.safetensors', 'the method toy_methods.quick', 'leave it out']),
])
def test_sample_refuses(refused, trained, tmp_path, flags, words):
  (tmp_path / 'latin1.txt').write_bytes('a café\n'.encode('latin-1'))
  (tmp_path / 'empty.txt').write_text('\n \n')
  fill = lambda texts: [text.format(folder=tmp_path) for text in texts]
  refused(['xmc', 'sample', f'--workdir={trained}', *fill(flags)], *fill(words))
  assert not (trained / 'samples').exists()


def test_describe_prints_json_and_compiles_on_request(capsys, encoder_folder):
  argv = tiny.train_argv('run', encoder_folder)
  flags = [flag for flag in argv[2:] if not flag.startswith('--workdir')]
  assert main(['xmc', 'describe', '--json', '--no_compile', *flags]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found['networks']['g']['parameters'] > 1000 and 'step' not in found
  assert main(['xmc', 'describe', *flags]) == 0
  told = capsys.readouterr().out
  assert f'generator: {found["networks"]["g"]["parameters"]:,} parameters' in told
  assert 'GFLOP' in told and 'frozen text: ' in told and 'batch image: float32[1, 8, 32' in told


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
