"""The judge's network and its weights file."""
import jax
import numpy as np
import pytest

from xmc_jax.encoders import judge
from xmc_jax.types import UserError


def batch(rows=2):
  rng = np.random.default_rng(0)
  images = rng.uniform(size=(rows, judge.SIDE, judge.SIDE, 3)).astype(np.float32)
  return images, rng.normal(size=(rows, judge.SENTENCE)).astype(np.float32)


def test_weights_come_back_in_half_precision(tmp_path):
  module = judge.Judge()
  variables = jax.jit(module.init)(jax.random.key(1), *batch())
  judge.save(tmp_path / 'new' / 'judge.safetensors', variables)
  back, loaded = judge.load(tmp_path / 'new' / 'judge.safetensors')
  apply = jax.jit(module.apply)
  for a, b in zip(apply(variables, *batch()), apply(loaded, *batch()), strict=True):
    np.testing.assert_allclose(a, b, rtol=0.02, atol=0.01)
  assert back == module
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(loaded))


@pytest.mark.parametrize('name', judge.NAMES)
def test_codes_have_unit_length_and_left_is_not_right(name):
  module, variables = judge.load(judge.find(name))
  images, sentences = batch()
  pictures, captions, _ = module.apply(variables, images, sentences)
  for code in (pictures, captions):
    assert code.shape == (2, 128)
    np.testing.assert_allclose(np.linalg.norm(code, axis=1), 1, atol=1e-5)
  half = np.where(np.arange(64)[None, None, :, None] < 32, images, 1)
  a, b = (module.apply(variables, x, method='picture') for x in (half, half[:, :, ::-1]))
  assert (np.sum(a * b, 1) < 0.99).all()


def test_missing_damaged_and_other_weights_are_refused(tmp_path):
  path = tmp_path / 'judge.safetensors'
  with pytest.raises(UserError, match='choose one of emoji, emoji_scenes'):
    judge.find(path)
  with pytest.raises(UserError, match='tools/train_judge.py'):
    judge.load(path)
  path.write_bytes(b'nothing')
  with pytest.raises(UserError, match='cannot be read'):
    judge.load(path)
  judge.save(path, {'params': {'a': np.ones(3)}})
  with pytest.raises(UserError, match='not those of the judge'):
    judge.load(path)
