"""A set is prepared where one is there already: other settings, an edited original, --force."""
import dataclasses
import os
import pathlib
import shutil

import numpy as np
import pytest
import toy_original
from PIL import Image
from toy_original import contents, make_job, toy

from xmc_jax.data import records
from xmc_jax.data import source as sources
from xmc_jax.prepare import folder as folder_reader
from xmc_jax.prepare import run
from xmc_jax.prepare.images import Storage
from xmc_jax.types import UserError


@pytest.mark.parametrize('storage, shard_examples, words', [
    (Storage(32, 1.5), 5, r"storage was \{'size': 32, 'margin': 1.25, .* and is .*'margin': 1.5"),
    (Storage(32, 1.25), 6, 'shard_examples was 5 and is 6'),
    (Storage(32, 1.25), 3, 'shard_examples was 5 and is 3'),
    (Storage(24, 1.25), 5, "belongs to another data set, 'toy' at 32 px")])
def test_shards_of_other_settings_are_not_mixed_in(broken, tmp_path, storage, shard_examples,
                                                   words):
  shutil.copytree(broken, tmp_path / 'out')
  before = contents(tmp_path / 'out')
  other = dataclasses.replace(make_job(tmp_path, broken=True, storage=storage),
                              shard_examples=shard_examples)
  with pytest.raises(UserError, match=words):
    run.prepare(other, most_bad=0.2)
  assert contents(tmp_path / 'out') == before      # the manifest too


def test_what_is_prepared_is_left_alone_unless_forced(broken, tmp_path, capsys):
  shutil.copytree(broken, tmp_path / 'out')
  one = make_job(tmp_path, broken=True)
  times = lambda: {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'out').iterdir()}
  before = times()
  run.prepare(one, most_bad=0.2)
  assert times() == before and 'is already prepared; --force' in capsys.readouterr().out
  run.prepare(one, most_bad=0.2, force=True)
  assert not set(times().items()) & set(before.items())
  assert contents(tmp_path / 'out') == contents(broken)


def test_forced_with_other_settings_nothing_of_before_is_left(broken, tmp_path):
  shutil.copytree(broken, tmp_path / 'out')
  other = dataclasses.replace(make_job(tmp_path, broken=True), shard_examples=20)
  run.prepare(other, most_bad=0.2, force=True)
  assert {path.name for path in (tmp_path / 'out').glob('*.rec')} == {
      other.path(split, i).name for split, total in other.shards.items() for i in range(total)}


def test_a_forced_set_is_finished_when_every_host_has_replaced_its_shards(broken, tmp_path):
  shutil.copytree(broken, tmp_path / 'out')
  job = make_job(tmp_path, broken=True)
  edited = dataclasses.replace(job, original=Edited(**dataclasses.asdict(job.original)))
  for host in (1, 0):
    done = run.prepare(edited, host=host, hosts=2, most_bad=0.2, force=True)
    assert (done is None) == (host == 1)
  captions = [caption for split in job.shards for i in range(job.shards[split])
              for shard in [records.open_shard(job.path(split, i), job.info)]
              for at in range(len(shard)) for caption in shard.metadata(at)['captions']]
  assert any('oice' in x for x in captions) and not any('oise' in x for x in captions)


def test_a_set_that_cannot_be_replaced_stays_and_the_next_attempt_goes_on(broken, tmp_path):
  shutil.copytree(broken, tmp_path / 'out')
  before, job = contents(tmp_path / 'out'), make_job(tmp_path, broken=True)
  with pytest.raises(UserError, match='cannot be used'):
    run.prepare(job, most_bad=0.1, force=True)
  assert contents(tmp_path / 'out') == before
  begun = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'out' / '.new').glob('*.rec')}
  assert begun
  replace = os.replace

  def moved_once(path, target):      # and then the computer is switched off
    if len(list((tmp_path / 'out' / '.new').iterdir())) < 5:
      raise KeyboardInterrupt
    replace(path, target)
  with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(run.os, 'replace', moved_once)
    run.prepare(job, most_bad=0.2, force=True)
  assert not (tmp_path / 'out' / 'manifest.json').exists()
  run.prepare(job, most_bad=0.2, force=True)
  after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'out').iterdir()}
  assert begun.items() <= after.items()
  assert contents(tmp_path / 'out') == before and not (tmp_path / 'out' / '.new').exists()


def test_the_folder_of_a_forced_set_may_be_a_link_or_the_current_one(broken, tmp_path, monkeypatch):
  shutil.copytree(broken, tmp_path / 'disk' / 'set')
  (tmp_path / 'out').symlink_to(tmp_path / 'disk' / 'set')
  job = make_job(tmp_path, broken=True)
  edited = dataclasses.replace(job, original=Edited(**dataclasses.asdict(job.original)))
  run.prepare(edited, most_bad=0.2, force=True)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['disk', 'original', 'out']
  assert [path.name for path in (tmp_path / 'disk').iterdir()] == ['set']
  changed = contents(tmp_path / 'disk' / 'set')
  assert changed.keys() == contents(broken).keys() and changed != contents(broken)
  monkeypatch.chdir(tmp_path / 'disk' / 'set')
  run.prepare(dataclasses.replace(job, folder=pathlib.Path()), most_bad=0.2, force=True)
  assert contents(tmp_path / 'disk' / 'set') == contents(broken)


