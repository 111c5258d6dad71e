import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from noise_records import noise

from xmc_jax.data import partners, pipeline
from xmc_jax.data import source as sources
from xmc_jax.data.plan import plan
from xmc_jax.data.text import Tokenizer
from xmc_jax.types import LABEL_RULES, UserError

BOTH = pytest.mark.parametrize('loader', pipeline.LOADERS)


@pytest.fixture(scope='module', params=['emoji', 'emoji_scenes', 'pairs', 'records'])
def source(request, records_folder):
  options = {'emoji': {'groups': ('animals-nature',)}, 'emoji_scenes': {'examples': 60},
             'pairs': {'examples': 30, 'pairs': True}, 'records': {'folder': records_folder}}
  name = {'pairs': 'emoji_scenes'}.get(request.param, request.param)
  return sources.load(name, 'train', 32, **options[request.param])


def take(source, tokenizer, number, **options):
  options = dict(seed=1, start=0, rounds=2, rows=4) | options
  with pipeline.batches(source, tokenizer, **options) as batches:
    return [next(batches) for _ in range(number)]


def assert_same(a, b):
  assert a.keys() == b.keys()
  for key in a:
    assert a[key].dtype == b[key].dtype
    np.testing.assert_array_equal(a[key], b[key])


def test_shapes_types_and_range(source, tokenizer):
  (batch,) = take(source, tokenizer, 1, loader='arrays')
  shapes = {key: (leaf.shape, leaf.dtype.name) for key, leaf in batch.items()}
  label = ((2, 4, 114), 'float32') if source.name == 'emoji_scenes' else ((2, 4), 'int32')
  objects = {}
  if source.name == 'emoji_scenes':
    objects = {'objects': ((2, 4, source.most_objects, 4), 'float32')}
  assert shapes == {'image': ((2, 4, 32, 32, 3), 'uint8'), 'tokens': ((2, 4, 24), 'int32'),
                    'mask': ((2, 4, 24), 'bool'), 'label': label} | objects
  assert batch['image'].max() > 127
  unit = pipeline.to_float(batch['image'])
  assert unit.dtype == np.float32
  np.testing.assert_array_equal(unit, batch['image'] * np.float32(1 / 255))


@pytest.mark.slow
def test_loaders_agree_to_the_bit(source, tokenizer):
  ours = take(source, tokenizer, 20, loader='arrays')
  theirs = take(source, tokenizer, 20, loader='tf_data')
  for a, b in zip(ours, theirs, strict=True):
    assert_same(a, b)


@pytest.mark.parametrize('rows', [7, 17, 24])   # one chunk of 14 rows, 17 of 2, 3 of 16
def test_loaders_agree_however_many_rows(records_folder, tokenizer, rows):
  source = sources.load('records', 'train', 32, folder=records_folder)
  ours, theirs = (take(source, tokenizer, 3, rows=rows, loader=loader)
                  for loader in pipeline.LOADERS)
  for a, b in zip(ours, theirs, strict=True):
    assert_same(a, b)


@BOTH
def test_a_restart_at_any_step_continues(source, tokenizer, loader):
  straight = take(source, tokenizer, 5, loader=loader)
  for step in (1, 4):
    (again,) = take(source, tokenizer, 1, loader=loader, start=step)
    assert_same(again, straight[step])
  assert (straight[0]['image'] != straight[1]['image']).any()


@BOTH
def test_blocks_of_processes_make_the_global_batch(source, tokenizer, loader):
  (whole,) = take(source, tokenizer, 1, loader=loader)
  parts = [take(source, tokenizer, 1, loader=loader, process=(i, 2))[0] for i in range(2)]
  assert parts[0]['image'].shape[:2] == (2, 2)
  assert_same({key: np.concatenate([part[key] for part in parts], 1) for key in whole}, whole)


@pytest.mark.parametrize('rule', LABEL_RULES)
def test_batches_with_partners(source, tokenizer, rule):
  """Both loaders, any number of processes and any start give the same; the anchors are as ever."""
  pairs = partners.find(source, rule)
  straight = take(source, tokenizer, 4, loader='arrays', partners=pairs)
  alone = take(source, tokenizer, 4, loader='arrays')
  for one, whole in zip(alone, straight, strict=True):
    assert_same(one, {key: whole[key] for key in one})
    assert [*whole] == [*one, *(f'partner_{key}' for key in one)]
    for key, leaf in one.items():
      second = whole[f'partner_{key}']
      assert (second.shape, second.dtype) == (leaf.shape, leaf.dtype)
  for a, b in zip(straight, take(source, tokenizer, 4, partners=pairs), strict=True):
    assert_same(a, b)
  (late,) = take(source, tokenizer, 1, start=3, partners=pairs)
  assert_same(late, straight[3])
  parts = [take(source, tokenizer, 1, loader=loader, process=(i, 2), partners=pairs)[0]
           for i, loader in enumerate(pipeline.LOADERS)]
  assert_same({key: np.concatenate([part[key] for part in parts], 1) for key in late}, straight[0])


