"""Every file in configs/ is a config that can be built; the paper's have the paper's sizes."""
import ast
import json
import re
import runpy

import jax
import pytest
import tiny
from ml_collections import ConfigDict

from xmc_jax import methods
from xmc_jax.cli.main import main
from xmc_jax.config import check
from xmc_jax.data import source as sources
from xmc_jax.encoders import registry
from xmc_jax.evals import protocols
from xmc_jax.methods._shared import label_shape
from xmc_jax.training.optim import make_optimizers
from xmc_jax.training.state import init_state
from xmc_jax.training.step import in_turn, make_rounds

FILES = sorted(path for path in (tiny.ROOT / 'configs').glob('*.py') if path.stem != '__init__')
IN_EXAMPLES = sorted((tiny.ROOT / 'examples').glob('*/*64.py'))
SMALL, LARGE = {'g': 78_507_779, 'd': 87_911_713}, {'g': 92_865_539, 'd': 99_415_585}
PAPER = {'xmc_gan_coco256': LARGE, 'xmc_gan_ln_coco256': LARGE, 'xmc_gan_ln_openimages256': LARGE,
         'xmc_gan_coco128': SMALL, 'xmc_gan_coco128_released': SMALL}
# Parameters of the other families' released networks, and of the encoders that they read with.
RELEASED = PAPER | {
    'attngan_cub': {'g': 7_084_592, 'd': 97_596_678, 'text': 2_075_320},
    'attngan_coco': {'g': 13_811_456, 'd': 216_878_982, 'text': 8_629_420},
    'dm_gan_cub': {'g': 21_449_042, 'd': 25_298_598, 'text': 2_075_320},
    'dm_gan_coco': {'g': 22_335_314, 'd': 25_298_598, 'text': 8_629_420},
    'df_gan_cub': {'g': 9_744_131, 'd': 6_915_142, 'text': 2_075_320},
    'df_gan_coco': {'g': 9_744_131, 'd': 6_915_142, 'text': 8_629_420},
    'ssa_gan_cub': {'g': 29_494_273, 'd': 80_379_526, 'text': 2_075_320},
    'ssa_gan_coco': {'g': 29_494_273, 'd': 80_379_526, 'text': 8_629_420},
    # CLIP's file has one number more, the temperature, which nothing here reads.
    **dict.fromkeys(('galip_cub', 'galip_coco'), {
        'g': 51_830_211, 'd': 30_806_021, 'clip': 151_277_313 - 1}),
    # The encoder of captions and the two maps behind the image network.
    'damsm_cub': {'encoder': 2_075_320 + 721_152}, 'damsm_coco': {'encoder': 8_629_420 + 721_152}}

EXAMPLES = {'coco2014': 82_783, 'ln_coco': 134_272, 'ln_openimages': 507_444}

every_file = pytest.mark.parametrize('path', [*FILES, *IN_EXAMPLES], ids=lambda path: path.stem)


def load(path, *row):
  return runpy.run_path(str(path))['get_config'](*row)


@every_file
def test_config_is_locked(path):
  config = load(path)
  assert config.is_locked
  with pytest.raises(AttributeError):
    config.model.depth = 3


@every_file
def test_docstring_tells_the_command_that_trains_this_very_file(path):
  told = ast.get_docstring(ast.parse(path.read_text()))
  named, stem, row = re.search(
      r'xmc train (--config (?:configs|examples/\w+)/(\w+)\.py(?::(\w+))?) ', told).groups()
  assert stem == path.stem
  assert f'xmc train {named} --workdir runs/{stem}{f"_{row}" if row else ""}\n' in f'{told}\n'
  assert {found.partition(':')[0] for found in re.findall(r'--config \S+', told)} == {
      named.partition(':')[0]}


@pytest.mark.parametrize('name', [*PAPER, 'xmc_gan_ablation'])
def test_docstring_names_the_weights_and_the_data_that_the_config_needs(name):
  path = tiny.ROOT / 'configs' / f'{name}.py'
  told, config = ast.get_docstring(ast.parse(path.read_text())), load(path)
  protocol = protocols.find(config.evals.protocol).weights
  needs = [config.text.encoder, config.image.encoder, protocol]
  assert f'xmc weights get {" ".join(needs)}\n' in told
  assert all(registry.entry(need) for need in needs)
  assert f'xmc prepare {config.data.name} --source ORIGINALS --size {config.model.size}\n' in told
  assert config.data.name in sources.PREPARED
  steps = 500 * EXAMPLES[config.data.name] // (2 * config.batch_size)
  assert config.steps == steps
  assert name == 'xmc_gan_ablation' or f'{steps:,} steps' in told


