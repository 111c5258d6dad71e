"""Checkpoints are flushed before they get their names, and their damage is noticed."""
import errno
import json
import os
import pathlib
import pwd
import shutil
from random import Random

import jax
import jax.numpy as jnp
import pytest

from xmc_jax.training import durable
from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.types import UserError
from xmc_jax.utils import json_lines

STATE = {'w': jnp.arange(600.0).reshape(20, 30), 'step': jnp.int32(7)}
SPEC = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), STATE)


def save(folder, *steps):
  with Checkpoints(folder, every=1) as checkpoints:
    for step in steps:
      checkpoints.save(step, STATE, {'config': {'seed': step}})
  return folder


def restore(folder, step=None):
  with Checkpoints(folder, every=None) as checkpoints:
    return checkpoints.restore(SPEC, step), checkpoints.meta(step)


def files(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


def test_every_file_is_flushed_before_the_name_and_the_name_before_the_save_is_done(
    tmp_path, monkeypatch):
  events, flush, rename = [], os.fsync, os.rename
  inode = lambda path: os.stat(path).st_ino
  monkeypatch.setattr(os, 'fsync', lambda fd: (events.append(os.fstat(fd).st_ino), flush(fd)))
  monkeypatch.setattr(os, 'rename', lambda a, b: (rename(a, b), events.append(pathlib.Path(b))))
  save(tmp_path, 3)
  named = events.index(tmp_path / '3')
  inside = [path for path in (tmp_path / '3').rglob('*')] + [tmp_path / '3']
  assert {inode(path) for path in inside} <= set(events[:named])
  assert inode(tmp_path) in events[named:]


def test_a_flipped_bit_in_any_file_is_not_loaded(tmp_path):
  save(tmp_path, 1)
  whole = files(tmp_path / '1')
  assert len(whole) > 5 and tmp_path / '1' / durable.CHECKSUMS in whole
  for path in whole:
    content = bytearray(path.read_bytes())
    if not content:
      continue
    for at in {0, len(content) // 2, len(content) - 1}:
      content[at] ^= 4
      path.write_bytes(content)
      with pytest.raises(UserError, match='step 1 is damaged'):
        restore(tmp_path)
      content[at] ^= 4
    path.write_bytes(content)
  state, meta = restore(tmp_path)
  assert (state['w'] == STATE['w']).all() and meta == {'config': {'seed': 1}}


def test_damage_anywhere_in_the_checkpoint_of_a_run_is_not_loaded(trained, tmp_path):
  folder, random = shutil.copytree(trained / 'checkpoints/4', tmp_path / '4'), Random(0)
  with Checkpoints(tmp_path, every=None) as checkpoints:
    intact = checkpoints.meta()
  tried = 0
  for path in files(folder):
    whole = path.read_bytes()
    for at in random.choices(range(len(whole)), k=4) if whole else []:
      for harm in (bytes([whole[at] ^ 1 << random.randrange(8)]), bytes(64)):
        damaged = (whole[:at] + harm + whole[at + len(harm):])[:len(whole)]
        if damaged != whole:      # else the zeros were there before
          path.write_bytes(damaged)
          with pytest.raises(UserError, match='step 4 is damaged'), \
               Checkpoints(tmp_path, every=None) as checkpoints:
            checkpoints.meta()
          tried += 1
    path.write_bytes(whole)
  assert tried > 100
  with Checkpoints(tmp_path, every=None) as checkpoints:
    assert checkpoints.meta() == intact


@pytest.mark.parametrize('text', ['[]', '3', 'null', '{"state/d/0": {}}', '{', '\x00'])
def test_checksums_that_are_none_are_damage(tmp_path, text):
  save(tmp_path, 1, 2)
  (tmp_path / '2' / durable.CHECKSUMS).write_text(text)
  with Checkpoints(tmp_path, every=1) as checkpoints:
    assert 'step 2 is damaged' in checkpoints.set_aside_damaged()[0]
    assert checkpoints.latest() == 1


@pytest.mark.parametrize('harm', [
    lambda path: path.write_bytes(bytes(len(path.read_bytes()))),     # zeros of the same length
    lambda path: path.write_bytes(b''), lambda path: path.unlink()])
def test_zeroed_empty_and_missing_files_are_not_loaded(tmp_path, harm):
  save(tmp_path, 1)
  path = max(files(tmp_path / '1'), key=lambda path: path.stat().st_size)
  harm(path)
  assert path.name in durable.damage(tmp_path / '1')
  with pytest.raises(UserError, match='damaged'):
    restore(tmp_path)


def test_damaged_checkpoints_are_set_aside_down_to_the_newest_intact_one(tmp_path):
  save(tmp_path, 1, 2, 3)
  for step in (2, 3):
    (tmp_path / str(step) / durable.CHECKSUMS).write_text(json.dumps({'state/d/0': 1}))
  with Checkpoints(tmp_path, every=1) as checkpoints:
    said = checkpoints.set_aside_damaged()
    assert [line.split(' is damaged')[0] for line in said] == [
        'the checkpoint of step 3', 'the checkpoint of step 2']
    assert checkpoints.latest() == 1
    assert checkpoints.save(2, STATE, {}) and checkpoints.latest() == 2
  assert {path.name for path in tmp_path.iterdir()} == {'1', '2', '2.damaged.1', '3.damaged.1'}
  assert restore(tmp_path)[1] == {}


def test_no_intact_checkpoint_is_an_error_and_none_is_renamed(tmp_path):
  save(tmp_path, 1, 2)
  for step in (1, 2):
    (tmp_path / str(step) / durable.CHECKSUMS).write_text('{}')
  with Checkpoints(tmp_path, every=1) as checkpoints:
    with pytest.raises(UserError, match='all checkpoints in .* are damaged.*step 2: .*step 1'):
      checkpoints.set_aside_damaged()
  assert {path.name for path in tmp_path.iterdir()} == {'1', '2'}


def test_a_copy_from_a_bucket_has_no_checksums_and_is_read(tmp_path):
  save(tmp_path, 1)
  (tmp_path / '1' / durable.CHECKSUMS).unlink()
  assert durable.CHECKSUMS in durable.damage(tmp_path / '1')      # of a local run they are lost
  (tmp_path / '1' / 'commit_success.txt').write_text(
      'Checkpoint commit was successful to gs://bucket/run/checkpoints/1')
  assert durable.damage(tmp_path / '1') is None
  with Checkpoints(tmp_path, every=1) as checkpoints:
    assert checkpoints.set_aside_damaged() == [] and checkpoints.latest() == 1
  restore(tmp_path)


def test_the_owner_of_a_checkpoint_need_not_be_known(tmp_path, monkeypatch):
  save(tmp_path, 1)
  def unknown(uid):
    raise KeyError(f'getpwuid(): uid not found: {uid}')
  monkeypatch.setattr(pwd, 'getpwuid', unknown)
  with Checkpoints(tmp_path, every=None) as checkpoints:
    assert checkpoints.saved(1) > 0
  for _ in range(2):
    json_lines.append(tmp_path / 'lines.jsonl', [{'a': 1}])
  assert len(json_lines.read(tmp_path / 'lines.jsonl')) == 2


def test_a_checkpoint_under_the_name_of_another_step_is_refused(tmp_path):
  save(tmp_path, 1, 2)
  (tmp_path / '2').rename(tmp_path / '7')
  with pytest.raises(UserError, match='step 7 is damaged.* written as that of step 2; give the'):
    restore(tmp_path)
  (tmp_path / '7').rename(tmp_path / '2')
  assert restore(tmp_path)[1] == {'config': {'seed': 2}}


def test_a_step_may_be_damaged_again(tmp_path):
  save(tmp_path, 1)
  for n in (1, 2):
    save(tmp_path, 2)
    (tmp_path / '2' / durable.CHECKSUMS).unlink()
    with Checkpoints(tmp_path, every=1) as checkpoints:
      assert f'2.damaged.{n}' in checkpoints.set_aside_damaged()[0]
      assert checkpoints.latest() == 1


def test_intact_checkpoints_are_left_alone(tmp_path):
  save(tmp_path, 1, 2)
  with Checkpoints(tmp_path, every=1) as checkpoints:
    assert checkpoints.set_aside_damaged() == []
  assert {path.name for path in tmp_path.iterdir()} == {'1', '2'}


@pytest.mark.parametrize('code', [errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_a_checkpoint_that_cannot_be_read_now_is_neither_damaged_nor_renamed(
    tmp_path, monkeypatch, code):
  save(tmp_path, 1, 2)
  def fail(path):
    raise OSError(code, os.strerror(code), str(path))
  monkeypatch.setattr(durable, '_crc', fail)
  with Checkpoints(tmp_path, every=1) as checkpoints:
    for read in (checkpoints.set_aside_damaged, checkpoints.meta):
      with pytest.raises(UserError, match=rf'step 2 in .* cannot be read .*{os.strerror(code)}'):
        read()
  assert {path.name for path in tmp_path.iterdir()} == {'1', '2'}


def test_only_hidden_files_may_have_come_to_a_checkpoint(tmp_path):
  save(tmp_path, 1)
  for name in ('.DS_Store', 'state/.nfs0001'):
    (tmp_path / '1' / name).write_bytes(b'x')
  assert durable.damage(tmp_path / '1') is None
  (tmp_path / '1' / 'state' / 'other').write_bytes(b'x')
  assert durable.damage(tmp_path / '1') == 'state/other is no part of it'