def test_partners_lie_where_the_plan_says(tokenizer):
  source = sources.load('emoji', 'train', 32)
  pairs = partners.find(source, 'exact')
  for step, batch in enumerate(take(source, tokenizer, 2, rows=16, partners=pairs)):
    anchors = plan(len(source), source.flippable, 1, step, 2, 16)
    second = pairs.plan(anchors, 1, step)
    for place in np.ndindex(2, 16):
      image = source.image(second.index[place])
      image = image[:, ::-1] if second.flip[place] else image
      np.testing.assert_array_equal(batch['partner_image'][place], image)
      assert source.label(second.index[place]) == batch['label'][place]
    np.testing.assert_array_equal(batch['partner_label'], batch['label'])
    assert (second.index != anchors.index).all() and second.flip.any()


@BOTH
def test_a_pair_is_side_by_side_in_a_batch(tokenizer, loader):
  source = sources.load('emoji_scenes', 'train', 32, examples=30, pairs=True)
  number = {source.image(i).tobytes(): i for i in range(len(source))}
  for batch in take(source, tokenizer, 3, loader=loader):
    first, second = ([number[image.tobytes()] for image in batch['image'][:, start::2].reshape(
        -1, 32, 32, 3)] for start in (0, 1))
    assert [i + 1 for i in first] == second and all(i % 2 == 0 for i in first)


def test_rows_are_the_sources_examples(tokenizer):
  source = sources.load('emoji', 'train', 32)
  images = {source.image(i).tobytes(): i for i in range(len(source))}
  mirrors = {source.image(i)[:, ::-1].tobytes(): i for i in range(len(source))}
  flips = 0
  for batch in take(source, tokenizer, 4, rows=32, loader='arrays'):
    rows = [leaf.reshape(-1, *leaf.shape[2:]) for leaf in batch.values()]
    for image, tokens, _, label in zip(*rows, strict=True):
      key = image.tobytes()
      index = images.get(key, mirrors.get(key))
      flips += key not in images
      assert key in images or source.flippable[index]
      assert label == source.label(index)
      assert tokens.tolist() in tokenizer.encode(source.captions(index))[0].tolist()
  assert 20 < flips < 120


def test_records_are_cut_and_mirrored_as_the_plan_says(records_folder, tokenizer):
  source = sources.load('records', 'train', 32, folder=records_folder)
  cuts, flips = set(), 0
  for step, batch in enumerate(take(source, tokenizer, 6, loader='tf_data')):
    one = plan(47, source.flippable, 1, step, 2, 4)
    for place in np.ndindex(2, 4):
      number = one.index[place]
      if number % 3 == 1:
        continue                                       # a JPEG, which has not the noise's pixels
      whole = noise(number)
      free = np.array(whole.shape[:2]) - 31
      y, x = (one.crop[place] * free).astype(int)
      expected = whole[y:y + 32, x:x + 32]
      expected = np.fliplr(expected) if one.flip[place] else expected
      np.testing.assert_array_equal(batch['image'][place], expected)
      cuts, flips = cuts | {(y, x)}, flips + one.flip[place]
  assert len(cuts) > 20 and 5 < flips < 25


class Watched:
  """A source that remembers which of its images were asked for."""

  def __init__(self, source):
    self._source, self.asked = source, []

  def __len__(self):
    return len(self._source)

  def __getattr__(self, name):
    return getattr(self._source, name)

  def image(self, index, crop):
    self.asked.append(index)
    return self._source.image(index, crop)


@BOTH
def test_a_process_reads_only_its_own_rows(tokenizer, loader):
  source = Watched(sources.load('emoji_scenes', 'train', 16, examples=100_000))
  take(source, tokenizer, 2, loader=loader, process=(1, 2))
  plans = [plan(100_000, False, 1, step, 2, 4) for step in range(100)]
  assert set(plans[0].index[:, 2:].flat) | set(plans[1].index[:, 2:].flat) <= set(source.asked)
  assert set(source.asked) <= {i for one in plans for i in one.index[:, 2:].flat}


class Broken:
  """A source whose fifth call fails."""
  name, size, flippable, class_names, images = 'broken', 8, False, ('one',), None

  def __init__(self):
    self.calls = 0

  def __len__(self):
    return 1000

  def image(self, index, crop):
    self.calls += 1
    if self.calls > 4:
      raise UserError('The image cannot be read.')
    return np.zeros((8, 8, 3), np.uint8)

  def captions(self, index):
    return ('a dog',)

  def label(self, index):
    return np.int32(0)


