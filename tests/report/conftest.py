import pytest
from pages import make


@pytest.fixture
def run(tmp_path):
  return make(tmp_path / 'red', stages=(10, 20), scores=[
      {}, {'step': 10, 'value': 9.25, 'time': 50.0}, {'weights': 'live', 'value': 13.5}])
