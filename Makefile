# castcore: every target works on a fresh machine that has Python 3.11, gcc and make.
PYTHON ?= python3
BIN := .venv/bin
CEXT := $(shell find cext -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h')

# Modules are compiled once, and not at every start of a process: there are hundreds of them in the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test rates again lint format protos docs bench fuzz conformance debug wheel clean

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
	$(BIN)/python -m compileall -q nf upf
	@touch $@

demo: install    ## the whole path: a zero-rating policy over gRPC, then policed packets
	$(BIN)/castcore demo zero-rating

test: install    ## the test suite, WORKERS (2) at a time; what wants the machine for itself is in 'make rates'
	$(BIN)/python -m pytest -n $(or $(WORKERS),2) --dist loadgroup -m 'not alone' $(TEST_OPTIONS)

rates: install   ## the tests that measure rates of live traffic, one after the other on a machine that is quiet
	$(BIN)/python -m pytest -m alone $(TEST_OPTIONS)

again: install   ## the tests that failed last, one after the other
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(TEST_OPTIONS)

lint: .venv/.deps  ## ruff, mypy, import contracts
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

conformance:     ## docs/conformance.md, clause by clause, from a real run of all tests
	rm -f build/conformance.json
	$(MAKE) rates TEST_OPTIONS='--conformance=docs/conformance.md'
	$(MAKE) test TEST_OPTIONS='--conformance=docs/conformance.md'

debug: install   ## compiled modules with bounds checks, symbols and annotated sources
	CASTCORE_DEBUG=1 $(BIN)/python setup.py --quiet build_ext --inplace --force
	@echo "annotated sources: build/cython/cext/upf/*.html; 'make install' after 'touch setup.py' goes back"

wheel: install   ## a wheel under dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean:           ## everything that make made
	rm -rf .venv build dist *.egg-info upf/*.so nf/mbstf/*.so nf/client/mbs/*.so
