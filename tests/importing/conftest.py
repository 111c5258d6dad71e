"""A DAMSM with random weights, and images by `xmc sample` with fixed noise."""
import shutil

import jax
import numpy as np
import published_states as states
import pytest
import toys
from PIL import Image
from published_runs import CAPTIONS, TEXT, WORDS
from toy_backbone import TOY

from xmc_jax import sampling
from xmc_jax.cli.main import main
from xmc_jax.data import vocabulary
from xmc_jax.encoders import damsm, image_backbones


@pytest.fixture(scope='module')
def text_state():
  return states.filled(states.damsm_text(1 + len(WORDS), 6, TEXT), seed=9)


@pytest.fixture
def damsm_folder(text_state, tmp_path, monkeypatch):
  """A DAMSM with the text encoder of `text_state`, and an image encoder without a file."""
  monkeypatch.setitem(image_backbones.BACKBONES, 'toy', TOY)
  module = damsm.Damsm(1 + len(WORDS), 'toy', embedding=6, width=TEXT)
  both = lambda name: np.stack([text_state[f'rnn.{name}_l0{end}'].T for end in ('', '_reverse')])
  captions = {
      'embed': {'embedding': text_state['encoder.weight']},
      'lstm': {'input': both('weight_ih'), 'hidden': both('weight_hh'),
               'input_bias': both('bias_ih'), 'hidden_bias': both('bias_hh')}}
  params = damsm.create(module, jax.random.key(0)) | {'captions': captions}
  damsm.save(tmp_path / 'damsm', module, params, vocabulary.word_level(WORDS).to_str())
  return tmp_path / 'damsm'


@pytest.fixture
def drawn(monkeypatch):
  """Images uint8 [n, h, w, 3] by `xmc sample`, with noise that outlives JAX's."""
  monkeypatch.setattr(sampling, 'caption_noise', lambda captions, features, *_: toys.normal(
      5, len(captions), features))

  def call(run, *flags):
    out = run / 'samples'
    shutil.rmtree(out, ignore_errors=True)
    assert main(['xmc', 'sample', f'--workdir={run}', '--each=2', *CAPTIONS, *flags]) == 0
    return np.stack([np.asarray(Image.open(path)) for path in sorted(out.glob('0*.png'))])
  return call
