"""`xmc import damsm`: a published DAMSM becomes a folder with its own Inception."""
import os
import pickle

import jax
import numpy as np
import published_states as states
import pytest
import torch_writer
from published_runs import TEXT, WORDS

from xmc_jax.cli.main import main
from xmc_jax.encoders import damsm
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def damsm_files(tmp_path, text_state):
  """Both encoders' files and the vocabulary, {flag: path}; and the state of the image encoder."""
  image = states.filled(states.damsm_image(TEXT))
  for name, state in (('text', text_state), ('image', image)):      # as torch wrote in 2018
    torch_writer.write(tmp_path / f'{name}_encoder9.pth', state, zipped=False, old='tensor')
  numbers = dict(enumerate(['<end>', *WORDS]))
  with open(tmp_path / 'captions.pickle', 'wb') as file:
    pickle.dump([[[1, 2]], [[3]], numbers, {w: i for i, w in numbers.items()}], file, protocol=2)
  return {'--text': tmp_path / 'text_encoder9.pth', '--image': tmp_path / 'image_encoder9.pth',
          '--vocabulary': tmp_path / 'captions.pickle'}, image


def import_damsm(files, out):
  return main(['xmc', 'import', 'damsm', *(str(x) for pair in files.items() for x in pair),
               f'--out={out}'])


def test_a_published_damsm_becomes_a_folder_with_its_own_inception(
    damsm_files, damsm_folder, tmp_path):
  files, image = damsm_files
  assert import_damsm(files, tmp_path / 'out') == 0
  module, variables = damsm.load(damsm.find(tmp_path / 'out'))      # no other file is needed
  assert (module.vocabulary, module.embedding, module.width) == (1 + len(WORDS), 6, TEXT)
  params = variables['params']
  wanted = damsm.load(damsm_folder)[1]['params']['captions']      # of the same text encoder
  jax.tree.map(np.testing.assert_array_equal, params['captions'], wanted)
  np.testing.assert_array_equal(params['images']['regions']['kernel'],
                                image['emb_features.weight'][:, :, 0, 0].T)
  # BatchNorm with its own statistics is part of the convolution before it.
  at = 'Mixed_6e.branch7x7_2'
  factor = image[f'{at}.bn.weight'] / np.sqrt(image[f'{at}.bn.running_var'] + 1e-3)
  found = params['backbone']['Mixed_6e']['branch7x7_2']
  np.testing.assert_allclose(
      found['kernel'], image[f'{at}.conv.weight'].transpose(2, 3, 1, 0) * factor, atol=1e-6)
  np.testing.assert_allclose(
      found['bias'], image[f'{at}.bn.bias'] - image[f'{at}.bn.running_mean'] * factor, atol=1e-6)
  assert (tmp_path / 'out/tokenizer.json').read_text() == (
      damsm_folder / 'tokenizer.json').read_text()
  # The hash of its own Inception is checked.
  os.truncate(tmp_path / 'out' / damsm.OWN_BACKBONE, 1000)
  with pytest.raises(UserError, match='backbone.safetensors found here are not those'):
    damsm.load(tmp_path / 'out')


def test_files_of_a_damsm_that_do_not_go_together_are_refused(
    damsm_files, text_state, tmp_path, capsys):
  files, image = damsm_files
  def refusal(**changed):
    assert import_damsm(files | {f'--{k}': x for k, x in changed.items()}, tmp_path / 'out') == 2
    return capsys.readouterr().err
  assert 'image encoder of damsm, not the text encoder' in refusal(text=files['--image'])
  (tmp_path / 'words.pickle').write_bytes(pickle.dumps([[], [], {0: '<end>', 1: 'a'}, {}], 2))
  assert 'has 2 words, "<end>" included, but' in refusal(vocabulary=tmp_path / 'words.pickle')
  assert 'no file' in refusal(vocabulary=tmp_path / 'none.pickle')
  run = tmp_path / 'run' / 'config.json'
  run.parent.mkdir()
  run.write_text('{"method": "attngan"}')
  assert import_damsm(files, run.parent) == 2
  assert f'--out={run.parent}: holds something else' in capsys.readouterr().err
  assert run.read_text() == '{"method": "attngan"}'
  odd = text_state | {'rnn.weight_hh_l0_reverse': np.ones((3, 3))}
  torch_writer.write(tmp_path / 'odd.pth', odd, zipped=True)
  assert 'a tensor does not have the shape' in refusal(text=tmp_path / 'odd.pth')
  del image['Mixed_6e.branch7x7_2.bn.running_var']
  torch_writer.write(tmp_path / 'less.pth', image, zipped=True)
  assert 'no tensor Mixed_6e.branch7x7_2.bn.running_var' in refusal(image=tmp_path / 'less.pth')
