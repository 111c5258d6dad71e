"""`python -m xmc_jax` is the `xmc` command."""
from xmc_jax.cli.main import entry

entry()
