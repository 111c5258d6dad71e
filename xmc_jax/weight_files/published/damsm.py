"""DAMSM: `text_encoderN.pth` and `image_encoderN.pth`, N the epoch."""
from __future__ import annotations

import numpy as np

from xmc_jax.weight_files.published.rules import Arrays, Rule

TEXT = (Rule('encoder', 'captions/embed'), Rule('rnn', 'captions/lstm'))
IMAGE = (Rule('emb_cnn_code', 'images/embedding'), Rule('emb_features', 'images/regions'))

_LSTM = {'input': 'weight_ih', 'hidden': 'weight_hh', 'input_bias': 'bias_ih',
         'hidden_bias': 'bias_hh'}


def stacked_directions(text: Arrays) -> dict[str, np.ndarray]:
  """The text encoder's arrays with those of both directions of the LSTM in one, as ours are."""
  found = dict(text)
  for ours, theirs in _LSTM.items():
    names = [f'rnn.{theirs}_l0', f'rnn.{theirs}_l0_reverse']
    if all(name in found for name in names):
      found[f'rnn.{ours}'] = np.stack([found.pop(name).T for name in names])
  return found
