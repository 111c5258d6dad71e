"""Settings that make no sense are refused before any weights are read; paths become absolute."""
import pytest
import tiny

from xmc_jax import methods
from xmc_jax.cli import config_file
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
