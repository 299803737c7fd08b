# make venv    sets up .venv with the command foveal in it
# make test    sets up what the tests need, and runs them
# make demo    trains on real pictures, start to end, a classifier and a detector, and shows what it made
# make help    the other targets
#
# PYTHON=python3.12   the Python to use (3.11 or newer)
# TORCH=...           a torch of your own in place of the tested one; it is remembered for later calls:
#                     TORCH="torch==2.11.0", TORCH=path/to/torch.whl, or pip's options beside the name;
#                     TORCH=none takes the torch that PYTHON has already; TORCH=pinned goes back to the tested one
# ARGS=...            further words for pytest, the demo or fuzz (names of readers)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CHOICE := $(VENV)/torch-choice
CHOSEN := $(strip $(shell cat $(CHOICE) 2>/dev/null))
TORCH ?= $(or $(CHOSEN),pinned)
WORKERS ?= 2

export PIP_NO_INPUT := 1
export OMP_WAIT_POLICY := passive# waiting threads sleep: cores that are shared stay usable

.PHONY: help venv dev test slow fuzz demo lint types format check clean

help:
	@sed -n 's/^\(# \?\)//p' Makefile | sed '/^$$/q' | head -n 4
	@echo "make slow    also the tests that take minutes"
	@echo "make fuzz    wrong inputs for all readers of data, by the hundred thousand: an hour; COUNT=2000 for minutes"
	@echo "make lint    style: ruff check and format"
	@echo "make types   strict types: mypy"
	@echo "make format  let ruff format the code"
	@echo "make check   lint, types, test"
	@echo "make clean   remove what the targets above made"

venv: $(VENV)/core.stamp
	@echo "Ready: $(BIN)/foveal --help"

dev: $(VENV)/dev.stamp

# another torch than the one installed: set up anew
ifneq ($(strip $(TORCH)),$(CHOSEN))
.PHONY: $(VENV)/core.stamp
endif

$(VENV)/core.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Foveal needs Python 3.11 or newer, and PYTHON=$(PYTHON) is not that. Name another: make venv PYTHON=python3.12"; \
	  exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(if $(filter none,$(TORCH)),--system-site-packages) $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make virtual environments: its module venv or ensurepip is missing."; \
	  echo "On Debian and Ubuntu, as root: apt-get install python3-venv. Or name another Python: make venv PYTHON=..."; \
	  exit 1; }
	@rm -f $@ $(VENV)/dev.stamp $(VENV)/timm.stamp  # what fails below is not taken for done the next time
	@sed -i.bak 's/^include-system-site-packages = .*/include-system-site-packages = $(if $(filter none,$(TORCH)),true,false)/' \
	  $(VENV)/pyvenv.cfg && rm -f $(VENV)/pyvenv.cfg.bak
ifeq ($(strip $(TORCH)),pinned)
	cp constraints.txt $(VENV)/constraints.txt
else
	grep -v -E '^torch(vision)?==' constraints.txt > $(VENV)/constraints.txt
ifneq ($(strip $(TORCH)),none)
	$(PIP) install -c $(VENV)/constraints.txt $(TORCH)
else
	@$(PIP) uninstall -q -y torch torchvision 2>/dev/null
	@$(BIN)/python -c 'import torch; print("torch", torch.__version__, "is taken from", torch.__file__)' 2>/dev/null || { \
	  echo "TORCH=none takes the torch that $(PYTHON) has, and it has none. Leave TORCH out, or name a PYTHON with torch."; \
	  exit 1; }
endif
	@$(BIN)/python -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' >> $(VENV)/constraints.txt
endif
	$(PIP) install -c $(VENV)/constraints.txt -e .
	@echo '$(strip $(TORCH))' > $(CHOICE)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(PIP) install -c $(VENV)/constraints.txt -e '.[dev]'
	@touch $@

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

slow: $(VENV)/dev.stamp
	HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'slow or not slow' $(ARGS)

fuzz: $(VENV)/dev.stamp
	$(BIN)/python tests/fuzz/fuzzing.py $(if $(COUNT),--count $(COUNT)) $(ARGS)

# the second part of the demo wants timm; without it the first still runs
$(VENV)/timm.stamp: $(VENV)/core.stamp
	$(PIP) install -q -c $(VENV)/constraints.txt -e '.[timm]'
	@touch $@

demo: $(VENV)/core.stamp
	$(BIN)/python examples/fashion_mnist/demo.py $(ARGS)
	@$(MAKE) --no-print-directory $(VENV)/timm.stamp || echo "The extra timm could not be installed."
	$(BIN)/python examples/blood_cells/demo.py $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
