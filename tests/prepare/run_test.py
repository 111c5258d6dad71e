"""A toy set is prepared: what comes out, in how many processes and hosts, and after a kill."""
import collections
import dataclasses
import errno
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import toy_original
from PIL import Image
from toy_original import BAD, contents, make_job, toy

from xmc_jax.data import records
from xmc_jax.data import source as sources
from xmc_jax.prepare import estimate, finishing, images, job, pool, run
from xmc_jax.prepare import folder as folder_reader
from xmc_jax.prepare.images import Storage, store
from xmc_jax.prepare.original import BadImage
from xmc_jax.types import UserError

FILES = {'manifest.json', 'bad.jsonl', 'tokenizer.json', *(f'train-{i:05d}.rec' for i in range(5)),
         'heldout-00000.rec', 'heldout-00001.rec'}


def test_what_is_prepared_is_what_the_original_has(broken, tmp_path):
  assert {path.name for path in broken.iterdir()} == FILES
  original = toy(tmp_path)
  for split in sources.SPLITS:
    source = sources.load('records', split, 32, folder=str(broken))
    assert source.name == 'toy' and source.class_names == ('cat', 'dog', 'owl')
    whole = list(original.examples(split, 0, original.counts[split]))
    good = [raw for i, raw in enumerate(whole) if (split, i) not in BAD]
    assert len(source) == len(good) == original.counts[split] - (2 if split == 'train' else 1)
    for i, raw in enumerate(good):
      assert source.captions(i) == tuple(caption.strip() for caption in raw.captions)
      assert source.flippable[i] == raw.flippable
      assert source.record(i)['from'] == raw.more['from'] and source.record(i)['name'] == raw.name
      label = np.zeros(3, np.float32)
      for number, area in zip(raw.labels, raw.areas, strict=True):
        label[number] = area
      np.testing.assert_array_equal(source.label(i), label)
      stored = np.asarray(Image.open(io.BytesIO(store(raw.image(), Storage(32, 1.25)).data)))
      assert min(stored.shape[:2]) == 40
      np.testing.assert_array_equal(source.image(i, (0, 0)), stored[:32, :32])


def test_the_manifest_tells_all(broken, tmp_path):
  manifest = json.loads((broken / 'manifest.json').read_text())
  assert manifest['counts'] == {
      'train': {'examples': 21, 'captions': 31, 'enlarged': 0, 'cut': 0, 'kept': 0, 'bad': 2,
                'labels': {'most': {'cat': 13, 'owl': 6}, 'classes_seen': 2,
                           'images_without': 8}},
      'heldout': {'examples': 6, 'captions': 9, 'enlarged': 0, 'cut': 0, 'kept': 0, 'bad': 1,
                  'labels': {'most': {'cat': 3, 'owl': 1}, 'classes_seen': 2,
                             'images_without': 3}}}
  assert manifest['left_out'] == {'it has no caption': 3}
  assert manifest['settings']['storage'] == {'size': 32, 'margin': 1.25, 'codec': 'jpeg',
                                             'quality': 90}
  digest = lambda data: hashlib.sha256(data).hexdigest()
  assert manifest['original_sha256'] == {'captions.json': digest(b'{}')}
  files = manifest['files'] | {shard['file']: shard['sha256']
                               for shards in manifest['splits'].values() for shard in shards}
  assert files == {name: digest((broken / name).read_bytes()) for name in FILES - {'manifest.json'}}


def test_bad_images_are_listed(broken):
  lines = [json.loads(line) for line in (broken / 'bad.jsonl').read_text().splitlines()]
  assert [(line['split'], line['name']) for line in lines] == [
      ('train', 'train 4'), ('train', 'train 11'), ('heldout', 'heldout 2')]
  assert 'runcated' in lines[0]['why'] and lines[1]['why'] == 'No such file or directory'
  assert lines[2]['why'] == 'its line says so'


def test_more_processes_make_the_same_bytes(broken, tmp_path, capsys):
  run.prepare(make_job(tmp_path, broken=True), workers=2, most_bad=0.2)
  assert contents(tmp_path / 'out') == contents(broken)
  told = capsys.readouterr().out
  assert re.search(r'toy: 23 \+ 7 images, about [\d.]+ MB, [\d.]+ [MG]B are free; about \d+ s on '
                   r'2 cores\n', told)
  assert re.search(r'30 images in \d+ s, [\d.]+ a second\n', told)
  assert 'train: 21 images, 31 captions, ' in told and '2 unusable' in told
  assert 'left out: 3, it has no caption' in told and 'bad.jsonl lists the unusable' in told


