"""A tokenizer of single letters and a folder of records; the pipeline's tests download nothing."""
import string

import noise_records
import pytest
import tokenizers

from xmc_jax.data.text import Tokenizer


@pytest.fixture(scope='session')
def records_folder(tmp_path_factory):
  return noise_records.make_folder(tmp_path_factory.mktemp('records') / 'noise')


@pytest.fixture(scope='session')
def tokenizer_folder(tmp_path_factory):
  letters = string.ascii_lowercase + string.digits + ",.'-&#*:!()"
  pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', *letters, *(f'##{letter}' for letter in letters)]
  model = tokenizers.models.WordPiece({piece: i for i, piece in enumerate(pieces)},
                                      unk_token='[UNK]')
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)])
  tokenizer.enable_truncation(7)
  tokenizer.enable_padding(length=7)
  folder = tmp_path_factory.mktemp('letters')
  tokenizer.save(str(folder / 'tokenizer.json'))
  return folder


@pytest.fixture(scope='session')
def tokenizer(tokenizer_folder):
  return Tokenizer(tokenizer_folder, 24)
