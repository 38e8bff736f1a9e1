# `make run` distils on the embedded dataset, `make test` runs the tests; both install first, into a
# local .venv, with the versions in constraints.txt. What only tests and documentation need is
# installed when they are first asked for, and nothing is compiled that no program imports: half
# the time of a first `make run` was that.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
STAMP := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.installed-development
INSTALL := $(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
    -c constraints.txt
SITE := $(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))"

.PHONY: help run test test-fast coverage lint docs format dist clean

help:
	@echo "make run    train, distil and rank on the embedded dataset"
	@echo "make test   run the tests"
	@echo "make test-fast  run those that take no training, in under a minute on two cores"
	@echo "make coverage   run the tests and say which lines none of them reaches"
	@echo "make lint   ruff, mypy and import-linter"
	@echo "make docs   build the documentation into site/"
	@echo "make format let ruff rewrite the layout of the sources"
	@echo "make dist   build wheel and sdist into dist/, check them and try both"
	@echo "make clean  remove $(VENV) and the caches"
	@echo "PYTHON=/path/to/python3.11 chooses the interpreter (3.11, 3.12 or 3.13)"

# No wheel of dgl carries the tag of Python 3.13; the one for 3.12 works there.
# A shim named python3.12 may exist without a Python 3.12 behind it, so each candidate is asked.
$(STAMP): pyproject.toml constraints.txt
	@supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	python=; \
	for candidate in $${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do \
	    if "$$candidate" -c "$$supported" >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "dglke_distill needs Python 3.11, 3.12 or 3.13." >&2; \
	    echo "$${PYTHON:-None of python3.11, python3.12, python3.13, python3} is not one of them." >&2; \
	    echo "Install one, or say where it is: make PYTHON=/path/to/python3.11 ..." >&2; \
	    exit 1; \
	fi; \
	if ! $(VENV)/bin/python -c "$$supported" >/dev/null 2>&1; then \
	    "$$python" -m venv --clear $(VENV); \
	fi
	$(INSTALL) torch
	$(INSTALL) -e .
	$(VENV)/bin/python -c "import sys; sys.exit(sys.version_info >= (3, 13))" || \
	    $(VENV)/bin/python -m pip install --quiet --no-deps --target "$$($(SITE))" \
	    --python-version 3.12 --only-binary=:all: dgl==2.1.0
	@touch $@

$(DEVELOPMENT): $(STAMP)
	$(INSTALL) -e ".[test,docs]"
	@touch $@

run: $(STAMP)
	$(VENV)/bin/dglke-distill run

# A file of tests stays on one worker, so that what its tests share is made once. The fast lane
# shares little, and its longest files would be left for one worker at the end.
test: $(DEVELOPMENT)
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

test-fast: $(DEVELOPMENT)
	$(VENV)/bin/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal --durations 5

coverage: $(DEVELOPMENT)
	$(VENV)/bin/python -m pytest --cov --cov-report term:skip-covered --cov-report html

lint: $(DEVELOPMENT)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

docs: $(DEVELOPMENT)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

format: $(DEVELOPMENT)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

dist: $(DEVELOPMENT)
	$(VENV)/bin/nox --session dist readers

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .nox .coverage htmlcov dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
