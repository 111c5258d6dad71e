"""The README.md of a model folder: a model card as Hugging Face reads it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from xmc_jax.evals.results import BASELINES
from xmc_jax.pretrained import folder

# Licenses of the embedded sets, and of what is trained on them alone; see NOTICE.
_NOTO = ('Noto Emoji (Apache-2.0), with names and keywords of emojibase (MIT) and Unicode CLDR '
         '(Unicode-3.0)')
_EMBEDDED = {'emoji': ('apache-2.0', _NOTO), 'emoji_scenes': ('apache-2.0', _NOTO)}
# Manifest entries without which two scores cannot be compared.
_CONDITIONS = ('protocol', 'network', 'fakes', 'reals', 'reference', 'step', 'weights')

_CHOOSES = ('\n| discriminator{others} | stored as {dtype}; chooses among several images, with '
            '`best_of` |')
_TEXT = """
# {name}

A text-to-image GAN: the method `{method}` of [xmc_jax](https://pypi.org/project/xmc_jax),
trained for {step:,} steps on `{data}`. It draws {size} x {size} px.

```python
import xmc_jax

model = xmc_jax.load("{name}")      # or the path of this folder
model("a red apple", num_images=4, seed=3).images[0].save("apple.png")
```

| | |
|---|---|
| generator | {weights} weights, stored as {dtype} |{discriminator}
| text encoder | {encoder}, stored as {text_dtype}, {pieces:,} of {original:,} tokens |
| captions | up to {length} tokens, start and end included |
| data | {data_license} |

{scores}
What it draws looks like its training images: other subjects become the nearest of them, or
nothing recognizable. `config.json` has all settings of the training, `SHA256SUMS` the checksums of
the files.
"""


def can_show(line: Mapping[str, Any]) -> bool:
  """Whether a line of scores.jsonl has what a row of the card needs; others may write there too."""
  return (isinstance(line.get('metric'), str) and isinstance(line.get('value'), (int, float))
          and {'protocol', 'fakes'} <= line.keys() and ('reference' in line) <= ('reals' in line))


def render(name: str, facts: Mapping[str, Any], scores: Sequence[Mapping[str, Any]],
           license: str | None) -> str:
  """The card as text.

  Args:
    name: of the model.
    facts: the content of config.json.
    scores: lines of scores.jsonl; of one metric and protocol, the last counts.
    license: of the model, an identifier that Hugging Face knows; None: that of an embedded data
      set, else "unknown".
  """
  config, encoder = facts['config'], facts['text_encoder']
  data = config['data']['name']
  known, origin = _EMBEDDED.get(data, ('unknown', f'`{data}`'))
  scores = list({(line['metric'], line['protocol']): line for line in scores
                 if not line['metric'].endswith(BASELINES)}.values())
  metadata = {
      'license': license or known, 'library_name': folder.LIBRARY,
      'pipeline_tag': 'text-to-image', 'tags': ['jax', 'flax', 'gan', config['method'], data],
      'model-index': [{'name': name, 'results': _results(data, scores)}] if scores else None}
  front = yaml.safe_dump({k: v for k, v in metadata.items() if v}, sort_keys=False)
  return f'---\n{front}---\n' + _TEXT.format(
      name=name, method=config['method'], step=facts['step'], data=data,
      discriminator=_CHOOSES.format(
          dtype=facts['dtype'], others=' and matching network' if config['model'].get('matcher')
          else '') if facts.get('best_of') else '',
      size=config['model']['size'], weights=facts['weights'], dtype=facts['dtype'],
      encoder=encoder['name'], text_dtype=encoder['dtype'], pieces=encoder['pieces'],
      original=encoder['pieces_of_original'], length=config['text']['length'],
      data_license=origin, scores=_table(scores))


def _results(data: str, scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """The results of the metadata `model-index`, one for each reference and one without."""
  references = list(dict.fromkeys(line.get('reference') for line in scores))
  return [{'task': {'type': 'text-to-image', 'name': 'Text-to-image generation'},
           'dataset': {'type': data, 'name': reference or data},
           'metrics': [{'type': line['metric'], 'name': f'{line["metric"]} ({line["protocol"]})',
                        'value': line['value'],
                        'args': {key: line[key] for key in _CONDITIONS if key in line}}
                       for line in scores if line.get('reference') == reference]}
          for reference in references]


def _table(scores: Sequence[Mapping[str, Any]]) -> str:
  """The scores as a table, with a paragraph's end; '' if there are none."""
  if not scores:
    return ''
  against = lambda line: (f' against {line["reals"]:,} of {line["reference"]}'
                          if 'reference' in line else '')      # a detector compares with none
  rows = [f'| {line["metric"]} | {line["value"]:.4g} | {line["protocol"]} | {line["fakes"]:,} '
          f'images{against(line)} |' for line in scores]
  head = ('Scores of the weights before they were stored in fewer bits:\n\n'
          '| metric | value | protocol | measured on |\n|---|---|---|---|')
  return '\n'.join([head, *rows, ''])
