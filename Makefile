PYTHON ?= python3
BIN := .venv/bin
ENV := .venv/.installed
# Bytecode is compiled when first imported, not for all of 6 GB now; unless it may not be written then.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)

.PHONY: quickstart test fault-test check cluster-test bench clean

$(ENV): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@echo "installing into .venv: some minutes, about 6 GB"
	$(PYTHON) -m venv .venv
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: $(ENV)  ## install, run the quickstart grid on real data, draw the heat maps and the report
	$(BIN)/swast run sweeps/grids/quickstart.yaml $(ARGS)

test: $(ENV)  ## the tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --ignore=tests/faults $(ARGS)

fault-test: $(ENV)  ## workers, nodes, drivers, disks, clocks and servers disturbed for real (some minutes, root for the disks)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/faults $(ARGS)

cluster-test: $(ENV)  ## a sweep over two Ray nodes, MLflow on PostgreSQL and S3, all on loopback (PostgreSQL must be installed)
	$(INSTALL) --constraint constraints.txt --editable '.[dev,cluster]'
	$(BIN)/python -m pytest tests/cluster $(ARGS)

check: $(ENV)  ## lint, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

bench: $(ENV)  ## trainer throughput against a bare PyTorch loop
	$(BIN)/python tests/bench/throughput.py $(ARGS)

bench-%: $(ENV)  ## bench-methods: selectors, seconds and memory; bench-engine: sweeps against a script without us (many hours; ARGS="--only ...")
	$(BIN)/python tests/bench/$*.py $(ARGS)

clean:  ## remove the environment and caches; sweeps in outputs/ stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build *.egg-info