def test_more_hosts_make_the_same_bytes(broken, tmp_path, capsys):
  job = make_job(tmp_path, broken=True)
  for host in (2, 0):
    assert run.prepare(job, host=host, hosts=3, most_bad=0.2) is None
    assert 'manifest.json' not in contents(tmp_path / 'out')
  assert 'host 0 of 3 is done; 2 shards of other hosts are missing' in capsys.readouterr().out
  assert run.prepare(job, host=1, hosts=3, most_bad=0.2)
  assert contents(tmp_path / 'out') == contents(broken)


def until_told(capsys):
  """Returns once another preparation has said that it waits."""
  for _ in range(1000):
    if 'is being prepared by another process; waiting for it' in capsys.readouterr().out:
      return
    time.sleep(0.01)
  pytest.fail('it does not wait')


@pytest.mark.parametrize('force', [False, True])
def test_the_same_preparation_twice_at_once_waits(broken, tmp_path, monkeypatch, capsys, force):
  write, others = records.write, []

  def write_and_begin_again(*args, **kwargs):
    if not others:
      others.append(threading.Thread(target=run.prepare, args=[make_job(tmp_path, broken=True)],
                                     kwargs={'force': force, 'most_bad': 0.2}))
      others[0].start()
      until_told(capsys)
      run.prepare(make_job(tmp_path, broken=True), host=1, hosts=7, most_bad=0.2)   # need not wait
    return write(*args, **kwargs)
  monkeypatch.setattr(records, 'write', write_and_begin_again)
  assert run.prepare(make_job(tmp_path, broken=True), most_bad=0.2)
  others[0].join()
  assert contents(tmp_path / 'out') == contents(broken)
  assert ('is already prepared' in capsys.readouterr().out) == (not force)


def test_who_waits_goes_on_where_the_first_has_failed(broken, tmp_path, monkeypatch, capsys):
  """The first takes the folder away that it made."""
  measure, others = estimate.measure, []

  def fail_once(*args):
    if others:
      return measure(*args)
    others.append(threading.Thread(target=run.prepare, args=[make_job(tmp_path, broken=True)],
                                   kwargs={'most_bad': 0.2}))
    others[0].start()
    until_told(capsys)
    raise UserError('no')
  monkeypatch.setattr(estimate, 'measure', fail_once)
  with pytest.raises(UserError, match='no'):
    run.prepare(make_job(tmp_path, broken=True), most_bad=0.2)
  others[0].join()
  assert contents(tmp_path / 'out') == contents(broken)


PROGRAM = """
import pathlib, sys
sys.path.insert(0, {tests!r})
from toy_original import toy
from xmc_jax.prepare import run
from xmc_jax.prepare.job import Job
from xmc_jax.prepare.original import BadImage
from xmc_jax.prepare.images import Storage
from xmc_jax.types import UserError
if __name__ == '__main__':
  here = pathlib.Path({folder!r})
  original = toy(here / 'original', broken=True, slow=0.02)
  job = Job(original, here / 'out', Storage(32, 1.25), 5, {{}})
  try:
    run.prepare(job, workers={workers}, most_bad=0.2)
  except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(error.code)
"""


@pytest.mark.slow
@pytest.mark.parametrize('workers, number, code', [
    (2, signal.SIGKILL, -9), (2, signal.SIGTERM, 143), (1, signal.SIGINT, 130)])
def test_what_was_stopped_goes_on_and_gives_the_same_bytes(broken, tmp_path, workers, number, code):
  program = tmp_path / 'program.py'
  program.write_text(PROGRAM.format(tests=str(pathlib.Path(__file__).parent),
                                    folder=str(tmp_path), workers=workers))
  process = subprocess.Popen([sys.executable, program], stderr=subprocess.PIPE, text=True,
                             start_new_session=True)
  shards = lambda: sorted((tmp_path / 'out').glob('*.rec'))
  while len(shards()) < 2 and process.poll() is None:
    time.sleep(0.005)
  process.send_signal(number)
  _, said = process.communicate(timeout=60)        # also the workers have gone: they hold its pipe
  assert process.returncode == code, said
  assert 'continues' in said or number == signal.SIGKILL
  assert 'Traceback' not in said
  done = {path.name: path.stat().st_mtime_ns for path in shards()}
  assert 2 <= len(done) < 7 and not (tmp_path / 'out' / 'manifest.json').exists()
  run.prepare(make_job(tmp_path, broken=True), most_bad=0.2)
  assert contents(tmp_path / 'out') == contents(broken)
  # Kept as they were, but for those with more bad ones than allowed of their five: none here.
  assert {path.name: path.stat().st_mtime_ns for path in shards() if path.name in done} == done


