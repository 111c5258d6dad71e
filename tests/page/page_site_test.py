"""`xmc export --page`: what it refuses, and its page in Chromium without a network."""
import contextlib
import json
import time

import browser
import numpy as np
import pytest

import xmc_jax
from xmc_jax.cli.main import main
from xmc_jax.page import runtime
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def javascript():
  try:
    return runtime.find()
  except UserError as error:
    pytest.skip(str(error))


def export(name, folder):
  """Writes the page of a model of the package."""
  for package in ('jax2onnx', 'onnx', 'onnx_ir'):
    pytest.importorskip(package, reason=f'{package} is not installed')
  assert main(['xmc', 'export', name, '--page', str(folder)]) == 0
  return folder


@contextlib.contextmanager
def visit(site):
  """A browser with a page, ready to draw, and its address."""
  with browser.chromium() as driver, browser.served(site) as address:
    browser.size(driver, 1000, 900)
    driver.get(address)
    wait(driver, "return 'ready' in document.documentElement.dataset")
    yield driver, address


@pytest.fixture(scope='module')
def site(javascript, tmp_path_factory):
  return export('emoji64', tmp_path_factory.mktemp('pages') / 'emoji64')


@pytest.fixture(scope='module')
def opened(site):
  with visit(site) as found:
    yield found


@pytest.fixture(scope='module')
def model():
  return xmc_jax.load('emoji64')


def wait(driver, condition, seconds=30):
  end = time.monotonic() + seconds
  while not driver.execute_script(condition):
    assert time.monotonic() < end, driver.find_element('id', 'status').text
    time.sleep(0.02)


def draw(driver, **settings):
  """Draws with the settings of the form; returns uint8 [n, h, w, 3], and what the page says."""
  for name, value in settings.items():
    driver.execute_script(
        'const [id, value] = arguments; document.getElementById(id).value = value;', name, value)
  driver.find_element('id', 'draw').click()
  wait(driver, "return !document.getElementById('draw').hasAttribute('aria-disabled')")
  images = driver.execute_script(
      "return [...document.querySelectorAll('#images canvas')].map((canvas) => [...canvas"
      ".getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]);")
  pixels = np.array(images, np.uint8).reshape(len(images), 64, 64, 4)
  return pixels[..., :3], driver.find_element('id', 'status').text


def test_it_is_small_and_names_what_it_holds(site):
  size = sum(path.stat().st_size for path in site.rglob('*') if path.is_file())
  assert size < 25e6
  facts = json.loads((site / 'model/page.json').read_text())
  assert facts['sizes'].keys() == {'graph', 'wasm'}
  assert (facts['name'], facts['size'], facts['step']) == ('emoji64', 64, 1208)
  assert 'ONNX Runtime' in (site / 'LICENSES.txt').read_text()


@pytest.mark.parametrize('caption, count, seed, truncation', [
    ('a red apple', 4, 3, None), ('flag of Italy', 2, 2**32 - 1, 0.7),
    ('  Café:  “a yellow   FACE”', 2, 0, 1.5),
    ('a red&#32;&amp;amp; blue\u200b caf&eacute;', 2, 1, None)])
def test_its_images_are_those_of_python(opened, model, caption, count, seed, truncation):
  driver, _ = opened
  images, said = draw(driver, caption=caption, count=count, seed=seed, truncation=truncation or 3)
  assert said.startswith(f'{count} images in')
  wanted = model(caption, num_images=count, seed=seed, truncation=truncation).arrays
  assert np.abs(images.astype(int) - wanted).max() <= 2


@pytest.mark.thorough
def test_layouts_are_drawn_as_in_python(javascript, tmp_path):
  """A layout is a choice, so a rounding error that changed one would change the whole image."""
  model = xmc_jax.load('scenes64')
  with visit(export('scenes64', tmp_path / 'page')) as (driver, _):
    for seed, caption in enumerate(['three sunflowers on a green background',
                                    'a red apple to the left of two tents, and a small dog']):
      images, _ = draw(driver, caption=caption, count=4, seed=seed, truncation=3)
      wanted = model(caption, num_images=4, seed=seed).arrays
      assert np.abs(images.astype(int) - wanted).max() <= 2


