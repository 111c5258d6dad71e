"""Names of impl: what is chosen, what is refused."""
import dataclasses

import pytest

from xmc_jax.layers import resample
from xmc_jax.layers.impl import AUTO, CHOICES, FAST, REFERENCE, choose
from xmc_jax.layers.norm import NORMALIZED
from xmc_jax.types import UserError


def test_the_three_sets():
  assert choose('fast', 'cpu') == FAST and choose('reference', 'tpu') == REFERENCE
  assert all(choose('auto', backend) == impl for backend, impl in AUTO.items())
  assert choose('auto', 'unheard_of') == FAST


def test_single_forms_are_changed():
  assert choose('reference,up=spread,words=gram', 'cpu') == dataclasses.replace(
      REFERENCE, up='spread', words='gram')


@pytest.mark.parametrize('name, message', [
    ('slow', "model.impl=slow: 'slow' is unknown; begin with one of auto, fast, reference"),
    ('auto,up=fold', 'up=fold does not exist; choose from up=reference|spread|parity'),
    ('auto,down=reference', 'down=reference does not exist')])
def test_names_that_do_not_exist_are_refused(name, message):
  with pytest.raises(UserError) as error:
    choose(name, 'cpu')
  assert message in str(error.value)


def test_every_form_has_a_name_and_every_name_a_form():
  assert set(CHOICES) == {field.name for field in dataclasses.fields(FAST)}
  assert set(CHOICES['up']) == set(resample.AFTER_UP)
  assert set(CHOICES['pool']) == set(resample.BEFORE_POOL)
  assert set(CHOICES['norm']) == set(NORMALIZED)
  for impl in (FAST, REFERENCE, *AUTO.values()):
    assert all(getattr(impl, operation) in names for operation, names in CHOICES.items())
