"""Word pieces that an exported text encoder keeps, and what becomes of the others."""
import json

import pytest
import tokenizers

from xmc_jax.pretrained import vocabulary

WORDS = ['[PAD]', '[unused0]', '[UNK]', '[CLS]', '[SEP]', 'é', 'я', '!', *'abcde',
         *(f'##{letter}' for letter in 'abcde'), 'the', '##bc', 'bad', 'dab', 'abc']


def tokenizer(processor):
  vocab = {piece: i for i, piece in enumerate(WORDS)}
  made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token='[UNK]'))
  made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
  made.add_special_tokens([w for w in WORDS if w.startswith('[') and 'unused' not in w])
  ends = [('[SEP]', vocab['[SEP]']), ('[CLS]', vocab['[CLS]'])]
  made.post_processor = (tokenizers.processors.BertProcessing(*ends) if processor == 'bert' else
                         tokenizers.processors.TemplateProcessing('[CLS] $A [SEP]',
                                                                  special_tokens=ends))
  return made


@pytest.fixture
def few(monkeypatch):
  monkeypatch.setattr(vocabulary, 'COMMON', WORDS.index('the') + 1)


@pytest.mark.parametrize('processor', ['bert', 'template'])
def test_kept_pieces_keep_their_tokens_and_others_fall_back(few, processor):
  whole = tokenizer(processor)
  numbers = vocabulary.kept(whole.to_str(), {WORDS.index('bad')})
  cut = tokenizers.Tokenizer.from_str(vocabulary.cut(whole.to_str(), numbers))
  assert numbers == sorted(numbers)
  content = json.loads(vocabulary.cut(whole.to_str(), numbers))      # as other libraries read it
  assert {token['content']: token['id'] for token in content['added_tokens']}.items() <= (
      content['model']['vocab'].items())
  for caption in ('the bad abc', 'a bad dab!', 'é'):
    found, wanted = cut.encode(caption), whole.encode(caption)
    assert [numbers[i] for i in found.ids] == [whole.token_to_id(t) for t in found.tokens]
    assert '[UNK]' not in found.tokens and found.tokens[0] == wanted.tokens[0] == '[CLS]'
  assert cut.encode('the bad').tokens == whole.encode('the bad').tokens
  assert cut.encode('dab abc').tokens == ['[CLS]', 'd', '##a', '##b', 'a', '##b', '##c', '[SEP]']


def test_what_no_caption_can_have_goes_and_specials_and_letters_stay(few):
  kept = lambda script: {WORDS[i] for i in vocabulary.kept(tokenizer('bert').to_str(), (), script)}
  latin = kept('latin')
  assert latin == set(WORDS) - {'[unused0]', 'я', '##bc', 'bad', 'dab', 'abc'}
  assert kept('any') == latin | {'я'}


def test_padding_of_the_file_follows():
  whole = tokenizer('bert')
  whole.enable_padding(pad_id=WORDS.index('[SEP]'), pad_token='[SEP]')
  cut = json.loads(vocabulary.cut(whole.to_str(), [0, 2, 3, 4]))
  assert cut['padding']['pad_id'] == 3
