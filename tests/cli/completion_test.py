"""`xmc completion`: bash itself completes words by the printed script."""
import shutil
import subprocess

import pytest

from xmc_jax.cli.main import main

ASK = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_shtab_xmc; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope='module')
def script(tmp_path_factory):
  path = tmp_path_factory.mktemp('completion') / 'xmc'
  with pytest.MonkeyPatch.context() as patch, path.open('w') as file:
    patch.setattr('sys.stdout', file)
    assert main(['xmc', 'completion', 'bash']) == 0
  return path


@pytest.mark.parametrize('words, found', [
    (['tr'], {'train'}), (['sample', '--mod'], {'--model'}), (['completion', 'b'], {'bash'}),
    (['train', '--config', 'swift_s'], {'swift_scenes64'}),
    (['sample', '--workdir', 'ru'], {'runs'}), (['sample', '--captions', 'li'], {'lines.txt'})])
def test_bash_completes(script, tmp_path, words, found):
  if not (bash := shutil.which('bash')):
    pytest.skip('bash is not installed')
  (tmp_path / 'runs').mkdir()
  (tmp_path / 'lines.txt').touch()
  done = subprocess.run([bash, '-c', ASK, 'ask', script, 'xmc', *words], cwd=tmp_path, text=True,
                        capture_output=True)
  assert set(done.stdout.split()) == found, done.stderr


@pytest.mark.parametrize('shell, sign', [('zsh', '#compdef xmc'), ('tcsh', 'complete xmc')])
def test_other_shells(shell, sign, capsys):
  assert main(['xmc', 'completion', shell]) == 0
  printed = capsys.readouterr().out
  assert sign in printed and 'evaluate' in printed
  if program := shutil.which(shell):
    subprocess.run([program, '-n'], input=printed, text=True, check=True)
