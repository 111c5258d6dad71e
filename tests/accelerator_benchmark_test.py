"""The rehearsal of benchmarks/accelerator.py: every part runs on a CPU and leaves its lines."""
import json
import os
import subprocess
import sys

import pytest
import tiny

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1', **tiny.LEAN,
               'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
               'JAX_COMPILATION_CACHE_DIR': os.environ['XMC_JAX_CACHE'],
               'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}


def start(script, *argv, cwd):
  return subprocess.run([sys.executable, script, *map(str, argv)], cwd=cwd, text=True,
                        env=os.environ | ENVIRONMENT, capture_output=True)


@pytest.fixture(scope='module')
def rehearsed(tmp_path_factory):
  """The folder of results, and their lines by part."""
  out = tmp_path_factory.mktemp('out')
  done = start(tiny.ROOT / 'benchmarks/accelerator.py', '--out', out, '--tiny', cwd=out)
  assert done.returncode == 0, done.stderr
  parts = {}
  for text in (out / 'results.jsonl').read_text().splitlines():
    line = json.loads(text)
    parts.setdefault(line['part'], []).append(line)
  return out, parts


def test_no_part_failed_and_each_told_its_time(rehearsed):
  _, parts = rehearsed
  assert parts.keys() == {'facts', 'step', 'choices', 'kernels', 'parity', 'finite', 'train'}
  for lines in parts.values():
    assert not [line for line in lines if 'error' in line], lines
    assert lines[-1]['part_seconds'] > 0 and len(lines) > 1


def test_the_facts_name_versions_and_devices(rehearsed):
  line = rehearsed[1]['facts'][0]
  assert {'jax', 'jaxlib', 'flax', 'device', 'devices', 'memory_bytes'} <= line.keys()


def test_a_step_has_time_memory_and_compilation(rehearsed):
  [line] = [line for line in rehearsed[1]['step'] if 'rows' in line]
  assert (line['dtype'], line['rows']) == ('bfloat16', 2)
  assert min(line[key] for key in ('images_per_second', 'flops', 'temp_bytes',
                                   'compile_seconds')) > 0
  assert 'device_peak_bytes_in_use' in line


def test_remat_is_measured(rehearsed):
  [line] = [line for line in rehearsed[1]['choices'] if 'rows' in line]
  assert line['remat'] == 'blocks' and line['temp_bytes'] > 0


def test_the_slowest_kernels_come_first(rehearsed):
  shares = [line['share'] for line in rehearsed[1]['kernels'] if 'kernel' in line]
  assert 3 < len(shares) <= 10 and shares == sorted(shares, reverse=True) and sum(shares) <= 1.01


def test_a_step_is_the_same_on_the_same_device_and_stays_finite(rehearsed):
  _, parts = rehearsed
  assert parts['parity'][0]['largest'] == 0 and len(parts['parity'][0]['cpu']) > 5
  assert parts['finite'][0]['not_finite'] == [] and parts['finite'][0]['steps'] == 2


def test_the_training_leaves_metrics_a_sheet_and_the_averaged_generator(rehearsed):
  out, parts = rehearsed
  assert parts['train'][0]['step'] == 2 and parts['train'][1]['generator_step'] == 2
  for name in ('metrics.jsonl', 'sheet.png', 'generator.safetensors'):
    assert (out / f'demo_{name}').stat().st_size > 100


@pytest.fixture
def accelerator(monkeypatch):
  monkeypatch.syspath_prepend(str(tiny.ROOT / 'benchmarks'))
  return tiny.script('benchmarks/accelerator.py')


def test_batches_grow_until_memory_ends(accelerator, tmp_path, monkeypatch):
  monkeypatch.setattr(accelerator.jax, 'device_count', lambda: 1)
  monkeypatch.setattr(accelerator, 'measured', lambda plan, config: {
      'rows': config.batch_size} | ({'error': 'out of memory'} if config.batch_size > 50 else {}))
  monkeypatch.chdir(tmp_path)      # it leaves a folder for the text encoder
  lines = [*accelerator.step(accelerator.Rehearsal(tmp_path, False), '64', 'float32')]
  assert [line['rows'] for line in lines] == [16, 32, 64] and 'error' in lines[-1]


def test_a_whole_run_has_all_sizes_types_and_implementations(accelerator, tmp_path):
  parts = [words for words, _ in accelerator.schedule(accelerator.Rehearsal(tmp_path, False))]
  assert [words[1:] for words in parts if words[0] == 'step'] == [
      [px, dtype] for dtype in ('bfloat16', 'float32') for px in ('256', '128', '64')]
  assert [words[2] for words in parts if words[0] == 'choices'] == [
      *accelerator.IMPLEMENTATIONS, 'blocks']


def test_what_a_part_told_before_it_ran_out_of_time_stays(accelerator, tmp_path):
  plan = accelerator.Rehearsal(tmp_path, True)
  plan.tell(part='step', rows=4)
  accelerator.run_part(['step', '32', 'float32'], 0.05, plan)
  accelerator.run_part(['nothing'], 60, plan)
  first, limit, failed = map(json.loads, (tmp_path / 'results.jsonl').open())
  assert first['rows'] == 4 and 'limit' in limit['error'] and 'nothing' in failed['error']
