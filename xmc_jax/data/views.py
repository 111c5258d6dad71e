"""Splits a batch into the views that the networks see in separate forward passes."""
from xmc_jax.types import PARTNER, Batch, UserError


def one_view(batch: Batch) -> tuple[Batch, ...]:
  """Returns the batch itself: one view."""
  return (batch,)


def two_views(batch: Batch) -> tuple[Batch, Batch]:
  """Returns the anchors and their partners, aligned, both under the usual names.

  Raises:
    UserError: the batch has no partners.
  """
  partners = {key.removeprefix(PARTNER): leaf for key, leaf in batch.items()
              if key.startswith(PARTNER)}
  if not partners:
    raise UserError('--config.data.partners: two branches need partners with matching labels; '
                    'choose their rule, for instance exact')
  return {key: leaf for key, leaf in batch.items() if not key.startswith(PARTNER)}, partners


def with_partners(batch: Batch) -> Batch:
  """Returns a batch whose two views are both `batch`; used for the shapes of batches."""
  return {**batch, **{f'{PARTNER}{key}': leaf for key, leaf in batch.items()}}