@pytest.mark.parametrize('place', ['xmc_jax.prepare.images.to_rgb', 'PIL.Image.Image.getexif'])
def test_a_stop_while_an_image_is_decoded_leaves_none_out(tmp_path, monkeypatch, place):
  """There any other error says that this image is damaged."""
  def interrupted(image):
    os.kill(os.getpid(), signal.SIGINT)
    return image
  monkeypatch.setattr(estimate, 'measure', lambda *_: estimate.Estimate(0.0, 0.0))
  monkeypatch.setattr(place, interrupted)
  with pytest.raises(pool.Stopped) as stop:
    run.prepare(make_job(tmp_path), workers=1, most_bad=0.5)
  assert stop.value.code == 130 and not list((tmp_path / 'out').glob('*.rec'))


def test_an_image_that_does_not_fit_in_memory_is_not_left_out(tmp_path, monkeypatch):
  def full(*_):
    raise MemoryError
  monkeypatch.setattr(estimate, 'measure', lambda *_: estimate.Estimate(0.0, 0.0))
  monkeypatch.setattr(images, 'to_rgb', full)
  with pytest.raises(UserError, match='memory ran out'):
    run.prepare(make_job(tmp_path), workers=1, most_bad=0.5)


@pytest.mark.parametrize('name', ['manifest.json', 'tokenizer.json', 'bad.jsonl'])
@pytest.mark.parametrize('force', [False, True])
def test_files_of_something_else_are_not_replaced(tmp_path, name, force):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / name).write_text('{}')
  (tmp_path / 'out' / 'imagenet_train.rec').write_text('theirs')
  with pytest.raises(UserError, match=f'{name} is of something else'):
    run.prepare(make_job(tmp_path), force=force)
  (tmp_path / 'out' / name).unlink()
  run.prepare(make_job(tmp_path), force=force)
  assert (tmp_path / 'out' / 'imagenet_train.rec').read_text() == 'theirs'


def test_a_wrong_source_does_not_cost_the_set_that_is_there(broken, tmp_path, monkeypatch):
  shutil.copytree(broken, tmp_path / 'out')
  monkeypatch.setattr(images, 'to_rgb', None)      # so no image can be used
  with pytest.raises(UserError, match='cannot be used'):
    run.prepare(make_job(tmp_path, broken=True), most_bad=0.2, force=True)
  assert contents(tmp_path / 'out') == contents(broken)


def test_a_disk_that_is_too_small_is_refused_before_the_work(tmp_path, monkeypatch):
  usage = collections.namedtuple('usage', 'total used free')
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(1000, 900, 100))
  with pytest.raises(UserError, match=r'out needs about 0.1 MB and its disk has 0.1 MB; make room'):
    run.prepare(make_job(tmp_path))
  assert not (tmp_path / 'out').exists()


def test_a_disk_that_gets_full_is_told(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  monkeypatch.setattr(records, 'write', full)
  with pytest.raises(UserError, match=r'out: cannot be written \(No space left on device\); free'):
    run.prepare(make_job(tmp_path))


def test_the_estimate_is_about_right(tmp_path, monkeypatch):
  one = make_job(tmp_path)
  found = estimate.measure(one, 0.01)
  run.prepare(one)
  size = sum(path.stat().st_size for path in (tmp_path / 'out').glob('*.rec'))
  assert 0.6 < found.bytes * 30 / size < 1.4 and found.seconds > 0


@dataclasses.dataclass(frozen=True)
class Mistaken(toy_original.Toy):
  """A reader that finds a mistake in its files, late."""

  def examples(self, split, start, stop):
    for raw in super().examples(split, start, stop):
      if raw.name == 'heldout 5' and stop - start > 1:
        raise UserError('captions.json, line 9: there is no such image; get the file again')
      yield raw


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 2])
def test_a_mistake_that_a_worker_finds_reaches_the_user(tmp_path, workers):
  original = Mistaken(**dataclasses.asdict(toy(tmp_path / 'original')))
  with pytest.raises(UserError, match='captions.json, line 9: there is no such image; get the f'):
    run.prepare(make_job(tmp_path, original=original), workers=workers)


def test_too_many_bad_images_are_refused_and_can_be_repaired(tmp_path):
  with pytest.raises(UserError, match=r'2 of the 23 images of train cannot be used, 8.70%, and '
                     r'--most_bad allows 5.00%: train 4 \(OSError: .*; train 11 \(No such file or '
                     r'directory\); repair them'):
    run.prepare(make_job(tmp_path, broken=True), most_bad=0.05)
  run.prepare(make_job(tmp_path), most_bad=0.05)           # the shards of the bad ones anew
  run.prepare(make_job(tmp_path, folder='whole'))
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_a_source_without_images_is_refused_at_once(tmp_path, monkeypatch):
  monkeypatch.setattr(toy_original, 'BAD', {(split, i): 'none' for split in ('train', 'heldout')
                                            for i in range(23)})
  with pytest.raises(UserError, match=r'30 of 30 images, sampled evenly .*train 0 \(No such file .*'
                     r'; and 27 more; give the right folder'):
    run.prepare(make_job(tmp_path, broken=True))
  assert not (tmp_path / 'out').exists()


