"""The weights that come with the package: written, found, read back, and refused when wrong."""
import jax
import numpy as np
import pytest

from xmc_jax.evals.networks import alignment_net, detector
from xmc_jax.types import UserError

KINDS = pytest.mark.parametrize('kind', (alignment_net, detector),
                                ids=('alignment_net', 'detector'))


@KINDS
def test_weights_come_back_in_half_precision(kind, tmp_path):
  rng = np.random.default_rng(0)
  module, variables = kind.load(kind.find('emoji_scenes'))
  exact = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), variables)
  kind.save(tmp_path / 'new' / 'weights.safetensors', exact)
  back, loaded = kind.load(tmp_path / 'new' / 'weights.safetensors')
  assert back == module
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-11, atol=1e-7), loaded, exact)
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(loaded))


@KINDS
def test_weights_are_small_enough_to_travel_in_the_package(kind):
  assert kind.path_of('emoji_scenes').stat().st_size < 2_000_000


@KINDS
def test_missing_damaged_and_other_weights_are_refused(kind, tmp_path):
  name = kind.__name__.rpartition('.')[2]
  path = tmp_path / 'weights.safetensors'
  with pytest.raises(UserError, match='choose one of (emoji, )?emoji_scenes'):
    kind.find(path)
  with pytest.raises(UserError, match='there is no such file'):
    kind.load(path)
  path.write_bytes(b'nothing')
  with pytest.raises(UserError, match='cannot be read'):
    kind.load(path)
  kind.save(path, {'params': {'a': np.ones(3)}})
  with pytest.raises(UserError, match=f'not those of the {name}.*tools/train_{name}.py'):
    kind.load(path)
  variables = kind.load(kind.find('emoji_scenes'))[1]
  kind.save(path, jax.tree.map(lambda x: np.full(x.shape, np.inf), variables))
  with pytest.raises(UserError, match=f'tensor .* infinite.*tools/train_{name}.py'):
    kind.load(path)
