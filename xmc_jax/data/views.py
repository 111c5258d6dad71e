"""How a batch becomes the views that the branches are run on."""
from xmc_jax.types import Batch, UserError

PARTNER = 'partner_'


def one_view(batch: Batch) -> tuple[Batch, ...]:
  """The batch as it is: one branch."""
  return (batch,)


def two_views(batch: Batch) -> tuple[Batch, Batch]:
  """Anchors and their partners, row by row, under the usual names: two branches of one network.

  UserError if the batch has no partners.
  """
  partners = {key.removeprefix(PARTNER): leaf for key, leaf in batch.items()
              if key.startswith(PARTNER)}
  if not partners:
    raise UserError('two branches need partners of like label; choose their rule with '
                    '--config.data.partners, for instance exact')
  return {key: leaf for key, leaf in batch.items() if not key.startswith(PARTNER)}, partners


def with_partners(batch: Batch) -> Batch:
  """What `two_views` splits, where every view is as `batch`: for shapes of batches."""
  return {**batch, **{f'{PARTNER}{key}': leaf for key, leaf in batch.items()}}