@BOTH
def test_an_exception_of_the_source_reaches_the_reader(tokenizer, loader):
  with pipeline.batches(Broken(), tokenizer, seed=0, start=0, rounds=1, rows=2,
                        loader=loader) as batches:
    with pytest.raises(UserError, match='cannot be read'):
      for _ in range(4):
        next(batches)
    with pytest.raises(StopIteration):
      next(batches)


@BOTH
def test_close_stops_the_work(tokenizer, loader):
  source = Broken()
  source.calls = -10**9
  batches = pipeline.batches(source, tokenizer, seed=0, start=0, rounds=1, rows=2, loader=loader)
  next(batches)
  batches.close()
  batches.close()
  time.sleep(0.1)
  calls = source.calls
  time.sleep(0.2)
  assert source.calls == calls
  with pytest.raises(StopIteration):
    next(batches)


def test_a_lost_iterator_stops_its_thread(tokenizer):
  before = threading.active_count()
  source = sources.load('emoji_scenes', 'train', 32, examples=60)
  batches = pipeline.batches(source, tokenizer, seed=0, start=0, rounds=1, rows=2, loader='arrays')
  next(batches)
  assert threading.active_count() == before + 1
  del batches
  for _ in range(50):
    if threading.active_count() == before:
      break
    time.sleep(0.05)
  assert threading.active_count() == before


def test_share_of_captions_that_are_cut(records_folder, tokenizer_folder):
  source = sources.load('records', 'train', 32, folder=records_folder)
  captions = [c for i in range(47) for c in source.captions(i)]
  # "noise 7, one" has one piece a letter, and its begin and end.
  pieces = np.array([len(caption.replace(' ', '')) + 2 for caption in captions])
  assert len(set(pieces)) == 4
  for length in range(pieces.min() - 1, pieces.max() + 1):
    share = pipeline.truncated_share(source, Tokenizer(tokenizer_folder, int(length)))
    assert share == np.mean(pieces > length)
  some = Watched(source)
  some.captions = lambda i: (some.asked.append(i), ('noise',))[1]
  assert pipeline.truncated_share(some, Tokenizer(tokenizer_folder, 6), sample=5) == 1
  assert some.asked == [0, 11, 23, 34, 46]


def test_user_errors(tokenizer):
  source = sources.load('emoji_scenes', 'train', 32, examples=60)
  usual = dict(seed=0, start=0, rounds=1, rows=4)
  with pytest.raises(UserError, match='data.loader=grain: choose one of auto, tf_data, arrays'):
    pipeline.batches(source, tokenizer, **usual, loader='grain')
  with pytest.raises(UserError, match='batch_size=4: 3 processes cannot share it'):
    pipeline.batches(source, tokenizer, **usual, process=(0, 3))
  with pytest.raises(UserError, match='seed=-1: must be at least 0'):
    pipeline.batches(source, tokenizer, **usual | {'seed': -1})
  pairs = sources.load('emoji_scenes', 'train', 32, examples=60, pairs=True)
  with pytest.raises(UserError, match='batch_size=3: 2 successive examples .* a multiple of 2'):
    pipeline.batches(pairs, tokenizer, **usual | {'rows': 3})


def test_the_arrays_loader_does_without_tensorflow(tokenizer_folder):
  code = f"""
import sys
sys.modules["tensorflow"] = None
from xmc_jax.data import pipeline, source, text
from xmc_jax.types import UserError
data = source.load("emoji", "heldout", 16, groups=("food-drink",))
words = text.Tokenizer({str(tokenizer_folder)!r}, 8)
for loader in "arrays", "auto":
  with pipeline.batches(data, words, seed=0, start=0, rounds=1, rows=2, loader=loader) as batches:
    next(batches)
try:
  pipeline.batches(data, words, seed=0, start=0, rounds=1, rows=2, loader="tf_data")
except UserError as error:
  print(error)
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert 'tensorflow is not installed' in done.stdout, done.stderr
  assert "'xmc_jax[train]'" in done.stdout


def test_what_spoils_training_is_told(records_folder, tokenizer):
  source = sources.load('records', 'train', 32, folder=records_folder)
  told = lambda of, rows, script='any': pipeline.warnings(of, tokenizer, rows, script)
  assert len(source) == 47
  assert not [one for one in told(source, 47) if 'batch' in one]
  assert any('batch size 48 exceeds the 47 images' in one for one in told(source, 48))
  assert any('are 0 in a batch of one' in one for one in told(source, 1))
  foreign = Watched(source)
  foreign.captions = lambda i: ('красное яблоко',)
  assert any('100.0% of the captions' in one and 'красное' in one
             for one in told(foreign, 4, 'latin'))
