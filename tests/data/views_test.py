import jax.numpy as jnp
import pytest

from xmc_jax.data.views import one_view, two_views
from xmc_jax.types import UserError


def test_one_view_is_the_batch():
  batch = {'image': jnp.ones(2)}
  (view,) = one_view(batch)
  assert view is batch


def test_two_views_are_anchors_and_partners():
  batch = {'image': 1, 'partner_image': 2, 'tokens': 3, 'partner_tokens': 4}
  assert two_views(batch) == ({'image': 1, 'tokens': 3}, {'image': 2, 'tokens': 4})


def test_a_batch_without_partners_is_explained():
  with pytest.raises(UserError, match='--config.data.partners: .* for instance exact'):
    two_views({'image': jnp.ones(2), 'tokens': jnp.ones(2)})