@every_file
def test_values_make_sense(path):
  check(load(path))


def test_the_papers_runs_differ_in_what_their_docstrings_say():
  whole, small, released, narratives = (
      load(tiny.ROOT / 'configs' / f'{name}.py') for name in (
          'xmc_gan_coco256', 'xmc_gan_coco128', 'xmc_gan_coco128_released', 'xmc_gan_ln_coco256'))
  assert (whole.batch_size, whole.model.width, whole.text.length) == (256, 96, 17)
  assert (whole.negatives, whole.model.bn_group_size) == ('global', None)
  assert whole.image.encoder == 'vgg19' and set(whole.terms.values()) == {1.0}
  assert narratives.text.length == 64
  assert {k: v for k, v in flat(released).items() if flat(small)[k] != v} == {
      'negatives': 'local:8', 'model.bn_group_size': 8, 'text.pool': 'released',
      'evals.protocol': 'legacy-keras'}
  assert (small.batch_size, small.image.encoder, small.model.size) == (56, 'resnet50', 128)


def flat(config):
  """{key with dots: value}."""
  return {f'{part}.{k}' if part else k: v
          for part, values in [('', config), *((k, v) for k, v in config.items()
                                               if isinstance(v, ConfigDict))]
          for k, v in values.items() if not isinstance(v, ConfigDict)}


ABLATION = tiny.ROOT / 'configs' / 'xmc_gan_ablation.py'


@pytest.mark.parametrize('row, left', [
    ('none', {'hinge'}), ('sentence', {'hinge', 'sentence'}),
    ('sentence+word', {'hinge', 'sentence', 'word'}),
    ('image+image_frozen', {'hinge', 'image', 'image_frozen'}),
    ('all', {'hinge', 'sentence', 'word', 'image', 'image_frozen'})])
def test_rows_of_the_ablation_are_losses(row, left):
  config = load(ABLATION, row)
  assert {name for name, weight in config.terms.items() if weight} == left
  assert set(config.terms.values()) <= {0.0, 1.0}
  assert config.model.width == 64


def test_a_row_of_the_ablation_is_given_after_a_colon(capsys):
  describe = lambda row: main(['xmc', 'describe', '--json', '--no_compile',
                               f'--config={ABLATION}:{row}', '--config.batch_size=8'])
  assert describe('none') == 0
  assert json.loads(capsys.readouterr().out)['frozen'].keys() == {'text'}
  assert describe('image_frozen') == 0
  assert json.loads(capsys.readouterr().out)['frozen']['image']['parameters'] == 20_024_384
  assert describe('sentences') == 2
  told = capsys.readouterr().err
  assert str(ABLATION) in told and "'sentences' is no contrast: give none, all, or some of" in told


def one_a_method():
  """A config of each method, a published one where there is: tracing takes seconds."""
  ours_first = sorted(FILES, key=lambda path: not path.stem.endswith(('_emoji', '_scenes')))
  return sorted({load(path).method: path for path in ours_first}.values())


@pytest.mark.slow
@pytest.mark.parametrize('path', one_a_method(), ids=lambda path: path.stem)
def test_method_trains_a_step_by_its_shapes(path):
  config = load(path)
  method = methods.build(config)
  optimizers = make_optimizers(config.optim)

  def train(rng, frozen, batch):
    one_round = jax.tree.map(lambda x: x[0], batch)
    state = init_state(method.objective, optimizers, rng, one_round)
    rounds = make_rounds(method.objective, optimizers, config.ema_decay)
    return state, *in_turn(rounds)(state, frozen, batch)

  before, after, metrics = jax.eval_shape(
      train, jax.random.key(0), method.frozen_spec, method.batch_spec)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(after) == shapes(before)
  assert method.batch_spec['image'].shape[1:] == (
      config.batch_size, config.model.size, config.model.size, 3)
  assert {x.shape for x in metrics.values()} == {()}


@pytest.mark.slow
@every_file
def test_describe_tells_the_parameters_as_json(path, capsys):
  assert main(['xmc', 'describe', f'--config={path}', '--json', '--no_compile',
               '--config.batch_size=8']) == 0
  facts = json.loads(capsys.readouterr().out)
  told = {name: of['parameters'] for name, of in (facts['networks'] | facts['frozen']).items()}
  assert min(told.values()) > 1_000
  assert RELEASED.get(path.stem, {}).items() <= told.items()


