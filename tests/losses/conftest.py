"""Losses neither promote a dtype nor broadcast over a missing axis."""
import jax
import pytest


@pytest.fixture(autouse=True)
def spelled_out():
  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    yield
