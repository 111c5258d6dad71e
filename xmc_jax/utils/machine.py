"""How much of the machine this process may use."""
import os
import pathlib

# The limit of a container, as it sees it itself: of version 2 and version 1 of Linux's cgroups.
_LIMITS = (pathlib.Path('/sys/fs/cgroup/memory.max'),
           pathlib.Path('/sys/fs/cgroup/memory/memory.limit_in_bytes'))


def cores() -> int:
  """Cores that this process may use: those of the machine unless it is pinned to some."""
  affinity = getattr(os, 'sched_getaffinity', None)      # Linux
  return len(affinity(0)) if affinity else os.cpu_count() or 1


def memory() -> int:
  """Bytes of memory that this process may use: those of the machine, or of its container."""
  found = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for path in _LIMITS:
    try:
      found.append(int(path.read_text()))
    except (OSError, ValueError):      # not there, or "max"
      continue
  return min(found)
