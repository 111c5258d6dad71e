"""The image transformer of OpenAI's CLIP by the names of their code, as GALIP's files hold it."""
from __future__ import annotations

import numpy as np

from xmc_jax.weight_files.published.rules import Arrays, Rule

IMAGE = (
  Rule('conv1', 'patches'),
  Rule('tokens', ''),
  Rule('positional_embedding', 'positions'),
  Rule('ln_pre', 'norm_before'),
  *(Rule(f'transformer.resblocks.{{n}}.{theirs}', f'layer_{{n}}/{ours}') for theirs, ours in (
    ('ln_1', 'norm_attend'), ('ln_2', 'norm_widen'), ('attn.query', 'query'), ('attn.key', 'key'),
    ('attn.value', 'value'), ('attn.out_proj', 'attended'), ('mlp.c_fc', 'widen'),
    ('mlp.c_proj', 'narrow'))))


def separate(arrays: Arrays) -> dict[str, np.ndarray]:
  """The arrays with one for each of query, key and value, which theirs keep in one."""
  found = {}
  for name, array in arrays.items():
    layer, joined, kind = name.partition('in_proj_')
    if joined and len(array) % 3 == 0:
      for part, third in zip(('query', 'key', 'value'), np.split(array, 3)):
        found[f'{layer}{part}.{kind}'] = third
    else:
      found[{'class_embedding': 'tokens.class',
             'positional_embedding': 'positional_embedding.weight'}.get(name, name)] = array
  return found
