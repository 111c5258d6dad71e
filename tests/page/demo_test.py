"""`xmc demo`: type a caption, click, see the images that Python draws."""
import io
import shutil
import sys
import time
import urllib.request

import browser
import numpy as np
import pytest
from PIL import Image

import xmc_jax
from xmc_jax.cli.main import main
from xmc_jax.page import demo
from xmc_jax.pretrained.model import SHIPPED
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings('ignore')      # of gradio and what it imports
def test_type_click_and_see(monkeypatch):
  pytest.importorskip('gradio', reason='gradio is not installed; it belongs to the extra demo')
  monkeypatch.setenv('GRADIO_ANALYTICS_ENABLED', 'False')
  model = xmc_jax.load('emoji64')
  page = demo.app(model, ['a green tree'])
  with browser.chromium() as driver:
    _, address, _ = page.launch(server_name='127.0.0.1', prevent_thread_lock=True, quiet=True)
    try:
      browser.size(driver, 1000, 1000)
      driver.get(address)
      caption = until(lambda: driver.find_elements('css selector', 'textarea'))[0]
      until(lambda: caption.get_attribute('value') == 'a green tree')
      caption.clear()
      caption.send_keys('a red apple')
      driver.find_element('xpath', "//button[normalize-space()='Draw']").click()
      pictures = until(lambda: driver.find_elements('css selector', '.grid-wrap img'))
      until(lambda: len(driver.find_elements('css selector', '.grid-wrap img')) >= 5)
      found = [picture(image.get_attribute('src')) for image in driver.find_elements(
          'css selector', '.grid-wrap img')[:4]]
      assert pictures
      np.testing.assert_array_equal(found, model('a red apple', num_images=4).arrays)
      others = [url for url in browser.requests(driver)
                if not url.startswith((address, 'data:', 'blob:'))]
      assert others == []
    finally:
      page.close()


@pytest.mark.filterwarnings('ignore')
def test_the_page_of_the_folder_in_which_one_is_bears_its_name(tmp_path, monkeypatch):
  pytest.importorskip('gradio', reason='gradio is not installed; it belongs to the extra demo')
  folder = shutil.copytree(SHIPPED / 'emoji64', tmp_path / 'flowers')
  monkeypatch.chdir(folder)
  assert demo.app(xmc_jax.load('.'), ['a rose']).title == 'flowers: text to image'


@pytest.mark.filterwarnings('ignore')
def test_a_program_that_leaves_something_out_is_told():
  gradio = pytest.importorskip('gradio', reason='gradio is not installed; it belongs to demo')
  page = demo.app(xmc_jax.load('emoji64'), ['a rose'])
  draw = next(f.fn for f in page.fns.values() if f.api_name == 'draw')
  for left_out in (0, 1, 3):
    given = ['a rose', 1, 0, 3.0, []]
    given[left_out] = None
    with pytest.raises(gradio.Error, match='are needed'):
      draw(*given)


def until(found, seconds=30):
  end = time.monotonic() + seconds
  while not (value := found()):
    assert time.monotonic() < end
    time.sleep(0.05)
  return value


def picture(url):
  with urllib.request.urlopen(url) as answer:
    return np.asarray(Image.open(io.BytesIO(answer.read())).convert('RGB'))


@pytest.mark.parametrize('seed', [None, -1, 2**32, 0.5])
def test_seeds_that_are_none(seed):
  with pytest.raises(UserError, match='whole number'):
    demo._seed(seed)


def test_a_missing_gradio_is_told_with_its_extra(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'gradio', None)
  assert main(['xmc', 'demo']) == 2
  assert "pip install 'xmc_jax[demo]'" in capsys.readouterr().err
