"""Hashes against hashlib, and of equal JSON values."""
import hashlib
import json

from xmc_jax.utils.hashing import file_sha256, json_sha256


def test_a_file(tmp_path):
  (tmp_path / 'a').write_bytes(b'abc')
  assert file_sha256(tmp_path / 'a') == hashlib.sha256(b'abc').hexdigest()


def test_json_values():
  assert json_sha256(['a', 'b']) == json_sha256(json.loads('["a", "b"]'))
  assert json_sha256({'a': 1, 'b': 2}) == json_sha256({'b': 2, 'a': 1})
  assert len({json_sha256(x) for x in (['a', 'b'], ['b', 'a'], ['ab'], [])}) == 4
