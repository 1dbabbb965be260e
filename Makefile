# The commands of a working day. `make run` and `make test` need Python 3.11 or newer, make and PyPI, and nothing else.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then command -v "$$name"; break; fi; done)
SITE ?=
SECONDS ?= 60
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Processes that share the tests: two, as many as small machines have cores. A file's tests stay together.
WORKERS ?= 2
# Where `make test-compiled` installs the compiled wheel: beside the sources, which tests must not see.
COMPILED := build/compiled

.PHONY: help run test test-compiled wheel-compiled lint types tests simulation simulate slow fuzz bench bench-scale bench-profile bench-instructions clean

help:
	@echo 'make run                run a router; SITE=site.toml for a configuration of your own'
	@echo 'make test               all checks: ruff, mypy, tests, coverage, some simulated networks'
	@echo 'make wheel-compiled     a wheel for this machine whose hot modules are compiled, in dist/; needs a C compiler'
	@echo 'make test-compiled      the tests on that wheel, installed in an environment of its own'
	@echo 'make simulate           the whole simulation: 200 networks of 50 routers, five of 1000, one of 1000 from cold'
	@echo 'make slow               the tests that take more than ten seconds each'
	@echo 'make fuzz SECONDS=60    every fuzz target for that long'
	@echo 'make bench              the benchmarks; BENCH_ARGS=--quick, BENCH_ARGS="unsettled 64k --runs 5", …'
	@echo 'make bench-scale        what 10 000 connections, 100 000 addresses and a storm of connections cost one router'
	@echo 'make bench-profile      where the microseconds of a message go'
	@echo 'make bench-instructions how many instructions a message takes, by valgrind'

run: $(VENV)/.installed
	$(BIN)/python -m van.router $(SITE)

test: lint types tests simulation

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .

types: $(VENV)/.installed-test
	$(BIN)/mypy --strict
	MYPYPATH=fuzz $(BIN)/mypy --strict fuzz
	MYPYPATH=benchmarks $(BIN)/mypy --strict benchmarks

tests: $(VENV)/.installed-test
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -m 'not slow' -n $(WORKERS) --dist loadfile --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/coverage report
	$(BIN)/coverage json --quiet -o coverage.json
	$(BIN)/python tools/coverage_gate.py coverage.json

# Drawn anew each time, and printed: what fails is repeated by the command that it prints.
simulation: $(VENV)/.installed-test
	$(BIN)/python -m tests.simulation.run --routers 50 --seeds 20 --jobs $(WORKERS)
	$(BIN)/python -m tests.simulation.run --routers 300 --seeds 1 --faults 10 --seconds 10
	$(BIN)/python -m tests.simulation.run --routers 10 --seeds 2 --faults 15 --seconds 8 --traffic --jobs $(WORKERS)

simulate: $(VENV)/.installed-test
	$(BIN)/python -m tests.simulation.run --routers 50 --seeds 200 --jobs $(WORKERS)
	$(BIN)/python -m tests.simulation.run --routers 1000 --seeds 5 --faults 10 --seconds 15
	$(BIN)/python -m tests.simulation.run --routers 20 --seeds 20 --traffic --jobs $(WORKERS)
	$(BIN)/python -m tests.simulation.run --routers 1000 --cold

slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

wheel-compiled: $(BIN)/python
	rm -rf $(COMPILED)/wheel
	VAN_COMPILE=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(COMPILED)/wheel .
	mkdir -p dist && cp $(COMPILED)/wheel/*.whl dist/

# Every process of this environment imports the installed `van` before it looks into the working directory, where the
# sources are: tests/test_build.py asserts that no module of theirs is used. The benchmarks are not compiled.
test-compiled: wheel-compiled
	rm -rf $(COMPILED)/venv
	$(BIN)/python -m venv $(COMPILED)/venv
	$(COMPILED)/venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(echo $(COMPILED)/wheel/*.whl)[test]"
	echo 'import van' > "$$(echo $(COMPILED)/venv/lib/python*/site-packages)/van-first.pth"
	VAN_TESTED_BUILD=compiled $(COMPILED)/venv/bin/python -m pytest \
		-m 'not slow' -n $(WORKERS) --dist loadfile --ignore=tests/test_benchmarks.py $(PYTEST_ARGS)

fuzz: $(VENV)/.installed-test
	$(BIN)/python fuzz/run.py --seconds $(SECONDS)

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-scale: $(VENV)/.installed-test
	$(BIN)/python benchmarks/scale.py $(BENCH_ARGS)

bench-profile: $(VENV)/.installed-test
	$(BIN)/python benchmarks/stages.py $(BENCH_ARGS)

bench-instructions: $(VENV)/.installed-test
	$(BIN)/python benchmarks/instructions.py $(BENCH_ARGS)

$(BIN)/python:
	@if [ -z '$(PYTHON)' ]; then \
		echo 'van needs Python 3.11 or newer, and none was found as python3.13, python3.12, python3.11, python3 or python.' >&2; \
		echo 'Install one, or name yours: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)' >&2; exit 1; fi
	@'$(PYTHON)' -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"van needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}")'
	'$(PYTHON)' -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* coverage.json
