# TORCH=cpu or cuda chooses the build of PyTorch; PYTHON is the interpreter that the environment is made of.
TORCH ?= cpu
PYTHON ?= python3

# Processes that the tests run on; 8 hold about 12 GB. One more than there are cores: the ranks that a
# test starts wait for one another.
WORKERS ?= $(shell n=$$(($$(nproc) + 1)); echo $$((n < 8 ? n : 8)))

BIN := .venv/bin
READY := .venv/ready-$(TORCH)
TORCH_VERSION := $(shell sed -n 's/^torch==//p' launch/constraints.txt)

# How long `make faults` breaks runs, at least twenty of them.
MINUTES ?= 8

.PHONY: demo test check faults setup smollm2

demo: $(READY)
	$(BIN)/lyceum demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

faults: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m launch.faults --rounds 20 --minutes $(MINUTES)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A real model of 135 million parameters, fetched once into the cache (LYCEUM_CACHE, ~/.cache/lyceum).
smollm2: $(READY)
	$(BIN)/python -m trainer.evaluate.smollm2

setup: $(READY)

$(READY): pyproject.toml launch/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lyceum needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	rm -f .venv/ready-*
	$(install-torch-$(TORCH))
	$(BIN)/pip install --quiet --constraint launch/constraints.txt --editable '.[data,dev,evaluate]'
	touch $@

# The CPU build comes from wherever pip is set up to look (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL). Where
# it isn't found, the plain version is taken: on Linux that is the CUDA build, several GB larger.
install-torch-cpu = \
	$(BIN)/pip install --quiet 'torch==$(TORCH_VERSION)+cpu' 2>/dev/null || \
	$(BIN)/pip install --quiet 'torch==$(TORCH_VERSION)'
install-torch-cuda = $(BIN)/pip install --quiet 'torch==$(TORCH_VERSION)'
