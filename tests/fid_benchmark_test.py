"""The benchmark of FID features runs without torch and prints its measurements."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1',
               'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
               'JAX_COMPILATION_CACHE_DIR': os.environ['XMC_JAX_CACHE'],
               'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}


def test_it_prints_a_line_for_the_features_and_one_for_the_distance():
  done = subprocess.run(
    [sys.executable, ROOT / 'benchmarks' / 'fid.py', '--alone', '--rows', '1', '--px', '32',
     '--rounds', '2', '--features', '8'],
    env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  features, distance = (json.loads(line) for line in done.stdout.splitlines())
  assert (features['case'], features['px'], features['rows']) == ('features', 32, 1)
  assert features['xmc_jax']['images_per_second'] > 0
  assert features['xmc_jax']['images_per_processor_second'] > 0
  assert (distance['case'], distance['features']) == ('frechet', 8)
  assert distance['xmc_jax']['seconds'] >= 0
  for line in (features, distance):
    assert line['rounds'] == 2 and line['device'] == 'cpu' and line['cores'] >= 1
    assert 'torch_fidelity' not in line and 'ratio' not in line
