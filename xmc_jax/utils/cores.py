"""How much of the machine this process may use."""
import os


def usable() -> int:
  """Cores that this process may use: those of the machine unless it is pinned to some."""
  affinity = getattr(os, 'sched_getaffinity', None)      # Linux
  return len(affinity(0)) if affinity else os.cpu_count() or 1
