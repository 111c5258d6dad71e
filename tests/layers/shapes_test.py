"""The shapes that functions are annotated with are checked wherever tests call them."""
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from xmc_jax.layers.attention import attend
from xmc_jax.layers.resample import append_vector
from xmc_jax.losses.contrastive import nt_xent
from xmc_jax.losses.matching import word_scores

ONES, TRUE = jnp.ones, lambda *shape: jnp.ones(shape, bool)


@pytest.mark.parametrize('call', [
    lambda: nt_xent(ONES((3, 4)), ONES((3, 5))),
    lambda: nt_xent(ONES((3, 4)), ONES((3, 4), int)),
    lambda: word_scores(ONES((2, 5, 4)), ONES((2, 3, 4)), TRUE(2, 4)),
    lambda: attend(ONES((2, 5, 4)), ONES((2, 3, 4)), ONES((2, 3, 6)), ONES((2, 3))),
    lambda: append_vector(ONES((2, 4, 4, 3)), ONES((3, 6)))])
def test_a_wrong_shape_or_type_is_refused(call):
  with pytest.raises(TypeCheckError):
    call()


def test_right_shapes_pass():
  assert append_vector(ONES((2, 4, 4, 3)), ONES((2, 6))).shape == (2, 4, 4, 9)
  assert attend(ONES((2, 5, 4)), ONES((2, 3, 4)), ONES((2, 3, 6)), TRUE(2, 3)).shape == (2, 5, 6)
