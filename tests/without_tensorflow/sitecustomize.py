"""For processes with this folder in PYTHONPATH, TensorFlow is not installed.

Importing it takes three seconds of a processor, of some ten that a tiny run needs in all. Such a
run has no TensorBoard files and reads its data with `loader='arrays'`.
"""
import sys

sys.modules['tensorflow'] = None
