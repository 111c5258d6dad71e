"""The reporter: one consistent history, honest rates, and a name for what is not finite."""
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

from xmc_jax.training import metric_writer
from xmc_jax.training.metric_writer import NonFinite, Reporter
from xmc_jax.types import UserError


@pytest.fixture
def clock(monkeypatch):
  """Seconds that pass only when a test says so: `clock[0] += 1`."""
  now = [100.0]
  monkeypatch.setattr(metric_writer.time, 'perf_counter', lambda: now[0])
  return now


@pytest.fixture
def no_board(monkeypatch):
  monkeypatch.setattr(metric_writer, '_board', lambda folder: None)


def reporter(folder, **options):
  return Reporter(folder, **{'total_steps': 20, 'rows_per_step': 8, 'every': 4, 'start': 0}
                  | options)


def metrics_of(step):
  values = {'joint/d/hinge': step / 2, 'joint/d_loss': step, 'joint/g_loss': -step}
  return {name: jnp.float32(value) for name, value in values.items()}


def train(reporter, steps, clock=None):
  """One second a step, a tenth of it spent on waiting for data; 30 seconds the first."""
  for i, step in enumerate(steps):
    reporter.step(step, metrics_of(step), waited=0.1)
    if clock is not None:
      clock[0] += 1 if i else 30
  reporter.close()


def history(folder):
  return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_reports_at_the_first_step_at_multiples_and_at_the_last(tmp_path, no_board):
  train(reporter(tmp_path, total_steps=10), range(1, 11))
  assert [line['step'] for line in history(tmp_path)] == [1, 4, 8, 10]


def test_means_are_of_the_steps_since_the_last_report(tmp_path, no_board):
  train(reporter(tmp_path, total_steps=10), range(1, 11))
  assert [line['joint/d_loss'] for line in history(tmp_path)] == [1, 3, 6.5, 9.5]
  assert [line['joint/d/hinge'] for line in history(tmp_path)] == [0.5, 1.5, 3.25, 4.75]


def test_rates_leave_the_compiling_step_out(tmp_path, no_board, clock):
  train(reporter(tmp_path), range(1, 21), clock)
  first, *others = history(tmp_path)
  assert not {'images_per_second', 'seconds_per_step', 'waiting_for_data'} & first.keys()
  assert len(others) == 5
  for line in others:
    assert line['images_per_second'] == pytest.approx(8)
    assert line['seconds_per_step'] == pytest.approx(1)
    # The last window has no next batch to wait for.
    assert line['waiting_for_data'] == pytest.approx(0.1 if line['step'] < 20 else 0.075)


def test_progress_line(tmp_path, no_board, clock, capsys):
  train(reporter(tmp_path, total_steps=20_000, every=1_000), range(1, 1_002), clock)
  first, second, last = capsys.readouterr().out.splitlines()
  assert first == 'step 1/20,000  d 1.00  g -1.00  first step after 30 s'
  assert second == ('step 1,000/20,000  d 501.00  g -501.00  8 images/s  data 10 %  '
                    'left 5 h 17 min')
  assert last.startswith('step 1,001/20,000  ')


def test_losses_of_one_player_in_two_phases_keep_their_phase(tmp_path, no_board, capsys):
  with_discriminator = reporter(tmp_path)
  with_discriminator.step(1, metrics_of(1) | {'discriminator/d_loss': jnp.float32(3)}, 0.0)
  with_discriminator.close()
  assert 'discriminator/d 3.00  joint/d 1.00  g -1.00' in capsys.readouterr().out


def test_holds_the_metrics_of_the_step_in_flight(tmp_path, no_board, monkeypatch):
  fetched = []
  get = jax.device_get
  monkeypatch.setattr(metric_writer.jax, 'device_get',
                      lambda tree: fetched.append(float(tree['joint/d_loss'])) or get(tree))
  writer = reporter(tmp_path)
  for step in (1, 2, 3):
    writer.step(step, metrics_of(step), 0.0)
    assert fetched == list(range(1, step))
  writer.settle()
  writer.settle()
  assert fetched == [1, 2, 3]


def test_a_stopped_run_reports_its_last_steps(tmp_path, no_board):
  train(reporter(tmp_path), range(1, 7))
  assert [(line['step'], line['joint/d_loss']) for line in history(tmp_path)] == [
      (1, 1), (4, 3), (6, 5.5)]


