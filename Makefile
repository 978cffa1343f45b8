# castcore: every target works on a fresh machine that has Python 3.11, gcc and make.
PYTHON ?= python3
BIN := .venv/bin
CEXT := $(shell find cext -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h')

.PHONY: help install demo test lint format protos docs bench fuzz conformance debug wheel clean

help:            ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t16

install: .venv/.built  ## .venv with castcore, its dependencies and the compiled user plane

.venv/.deps: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	CASTCORE_ENGINE=none $(BIN)/python -m pip install --quiet --editable '.[dev]'  # compiled below, once
	@touch $@

.venv/.built: .venv/.deps setup.py $(CEXT)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

demo: install    ## the whole path: a zero-rating policy over gRPC, then policed packets
	$(BIN)/castcore demo zero-rating

test: install    ## the test suite (TEST_OPTIONS='-m alone' and the like: a part of it)
	$(BIN)/python -m pytest $(TEST_OPTIONS)

lint: install    ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## format the Python sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: install  ## compile protos/ into the committed v1 packages
	$(BIN)/python protos/compile.py

docs: install    ## the generated parts of docs/: life cycles, configuration, calls, errors, options
	$(BIN)/python docs/generate.py

bench: install   ## the benchmarks with their peers; each checks its result against the oracle first
	$(BIN)/python -m pytest benchmarks --benchmark-quiet -p no:cacheprovider
	$(BIN)/python docs/generate.py

.venv/.fuzz: .venv/.deps
	$(BIN)/python -m pip install --quiet --group fuzz
	@touch $@

fuzz: install .venv/.fuzz  ## libFuzzer against whatever reads foreign bytes, sanitized, 15 s a harness (FUZZ_SECONDS)
	$(BIN)/python tests/fuzz/run.py --seconds $(or $(FUZZ_SECONDS),15) $(FUZZ_OPTIONS)

conformance: install  ## docs/conformance.md, clause by clause, from a real run
	$(BIN)/python -m pytest tests -m clause --conformance=docs/conformance.md

debug: install   ## compiled modules with bounds checks, symbols and annotated sources
	CASTCORE_DEBUG=1 $(BIN)/python setup.py --quiet build_ext --inplace --force
	@echo "annotated sources: build/cython/cext/upf/*.html; 'make install' after 'touch setup.py' goes back"

wheel: install   ## a wheel under dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean:           ## everything that make made
	rm -rf .venv build dist *.egg-info upf/*.so