def test_a_image_without_a_caption_is_bad(tmp_path):
  raw = next(toy(tmp_path).examples('train', 1, 2))
  with pytest.raises(job.BadImage, match='it has no caption'):
    job.encode_example(dataclasses.replace(raw, captions=(' ', '')), Storage(32))


def test_check_finds_what_is_damaged_or_missing(broken, tmp_path):
  folder = shutil.copytree(broken, tmp_path / 'copy')
  size = sum(path.stat().st_size for path in broken.iterdir() if path.name != 'manifest.json')
  assert finishing.check(folder) == {'files': 9, 'bytes': size}
  data = bytearray((folder / 'train-00001.rec').read_bytes())
  data[50] ^= 1
  (folder / 'train-00001.rec').write_bytes(data)
  (folder / 'tokenizer.json').unlink()
  with pytest.raises(UserError, match='copy: tokenizer.json is missing; train-00001.rec is damaged;'
                     ' copy the folder again'):
    finishing.check(folder)
  manifest = json.loads((folder / 'manifest.json').read_text())
  (folder / 'manifest.json').write_text(json.dumps({**manifest, 'files': None}))
  with pytest.raises(UserError, match='manifest.json has no hashes'):
    finishing.check(folder)


def test_a_set_without_heldout_images(tmp_path):
  run.prepare(make_job(tmp_path, counts={'train': 6, 'heldout': 0}))
  assert len(sources.load('records', 'train', 32, folder=str(tmp_path / 'out'))) == 6
  with pytest.raises(UserError, match="no 'heldout' split"):
    sources.load('records', 'heldout', 32, folder=str(tmp_path / 'out'))


@pytest.mark.parametrize('code', [errno.ESTALE, errno.EMFILE])
def test_an_image_that_cannot_be_read_now_is_not_left_out(tmp_path, monkeypatch, code):
  job, own = make_job(tmp_path), toy_original.image_file
  def away(number):
    if number == 4:
      raise OSError(code, os.strerror(code))
    return own(number)
  with monkeypatch.context() as patch, pytest.raises(UserError, match=f'now .{os.strerror(code)}'):
    patch.setattr(toy_original, 'image_file', away)
    run.prepare(job, workers=1, most_bad=0.5)
  run.prepare(job, workers=1)
  assert records.read_manifest(tmp_path / 'out')['counts']['train']['bad'] == 0


def test_a_set_without_images_is_refused(tmp_path):
  with pytest.raises(UserError, match='toy has no images to train on'):
    run.prepare(make_job(tmp_path, counts={'train': 0, 'heldout': 0}))


def test_the_vocabulary_is_the_originals_where_it_has_one(broken, tmp_path):
  read = lambda folder: json.loads((folder / 'tokenizer.json').read_text())['model']['vocab']
  assert list(read(broken))[:5] == ['<end>', 'noise', 'number', '0', 'one']
  run.prepare(make_job(tmp_path, vocabulary=('one', 'noise')))
  assert read(tmp_path / 'out') == {'<end>': 0, 'one': 1, 'noise': 2}


def test_captions_in_another_script_are_counted_and_named(tmp_path, capsys):
  source = tmp_path / 'in'
  for split, text in {'train': 'красное яблоко', 'val': 'a red apple'}.items():
    (source / split).mkdir(parents=True)
    Image.new('RGB', (32, 32)).save(source / split / 'a.png')
    (source / split / 'a.txt').write_text(text)
  run.prepare(make_job(tmp_path, original=folder_reader.open(source)))
  out = capsys.readouterr().out
  assert 'train: 1 captions have words without Latin letters' in out and 'красное' in out
  assert 'heldout: 1 captions have' not in out


@pytest.mark.parametrize('data', [b'', b'<html>', b'GIF89a'])
def test_reasons_have_no_memory_addresses(data):
  with pytest.raises(BadImage) as error:
    store(data, Storage(32))
  assert '0x' not in str(error.value)


def test_a_huge_image_gives_one_sentence(monkeypatch):
  file = io.BytesIO()
  Image.new('RGB', (100, 100)).save(file, 'PNG')
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
  with pytest.raises(BadImage, match='more than 2,000 px; make it smaller'):
    store(file.getvalue(), Storage(32))
