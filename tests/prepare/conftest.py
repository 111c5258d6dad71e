"""The readers in examples/ are imported as `PYTHONPATH=examples` makes them importable."""
import sys

import tiny

sys.path.append(str(tiny.ROOT / 'examples'))