def test_resuming_drops_what_is_done_again(tmp_path, no_board):
  train(reporter(tmp_path), range(1, 15))
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": "3"}\n{"step": 3, "joint/d_l')   # of another program; killed while writing
  train(reporter(tmp_path, start=8), range(9, 21))
  assert [line['step'] for line in history(tmp_path)] == [1, 4, 8, 9, 12, 16, 20]
  train(reporter(tmp_path), range(1, 3))
  assert [line['step'] for line in history(tmp_path)] == [1, 2]
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_non_finite_names_the_term_before_the_total(tmp_path, no_board, value):
  writer = reporter(tmp_path)
  writer.step(1, metrics_of(1), 0.0)
  bad = {'a/g_loss': value, 'joint/g/sentence': value, 'joint/d_loss': 1.0}
  writer.step(2, {name: jnp.float32(v) for name, v in bad.items()}, 0.0)
  with pytest.raises(NonFinite, match=f'joint/g/sentence is {value} at step 2,.* checkpoint'):
    writer.step(3, metrics_of(3), 0.0)
  writer.close()
  assert [line['step'] for line in history(tmp_path)] == [1]
  assert issubclass(NonFinite, UserError)


def test_non_finite_last_step_is_found_when_closing(tmp_path, no_board):
  writer = reporter(tmp_path)
  writer.step(1, metrics_of(1), 0.0)
  writer.step(2, metrics_of(2), 0.0)
  writer.step(3, {'joint/g_loss': jnp.float32(np.nan)}, 0.0)
  with pytest.raises(NonFinite, match='joint/g_loss is nan at step 3'):
    writer.close()
  assert [line['step'] for line in history(tmp_path)] == [1, 2]


def test_other_processes_write_nothing_but_stop_too(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(metric_writer.jax, 'process_index', lambda: 1)
  writer = reporter(tmp_path / 'run')
  writer.step(1, metrics_of(1), 0.0)
  writer.images(1, np.zeros((4, 4, 3), np.uint8), 'samples')
  writer.step(2, {'joint/d_loss': jnp.float32(np.nan)}, 0.0)
  with pytest.raises(NonFinite):
    writer.close()
  assert not (tmp_path / 'run').exists() and capsys.readouterr().out == ''


def test_tensorboard_holds_scalars_and_images(tmp_path):
  writer = reporter(tmp_path)
  image = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
  writer.images(2, image, 'samples')
  train(writer, range(1, 6))
  with metric_writer.Board(tmp_path / 'tensorboard') as board:
    board.scalars(4, {'fid': 12.5})
  events = event_accumulator.EventAccumulator(
      str(tmp_path / 'tensorboard'), {'tensors': 0, 'images': 0})
  events.Reload()
  value = lambda event: float(np.frombuffer(event.tensor_proto.tensor_content, np.float32)[0]
                              if event.tensor_proto.tensor_content
                              else event.tensor_proto.float_val[0])
  losses = [(event.step, value(event)) for event in events.Tensors('joint/d_loss')]
  assert losses == [(1, 1), (4, 3), (5, 5)]
  assert [event.step for event in events.Tensors('images_per_second')] == [4, 5]
  assert [(event.step, value(event)) for event in events.Tensors('fid')] == [(4, 12.5)]
  width, height, png = events.Tensors('samples')[0].tensor_proto.string_val
  assert (width, height, png[:4]) == (b'5', b'6', b'\x89PNG')
  with Image.open(tmp_path / 'images' / 'samples_00000002.png') as image:
    np.testing.assert_array_equal(np.asarray(image), image)


def test_trains_on_without_tensorboard(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'clu', None)
  train(reporter(tmp_path), range(1, 3))
  assert 'TensorBoard files are not written' in capsys.readouterr().out
  assert [line['step'] for line in history(tmp_path)] == [1, 2]


class Full:
  """A writer of TensorBoard whose disk is full, in the words of TensorFlow."""

  def __getattr__(self, name):
    def fail(*_, **__):
      raise RuntimeError('{{function_node __wrapped__WriteSummary}} events.out; No space left on '
                         'device\n\tFailed to flush 11 events\n\tCould not flush events file.')
    return fail


def test_a_full_disk_of_tensorboards_files_is_one_sentence(tmp_path, monkeypatch):
  from clu import metric_writers
  monkeypatch.setattr(metric_writer, '_board', lambda folder: metric_writers.AsyncWriter(Full()))
  told = r'/tensorboard cannot be written \(No space left on device\); make room'
  with pytest.raises(UserError, match=told):      # the thread that writes finds it, some time
    train(reporter(tmp_path), range(1, 6))
  board = metric_writer.Board(tmp_path / 'tensorboard')
  board.images(2, {'samples': np.zeros((1, 4, 4, 3), np.uint8)})
  for end in board.flush, board.close:
    with pytest.raises(UserError, match=told):
      end()


def test_a_file_in_the_place_of_tensorboards_folder(tmp_path):
  (tmp_path / 'tensorboard').write_text('')
  with pytest.raises(UserError, match='/tensorboard cannot be written') as error:
    train(reporter(tmp_path), range(1, 3))
  assert '\n' not in str(error.value) and '{{' not in str(error.value)


def test_workdir_that_cannot_be_made(tmp_path, no_board):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='--workdir: cannot write to .*file/run'):
    reporter(tmp_path / 'file' / 'run')
