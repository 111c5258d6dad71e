"""Headless Chromium that reaches this machine alone, and a server of static files."""
import contextlib
import functools
import http.server
import json
import shutil
import threading

import pytest

# Every other address fails, so that a page that asked for one would show it.
_FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
          '--disable-component-update', '--disable-dev-shm-usage', '--no-first-run',
          '--hide-scrollbars', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1')


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *_):
    pass


@contextlib.contextmanager
def served(folder):
  """The address of a folder's files on this machine."""
  server = http.server.ThreadingHTTPServer(
      ('127.0.0.1', 0), functools.partial(_Quiet, directory=str(folder)))
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/'
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def chromium():
  """A driver of selenium; skips the test where Chromium, its driver or selenium is missing."""
  browser, driver = (shutil.which(name) for name in ('chromium', 'chromedriver'))
  if not browser or not driver:
    pytest.skip('chromium and chromedriver are not installed; see CONTRIBUTING.md')
  webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
  from selenium.webdriver.chrome.service import Service
  options = webdriver.ChromeOptions()
  options.binary_location = browser
  for flag in _FLAGS:
    options.add_argument(flag)
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
  found = webdriver.Chrome(options, Service(driver))
  try:
    yield found
  finally:
    found.quit()


def size(driver, width, height, dark=False):
  """Sets the size of the page in CSS pixels, and its colours."""
  driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
      'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 600})
  driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [
      {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}]})


def requests(driver):
  """The addresses that the pages have asked for since the last call."""
  events = [json.loads(line['message'])['message'] for line in driver.get_log('performance')]
  return [event['params']['request']['url'] for event in events
          if event['method'] == 'Network.requestWillBeSent']
