"""How a batch becomes the views that the branches are run on."""
from xmc_jax.types import Batch


def one_view(batch: Batch) -> tuple[Batch, ...]:
  """The batch as it is: one branch."""
  return (batch,)
