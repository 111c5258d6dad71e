"""Every file in configs/ is a config that can be built; the paper's have the paper's sizes."""
import ast
import json
import re
import runpy

import jax
import pytest
import tiny
from ml_collections import ConfigDict

from xmc_jax import recipes
from xmc_jax.config import check
from xmc_jax.data import source as sources
from xmc_jax.encoders import weights
from xmc_jax.engine.optim import make_optimizers
from xmc_jax.engine.state import init_state
from xmc_jax.engine.step import in_turn, make_rounds
from xmc_jax.evals import protocols
from xmc_jax.main import main

FILES = sorted(path for path in (tiny.ROOT / 'configs').glob('*.py') if path.stem != '__init__')
SMALL, LARGE = {'g': 78_507_779, 'd': 87_911_713}, {'g': 92_865_539, 'd': 99_415_585}
PAPER = {'xmc_coco256': LARGE, 'xmc_ln_coco256': LARGE, 'xmc_ln_openimages256': LARGE,
         'xmc_coco128': SMALL, 'xmc_coco128_released': SMALL}

EXAMPLES = {'coco2014': 82_783, 'ln_coco': 134_272, 'ln_openimages': 507_444}

every_file = pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)


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
  named, stem, row = re.search(r'xmc train (--config configs/(\w+)\.py(?::(\w+))?) ', told).groups()
  assert stem == path.stem
  assert f'xmc train {named} --workdir runs/{stem}{f"_{row}" if row else ""}\n' in f'{told}\n'
  assert set(re.findall(r'--config \S+', told)) == {named}


@pytest.mark.parametrize('name', [*PAPER, 'xmc_ablation'])
def test_docstring_names_the_weights_and_the_data_that_the_config_needs(name):
  path = tiny.ROOT / 'configs' / f'{name}.py'
  told, config = ast.get_docstring(ast.parse(path.read_text())), load(path)
  ruler = protocols.find(config.evals.protocol).weights
  needs = [config.text.encoder, config.image.encoder, ruler]
  assert f'xmc weights get {" ".join(needs)}\n' in told
  assert all(weights.entry(need) for need in needs)
  assert f'xmc prepare {config.data.name} --source ORIGINALS --size {config.model.size}\n' in told
  assert config.data.name in sources.PREPARED
  steps = 500 * EXAMPLES[config.data.name] // (2 * config.batch_size)
  assert config.steps == steps
  assert name == 'xmc_ablation' or f'{steps:,} steps' in told


@every_file
def test_values_make_sense(path):
  check(load(path))


def test_the_papers_runs_differ_in_what_their_docstrings_say():
  whole, small, released, narratives = (
      load(tiny.ROOT / 'configs' / f'{name}.py') for name in (
          'xmc_coco256', 'xmc_coco128', 'xmc_coco128_released', 'xmc_ln_coco256'))
  assert (whole.batch_size, whole.model.width, whole.text.length) == (256, 96, 17)
  assert (whole.negatives, whole.model.norm_rows) == ('global', None)
  assert whole.image.encoder == 'vgg19' and set(whole.terms.values()) == {1.0}
  assert narratives.text.length == 64
  assert {k: v for k, v in flat(released).items() if flat(small)[k] != v} == {
      'negatives': 'local:8', 'model.norm_rows': 8, 'text.pool': 'released',
      'evals.protocol': 'legacy-keras'}
  assert (small.batch_size, small.image.encoder, small.model.size) == (56, 'resnet50', 128)


def flat(config):
  """{key with dots: value}."""
  return {f'{part}.{k}' if part else k: v
          for part, values in [('', config), *((k, v) for k, v in config.items()
                                               if isinstance(v, ConfigDict))]
          for k, v in values.items() if not isinstance(v, ConfigDict)}


ABLATION = tiny.ROOT / 'configs' / 'xmc_ablation.py'


@pytest.mark.parametrize('row, left', [
    ('none', {'adversarial'}), ('sentence', {'adversarial', 'sentence'}),
    ('sentence+word', {'adversarial', 'sentence', 'word'}),
    ('image+image_frozen', {'adversarial', 'image', 'image_frozen'}),
    ('all', {'adversarial', 'sentence', 'word', 'image', 'image_frozen'})])
def test_rows_of_the_ablation_are_terms(row, left):
  config = load(ABLATION, row)
  assert {name for name, weight in config.terms.items() if weight} == left
  assert set(config.terms.values()) <= {0.0, 1.0}
  assert config.model.width == 64


def test_a_row_of_the_ablation_is_given_after_a_colon(capsys):
  describe = lambda row: main(['xmc', 'describe', '--json', '--nocompile',
                               f'--config={ABLATION}:{row}', '--config.batch_size=8'])
  assert describe('none') == 0
  assert json.loads(capsys.readouterr().out)['frozen'].keys() == {'text'}
  assert describe('image_frozen') == 0
  assert json.loads(capsys.readouterr().out)['frozen']['image']['parameters'] == 20_024_384
  assert describe('sentences') == 2
  told = capsys.readouterr().err
  assert str(ABLATION) in told and "'sentences' is no contrast: give none, all, or some of" in told


@every_file
def test_recipe_trains_a_step_by_its_shapes(path):
  config = load(path)
  recipe = recipes.build(config)
  optimizers = make_optimizers(config.optim)

  def train(rng, frozen, batch):
    one_round = jax.tree.map(lambda x: x[0], batch)
    state = init_state(recipe.objective, optimizers, rng, one_round)
    rounds = make_rounds(recipe.objective, optimizers, config.ema_decay)
    return state, *in_turn(rounds)(state, frozen, batch)

  before, after, metrics = jax.eval_shape(
      train, jax.random.key(0), recipe.frozen_spec, recipe.batch_spec)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(after) == shapes(before)
  assert recipe.batch_spec['image'].shape[1:] == (
      config.batch_size, config.model.size, config.model.size, 3)
  assert {x.shape for x in metrics.values()} == {()}


@every_file
def test_describe_tells_the_parameters_as_json(path, capsys):
  assert main(['xmc', 'describe', f'--config={path}', '--json', '--nocompile']) == 0
  players = json.loads(capsys.readouterr().out)['players']
  told = {name: facts['parameters'] for name, facts in players.items()}
  assert told.keys() >= {'g', 'd'} and min(told.values()) > 100_000
  assert told == PAPER.get(path.stem, told)


def test_the_configs_of_the_paper_are_there():
  assert PAPER.keys() <= {path.stem for path in FILES}