def test_a_host_that_ends_a_forced_set_after_another_has_ended_it(broken, tmp_path, monkeypatch):
  shutil.copytree(broken, tmp_path / 'out')
  job = make_job(tmp_path, broken=True)
  run.prepare(job, host=0, hosts=2, most_bad=0.2, force=True)
  make = run._make_shards

  def overtaken(*given):
    done = make(*given)
    monkeypatch.setattr(run, '_make_shards', make)
    assert run.prepare(job, host=0, hosts=2, most_bad=0.2, force=True)      # ends it first
    return done
  monkeypatch.setattr(run, '_make_shards', overtaken)
  assert run.prepare(job, host=1, hosts=2, most_bad=0.2, force=True)['counts']
  assert contents(tmp_path / 'out') == contents(broken)
  assert not (tmp_path / 'out' / '.new').exists()


def test_repaired_images_of_a_finished_set_are_taken(broken, tmp_path):
  """Of a shard with more bad images than are allowed of the set as a whole."""
  shutil.copytree(broken, tmp_path / 'out')
  run.prepare(make_job(tmp_path, broken=True), most_bad=0.15)      # one of five, and 3 of 30
  assert contents(tmp_path / 'out') == contents(broken)
  run.prepare(make_job(tmp_path), most_bad=0.15)
  assert records.read_manifest(tmp_path / 'out')['counts']['train']['bad'] == 0


def test_a_missing_shard_is_written_again(broken, tmp_path, capsys):
  shutil.copytree(broken, tmp_path / 'out')
  job = make_job(tmp_path, broken=True)
  job.path('train', 1).unlink()
  run.prepare(job, most_bad=0.2)
  assert '1 of 7 shards are missing' in capsys.readouterr().out
  assert contents(tmp_path / 'out') == contents(broken)


@dataclasses.dataclass(frozen=True)
class Edited(toy_original.Toy):
  """The toy with other captions."""

  def examples(self, split, start, stop):
    for raw in super().examples(split, start, stop):
      words = tuple(caption.replace('oise', 'oice') for caption in raw.captions)
      yield dataclasses.replace(raw, captions=words)


def test_other_captions_in_the_original_are_noticed(broken, tmp_path):
  shutil.copytree(broken, tmp_path / 'out')
  original = Edited(**dataclasses.asdict(toy(tmp_path / 'original', broken=True)))
  one = make_job(tmp_path, original=original)
  with pytest.raises(UserError, match='other captions.*--force'):
    run.prepare(one, most_bad=0.2)
  run.prepare(one, most_bad=0.2, force=True)
  source = sources.load('records', 'train', 32, folder=str(tmp_path / 'out'))
  assert 'Noice' in source.captions(0)[0]


def own_folder(folder):
  for split, color in {'train': 'red', 'val': 'blue'}.items():
    (folder / split).mkdir(parents=True)
    Image.new('RGB', (32, 32), color).save(folder / split / 'a.bmp')
    (folder / split / 'a.txt').write_text('a square')
  return folder


def test_images_edited_in_place_are_noticed(tmp_path):
  source = own_folder(tmp_path / 'in')
  prepare = lambda **more: run.prepare(make_job(tmp_path, original=folder_reader.open(source)),
                                       **more)
  prepare()
  before = (source / 'train' / 'a.bmp').stat()
  Image.new('RGB', (32, 32), 'green').save(source / 'train' / 'a.bmp')
  os.utime(source / 'train' / 'a.bmp', ns=(before.st_atime_ns, before.st_mtime_ns))
  assert (source / 'train' / 'a.bmp').stat().st_size == before.st_size
  with pytest.raises(UserError, match='train-00000.rec .*other images.*--force'):
    prepare()
  prepare(force=True)
  prepare()


def test_other_classes_are_named(broken, tmp_path):
  shutil.copytree(broken, tmp_path / 'out')
  one = make_job(tmp_path, broken=True, class_names=('cow', 'dog', 'owl'))
  with pytest.raises(UserError, match='with other classes'):
    run.prepare(one, most_bad=0.2)


def test_before_a_set_is_finished_shards_of_edited_images_are_written_again(tmp_path):
  source = own_folder(tmp_path / 'in')
  prepare = lambda: run.prepare(make_job(tmp_path, original=folder_reader.open(source)))
  prepare()
  (tmp_path / 'out' / 'manifest.json').unlink()
  Image.new('RGB', (32, 32), 'green').save(source / 'train' / 'a.bmp')
  prepare()
  image = sources.load('records', 'train', 32, folder=str(tmp_path / 'out')).image(0)
  assert np.abs(image.astype(int) - (0, 128, 0)).max() < 9
