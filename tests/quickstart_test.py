"""The cells of docs/quickstart.ipynb run in their order, and its outputs are those of a whole run.

Without Jupyter: a new process runs cells of Python in one namespace, and gives those that begin
with %%bash to bash. It has one device and compiles as a reader's does; the cache keeps programs.
"""
import json
import os
import subprocess
import sys

import pytest
import tiny
from PIL import Image

NOTEBOOK = tiny.ROOT / 'docs/quickstart.ipynb'
CODE = [cell for cell in json.loads(NOTEBOOK.read_text())['cells'] if cell['cell_type'] == 'code']
RUN = """
import json, subprocess, sys
names = {}
for i, cell in enumerate(json.load(sys.stdin), 1):
  if cell.startswith('%%bash'):
    subprocess.run(['bash', '-e'], input=cell.partition('\\n')[2], text=True, check=True)
  else:
    exec(compile(cell, f'code cell {i}', 'exec'), names)
"""


@pytest.mark.slow
@pytest.mark.thorough      # it compiles the steps of the packaged model, as users do
def test_the_cells_run(tmp_path):
  environment = os.environ | {
      'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1', 'TMPDIR': str(tmp_path),
      'JAX_COMPILATION_CACHE_DIR': os.environ['XMC_JAX_CACHE'],
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'PATH': f'{os.path.dirname(sys.executable)}{os.pathsep}{os.environ["PATH"]}',
      'PYTHONPATH': str(tiny.ROOT)}
  done = subprocess.run([sys.executable, '-c', RUN], cwd=tmp_path, env=environment, text=True,
                        input=json.dumps([''.join(cell['source']) for cell in CODE]),
                        capture_output=True)
  assert done.returncode == 0, done.stdout + done.stderr
  apple, = tmp_path.glob('*/apple.png')
  assert Image.open(apple).size == (64, 64)
  assert (apple.parent / 'runs/shapes/checkpoints').is_dir()
  assert (apple.parent / 'models/shapes/model.safetensors').is_file()


def test_outputs_are_those_of_one_run_without_errors():
  assert [cell['execution_count'] for cell in CODE] == [*range(1, len(CODE) + 1)]
  outputs = [output for cell in CODE for output in cell['outputs']]
  assert {output['output_type'] for output in outputs} == {'execute_result', 'stream'}
  assert {output['name'] for output in outputs if 'name' in output} == {'stdout'}
  assert sum('image/jpeg' in output.get('data', {}) for output in outputs) == 4
  assert NOTEBOOK.stat().st_size < 300_000
