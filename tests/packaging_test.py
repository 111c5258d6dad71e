"""What an installed package is: configs by name, and extras that a sentence names where one misses.

A wheel is built and tried out in an empty environment by hand (CONTRIBUTING.md).
"""
import configparser
import re
import sys

import pytest
import tiny

from xmc_jax.cli import config_file
from xmc_jax.encoders import registry
from xmc_jax.pretrained import folder, model
from xmc_jax.types import UserError
from xmc_jax.utils import optional
from xmc_jax.weight_files import tf_graph_files

SETUP = configparser.ConfigParser()
SETUP.read(tiny.ROOT / 'setup.cfg')
EXTRAS = set(SETUP['options.extras_require'])


def test_the_extras():
  assert EXTRAS == {'train', 'gpu', 'gpu12', 'tpu', 'hub', 'page', 'demo', 'report', 'parity',
                    'test', 'lint'}


def test_sentences_name_extras_that_exist():
  folders = ('xmc_jax', 'docs', 'launch', 'README.md', 'CONTRIBUTING.md', 'Makefile')
  files = [path for part in folders for path in (tiny.ROOT / part, *(tiny.ROOT / part).rglob('*'))
           if path.suffix in ('.py', '.md', '.sh', '') and path.is_file()]
  named = {extra for path in files
           for found in re.findall(r"(?:xmc_jax|'\.|\be \.)\[([\w,]+)\]", path.read_text())
           for extra in found.split(',')}
  assert {'train', 'tpu'} <= named <= EXTRAS


def test_tensorflow_and_its_kin_are_not_needed_to_sample():
  needed = SETUP['options']['install_requires']
  assert not re.search(r'tensorflow|tensorboard|clu\b', needed)
  for name in ('clu', 'tensorboard', 'tensorflow-cpu', 'tensorflow-datasets'):
    assert f'\n{name}>=' in SETUP['options.extras_require']['train']


def test_a_missing_package_is_told_with_its_extra():
  with pytest.raises(
    UserError, match=r"^Drawing: no_such is not installed; .*'xmc_jax\[report\]'`$"
  ):
    with optional.extra('report', 'Drawing'):
      import no_such.thing  # noqa: F401


def test_weights_that_need_a_missing_package_are_not_called_damaged(monkeypatch, tmp_path):
  (tmp_path / 'graph.pb').write_bytes(b'')
  monkeypatch.setitem(sys.modules, 'tensorboard', None)
  monkeypatch.setitem(sys.modules, 'tensorboard.compat.proto', None)
  with pytest.raises(optional.MissingPackage, match=r'tensorboard.*xmc_jax\[train\]'):
    tf_graph_files.read(tmp_path / 'graph.pb')
  source = registry.WeightSource('graph.pb', tf_graph_files.read, '')
  monkeypatch.setitem(registry.ENTRIES, 'toy', registry.Entry('', (source,), 8, None))
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))
  with pytest.raises(optional.MissingPackage):
    registry.load('toy')


@pytest.mark.parametrize('named', ['demo', 'configs/demo.py', 'xmc_gan_ablation:sentence'])
def test_a_config_of_the_package_goes_by_its_name(named, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  there = tiny.ROOT / 'configs' / named.removeprefix('configs/').removesuffix('.py')
  path, colon, row = str(there).partition(':')
  wanted = config_file.load(f'{path}.py{colon}{row}')
  assert config_file.load(named).to_dict() == wanted.to_dict()


def test_a_file_of_the_users_goes_before_one_of_the_package(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'demo.py').write_text(
      'from xmc_jax import config\ndef get_config():\n  return config.base()\n')
  assert config_file.load('configs/demo.py').steps == 100_000
  assert config_file.load('demo').steps == 800


def test_no_config_of_that_name(tmp_path):
  with pytest.raises(UserError, match='demo2.*demo'):
    config_file.load('demo2')


def test_the_models_are_in_the_wheel_whole():
  package = tiny.ROOT / 'xmc_jax'
  patterns = SETUP['options.package_data']['xmc_jax'].replace(' ', '').split(',')
  packed = {path for pattern in patterns for path in package.glob(pattern) if path.is_file()}
  files = {path for path in (package / 'models').rglob('*') if path.is_file()}
  assert files and files <= packed
  for name in model.names():
    folder.read_facts(model.SHIPPED / name)
  assert model.DEFAULT in model.names()
  assert sum(path.stat().st_size for path in files) < 25e6 * len(model.names())


def test_the_page_is_in_the_wheel_whole():
  package = tiny.ROOT / 'xmc_jax' / 'page'
  packed = set(package.glob(SETUP['options.package_data']['xmc_jax.page']))
  assert packed == {path for path in (package / 'site').rglob('*') if path.is_file()}
  assert package / 'site' / 'index.html' in packed
