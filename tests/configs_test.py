"""Every file in configs/ is a config that can be built; the paper's have the paper's sizes."""
import ast
import json
import re
import runpy

import jax
import pytest
import tiny

from xmc_jax import recipes
from xmc_jax.engine.optim import make_optimizers
from xmc_jax.engine.state import init_state
from xmc_jax.engine.step import in_turn, make_rounds
from xmc_jax.main import main

FILES = sorted(path for path in (tiny.ROOT / 'configs').glob('*.py') if path.stem != '__init__')
PAPER = {'xmc_coco256': {'g': 92_865_539, 'd': 99_415_585},
         'xmc_coco128': {'g': 78_507_779, 'd': 87_911_713}}

every_file = pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)


def load(path):
  return runpy.run_path(str(path))['get_config']()


@every_file
def test_config_is_locked(path):
  config = load(path)
  assert config.is_locked
  with pytest.raises(AttributeError):
    config.model.depth = 3


@every_file
def test_docstring_tells_the_command_that_trains_this_very_file(path):
  told = ast.get_docstring(ast.parse(path.read_text()))
  named = f'--config configs/{path.name}'
  assert f'xmc train {named} --workdir runs/{path.stem}' in told
  assert set(re.findall(r'--config \S+', told)) == {named}


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
