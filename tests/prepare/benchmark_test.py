"""The benchmark of the preparation runs and counts right."""
import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'prepare.py'


@pytest.mark.slow
def test_a_case_prints_one_line(encoder_folder):
  done = subprocess.run(
      [sys.executable, SCRIPT, '--size', '32', '--images', '9', '--codecs', 'jpeg', '--margins',
       '1.5', '--encoder', encoder_folder], capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  case, words = (json.loads(line) for line in done.stdout.splitlines())
  assert case['images'] == 9 and case['margin'] == 1.5 and case['codec'] == 'jpeg'
  assert 130_000 < case['original_bytes'] < 180_000        # COCO's are 160 kB on average
  assert 1000 < case['bytes'] < 5000
  rate = case['images_per_second_per_core']
  assert case['coco']['minutes'] == pytest.approx(123_287 / rate / 16 / 60, abs=0.06)
  assert case['coco']['gigabytes'] == pytest.approx(123_287 * case['bytes'] / 1e9, abs=0.01)
  assert set(words['words_seconds']) == {'wordpiece', 'word_level'}