def test_the_configs_of_the_papers_are_there():
  assert RELEASED.keys() <= {path.stem for path in FILES}


SCL = tiny.ROOT / 'configs' / 'scl.py'
SMOKE = tiny.ROOT / 'configs' / 'smoke.py'
OF_OTHERS = (SCL, ABLATION, SMOKE)      # they take an argument


@pytest.mark.parametrize('name', ['xmc_gan_ablation:word', 'scl:ssa_gan_coco', *(
    path.stem for path in FILES if path not in OF_OTHERS)])
def test_a_smoke_run_is_the_run_itself_for_fifty_steps(name):
  file, *argument = name.split(':')
  smoke, whole = flat(load(SMOKE, name)), flat(load(SMOKE.with_name(f'{file}.py'), *argument))
  changed = {key for key in whole if smoke[key] != whole[key]}
  assert smoke.keys() == whole.keys() and smoke['steps'] == 50
  assert changed <= {'steps', 'every.report', 'every.save', 'every.images', 'evals.every'}


@pytest.mark.parametrize('name', ['smoke', 'xmc', ''])
def test_what_a_smoke_run_cannot_shorten_is_told(name, capsys):
  assert main(['xmc', 'describe', '--no_compile', f'--config={SMOKE}:{name}']) == 2
  assert 'no such config' in capsys.readouterr().err


@pytest.mark.parametrize('name', [path.stem for path in FILES if path not in OF_OTHERS])
def test_the_framework_extends_every_config(name):
  config, base = load(SCL, name), load(SCL.with_name(f'{name}.py'))
  check(config)
  assert config.is_locked and config.data.partners == 'exact'
  encoder = base.text.get('encoder', '')
  assert config.text.get('encoder', '') == encoder.replace('runs/', 'runs/scl_')
  own = {
    'method',
    'base',
    'data.partners',
    'text.encoder',
    'scl.embedding',
    'scl.supcon_fake',
    'scl.supcon_real',
    'scl.fake_real',
    'scl.temperature',
    'scl.unicl',
    'scl.pairs_temperature',
    'terms.damsm_mask_same_class',
    'terms.mask_same_class',
    'terms.supcon_text',
    'terms.supcon_image',
    'terms.unicl',
  }
  known = flat(base)
  assert {k for k, v in flat(config).items() if k not in known or known[k] != v} <= own


def test_the_framework_sets_its_losses():
  encoder, generator = (load(SCL, name) for name in ('damsm_coco', 'ssa_gan_coco'))
  weights = {'words': 1.0, 'sentence': 1.0, 'supcon_words': 0.0, 'supcon_text': 1.0,
             'supcon_image': 1.0, 'unicl': 1.0, 'labels': 0.0}
  assert encoder.method == 'damsm' and encoder.terms.mask_same_class
  assert {name: encoder.terms[name] for name in weights} == weights
  assert (encoder.terms.temperature, encoder.terms.pairs_temperature) == (0.5, 0.1)
  assert (generator.method, generator.base, generator.terms.damsm_mask_same_class) == (
    'scl',
    'ssa_gan',
    True,
  )
  assert generator.scl.to_dict() == {
      'embedding': 'frozen', 'supcon_fake': 0.2, 'supcon_real': 0.0, 'temperature': 0.5,
      'fake_real': 0.0, 'unicl': 0.0, 'pairs_temperature': 0.1}


EMBEDDED = [path for path in FILES
            if path.stem.endswith(('_emoji', '_scenes')) or path.stem in ('emoji64', 'scenes64')]


@pytest.mark.parametrize('path', EMBEDDED, ids=lambda path: path.stem)
def test_configs_of_embedded_sets_know_their_labels(path):
  config = load(path)
  source = sources.load(config.data.name, 'heldout', 32)
  assert source.label(0).shape == label_shape(config.model)
  assert config.model.classes == len(source.class_names)


@pytest.mark.parametrize('name', ['scl', 'ssa_gan', ''])
def test_what_the_framework_cannot_extend_is_told(name, capsys):
  assert main(['xmc', 'describe', '--no_compile', f'--config={SCL}:{name}']) == 2
  assert 'no such config' in capsys.readouterr().err
