"""Whether a command resumes the run that is in its folder, or would make another one of it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xmc_jax.config import flat
from xmc_jax.types import UserError

Meta = Mapping[str, Any]      # what is saved beside a state, see `trainer.train`


def check(workdir: Any, old: Meta, new: Meta) -> None:
  """Raises UserError unless both have the same method, data and tokenizer.

  What the older one does not say counts as the same: imported runs have met no data yet, and older
  ones did not note the held-out images.
  """
  old = {**{name: new[name] for name in ('data', 'heldout')}, **old}
  parts = {'config.method': lambda meta: meta['config']['method'],
           'config.base': lambda meta: meta['config'].get('base'),
           'the data': lambda meta: meta['data'],
           'the held-out data': lambda meta: meta['heldout'],
           'the tokenizer': lambda meta: meta['tokenizer']}
  changed = [name for name, of in parts.items() if of(old) != of(new)]
  if 'the data' in changed:      # which says it all
    changed = [name for name in changed if name != 'the held-out data']
  if changed:
    was, now = (f'{meta["config"]["method"]} on {meta["config"]["data"]["name"]}'
                for meta in (old, new))
    where = (f'it was {was}, now {now}; leave --config out to resume it as it was' if was != now
             else 'their files are others than then; put those back')
    raise UserError(f'--workdir={workdir}: {" and ".join(changed)} changed since this run began: '
                    f'{where}, give another --workdir, or insist with --allow_changes')


def report(old: Meta, new: Meta) -> None:
  """Prints what differs between two configs and their frozen networks."""
  # Older runs did not note the settings of the networks.
  parts = [part for part in ('config', 'frozen', 'frozen_settings') if part in old]
  old, new = (flat({part: meta[part] for part in parts}) for meta in (old, new))
  for key in sorted(old.keys() | new.keys()):
    if key == 'config.init':
      if old.get(key) != new.get(key):
        print(f'config.init={new.get(key)} is not read: this run goes on from its checkpoint')
    elif old.get(key) != new.get(key):
      print(f'{key} changed from {old.get(key)} to {new.get(key)}')