def test_it_asks_nobody_else_and_the_console_is_empty(opened):
  driver, address = opened
  asked = [url for url in browser.requests(driver) if not url.startswith(('data:', 'blob:'))]
  assert asked and all(url.startswith(address) for url in asked)
  assert driver.get_log('browser') == []


@pytest.mark.parametrize('caption, word', [
    ('', 'Write'), ('красное яблоко', 'Latin'), ('🍎 on a table', 'does not know'),
    ('red apple ' * 20, 'Shorten')])
def test_captions_that_python_refuses_are_refused(opened, caption, word):
  images, said = draw(opened[0], caption=caption)
  assert word in said and len(images) == 0


def test_history_draws_again_after_a_visit(opened):
  driver, *_ = opened
  images, _ = draw(driver, caption='a green tree', count=1, seed=5, truncation=3)
  driver.refresh()
  wait(driver, "return 'ready' in document.documentElement.dataset")
  driver.find_element('css selector', '#history button').click()
  wait(driver, "return document.querySelector('#images canvas')")
  again, _ = draw(driver)
  np.testing.assert_array_equal(again, images)
  link = driver.find_element('css selector', '#images a')
  assert link.get_attribute('download') == 'a_green_tree_5_0.png'


def test_a_caption_to_try_is_one_click_and_all_controls_have_names(opened):
  driver, *_ = opened
  driver.find_element('css selector', '#tries button').click()
  wait(driver, "return document.querySelector('#images canvas')")
  nodes = driver.execute_cdp_cmd('Accessibility.getFullAXTree', {})['nodes']
  controls = [node for node in nodes if node['role']['value'] in (
      'button', 'slider', 'spinbutton', 'textbox', 'link', 'image') and not node['ignored']]
  assert len(controls) > 10
  assert [node for node in controls if not node.get('name', {}).get('value')] == []


@pytest.mark.parametrize('width', [320, 375, 768])
def test_a_narrow_window_needs_no_scrolling_sideways(opened, width):
  browser.size(opened[0], width, 800)
  assert opened[0].execute_script('return document.documentElement.scrollWidth') <= width


@pytest.mark.parametrize('argv, words', [
    (['emoji64'], ['FOLDER', '--page']),
    (['emoji64', 'a', '--captions=b'], ['--captions', '--page']),
    (['emoji64', 'a', '--webgpu'], ['--webgpu', '--page']),
    (['emoji64', 'a', '--page=b'], ['FOLDER and --page']),
    (['emoji64', '--page={folder}/p', '--dtype=int8'], ['--dtype', 'RUN', 'emoji64']),
    (['emoji64', '--page={folder}/p', '--step=0'], ['--step', 'RUN']),
    (['emoji46', '--page={folder}/p'], ['emoji46', 'emoji64']),
    (['emoji64', '--page={folder}'], ['is not a page', 'another folder']),
    (['emoji64', '--page={folder}/p', '--captions={folder}/thesis.txt'], ['苹果', 'Latin']),
    (['emoji64', '--page={folder}/p', '--runtime={folder}'], ['is missing', 'npm install'])])
def test_it_refuses(argv, words, tmp_path, capsys):
  (tmp_path / 'thesis.txt').write_text('苹果\n')
  assert main(['xmc', 'export', *(word.format(folder=tmp_path) for word in argv)]) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and not [word for word in words if word not in error], error
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_javascript_of_another_version_is_refused(javascript, tmp_path):
  for name, (package, path, _) in runtime.FILES.items():
    (tmp_path / package / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / package / path).write_bytes(javascript[name].read_bytes())
  assert runtime.find(tmp_path).keys() == runtime.FILES.keys()
  changed = tmp_path / runtime._ORT / 'dist/ort.wasm.bundle.min.mjs'
  changed.write_text('export const other = 1;')
  with pytest.raises(UserError, match=r'ort\.wasm\.bundle.*pinned version'):
    runtime.find(tmp_path)
