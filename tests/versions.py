"""What tests ask of the version of jaxlib. Imports nothing that starts a backend."""
import importlib.metadata

JAXLIB = tuple(int(part) for part in importlib.metadata.version('jaxlib').split('.')[:2])
# Whether XLA for CPUs has its older emitters beside the newer ones; a flag that XLA does not know
# ends the process, or the compilation.
OLDER_EMITTERS = JAXLIB < (0, 11)
