# `make` prints what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest $(AGAIN)
AGAIN ?=
# Two tests at a time, for most of them wait most of the time; what failed is run again one by one.
TWO := $(if $(AGAIN),,-n 2 --dist worksteal)
SEEDS ?= 30
SECONDS_ABROAD ?= 1200
SECONDS_FUZZ ?= 600
SEED_FUZZ ?=
BY_BOTH := tests/unit/test_documents.py tests/unit/test_rows.py tests/acceptance/test_any_schema.py tests/abroad/test_values.py tests/integration/test_postgres_types.py
GAMES ?=

.DEFAULT_GOAL := help
.PHONY: help setup check docs pictures format test test-python test-pythons test-lowest fuzz test-faults test-abroad test-mutants gameday demo dev bench bench-short bench-postgres bench-pgsync bench-reader constraints release audit clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## a virtual environment in .venv with exact versions (the other targets do it by themselves)

$(READY): pyproject.toml readers/python/pyproject.toml constraints.txt $(wildcard projector/csrc/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "projector needs Python 3.11 or newer: make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/install-venv $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,examples,docs]' --editable readers/python
	@touch $@

check: setup  ## format, lint, types, layers, documents, unit and property tests; no server, under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/sphinx-build -q -W --keep-going -n docs build/docs
	MODEL_EXAMPLES=50 $(PYTEST) $(TWO) tests/unit tests/readers -m "not server and not slow"

docs: setup  ## the documents as a site, in build/docs, strictly; SERVE=1 shows it on port 8000
	$(BIN)/python -m tests.docs_pages
	$(BIN)/sphinx-build -q -W --keep-going -n docs build/docs
	$(if $(SERVE),$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory build/docs)

pictures: setup  ## take the documents' picture of the status page again
	PROJECTOR_TEST_PICTURES=1 $(PYTEST) tests/acceptance/test_status_page.py -k picture

format: setup  ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup  ## the whole suite, on servers that are found or made
	$(BIN)/python -m tests.servers ensure
	$(BIN)/python -c 'from tests.browser import ensure_chromium; ensure_chromium()'
	$(BIN)/python -c 'from tests.tools import ensure_tools; ensure_tools()'
	$(PYTEST) $(TWO) -m "not faults and not gameday and not abroad"

test-python: setup  ## what the compiled core does, once more by the Python that it stands in for
	PROJECTOR_COMPILED=false $(PYTEST) -m "not faults and not gameday and not abroad" $(BY_BOTH)

fuzz: setup  ## the compiled core under sanitizers, on made-up bytes; SECONDS_FUZZ=600, SEED_FUZZ=1 the same ones
	$(BIN)/python -m tests.native --seconds $(SECONDS_FUZZ) $(if $(SEED_FUZZ),--seed $(SEED_FUZZ))

test-pythons: setup  ## the unit tests on every other supported CPython of this machine
	$(BIN)/python -m tests.pythons

test-lowest: setup  ## the unit tests on the oldest versions that pyproject.toml allows
	$(BIN)/python -m tests.pythons --lowest

test-faults: setup  ## a random workload under random faults; takes minutes; SEEDS=30 many times
	$(BIN)/python -m tests.servers ensure
	SEEDS=$(SEEDS) $(PYTEST) -m faults

test-abroad: setup  ## made-up schemas, declarations, accounts and settings; SECONDS_ABROAD=1200, or SEEDS=0-299
	$(BIN)/python -m tests.servers ensure
	SEEDS=$(if $(findstring -,$(SEEDS)),$(SEEDS)) SECONDS_ABROAD=$(SECONDS_ABROAD) $(PYTEST) -s tests/abroad/test_worlds.py -m abroad

test-mutants: setup  ## each decision made wrong must fail a test; ONLY="lane resume" some of them; takes minutes
	$(BIN)/python -m tests.mutants $(ONLY)

gameday: setup  ## each alert's fault and remedy, with a real Prometheus; takes minutes
	$(BIN)/python -m tests.servers ensure
	$(PYTEST) -m gameday -k "$(GAMES)"

demo: setup  ## 5,000 tickets, private servers, the daemon, and what it does; KEEP=1 stays up
	$(BIN)/python -m tests.demo

dev: setup  ## private MySQL and Redis with the helpdesk and 200 tickets, and the lines to export, until Ctrl-C
	@$(BIN)/python -m tests.dev

bench: setup  ## benchmarks, beside a plain baseline and the floor, in one run
	$(BIN)/python -m tests.benchmarks

bench-short: setup  ## a minute of it; fails when the ratio to the floor falls
	$(BIN)/python -m tests.benchmarks --short --flavour mariadb

bench-postgres: setup  ## the daemon on PostgreSQL, beside the server's own tools
	$(BIN)/python -m tests.benchmarks.postgres

bench-pgsync: setup  ## PGSync and the daemon on the same database and changes, and what each gets wrong
	$(BIN)/python -m tests.benchmarks.beside_pgsync

bench-reader: setup  ## the binlog reader alone, beside mysql-replication and mysqlbinlog
	$(BIN)/python -m tests.benchmarks.reader

constraints:  ## resolve the newest versions into constraints.txt
	rm -rf build/resolve
	$(PYTHON) -m venv build/resolve
	build/resolve/bin/python -m pip install --quiet '.[test,examples,bench,docs,release]' ./readers/python
	{ sed -n '/^#/p' constraints.txt; \
	  build/resolve/bin/python -m pip freeze --exclude binlog-projector --exclude binlog-projector-reader; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

release: setup  ## wheels, source archives, SBOM and sums into dist/, checked; ANY=1: of a tree without a tag
	$(BIN)/python -m tests.release $(if $(ANY),--any-tree)

audit:  ## security advisories for the versions in constraints.txt; status 69: the service was not reached
	$(PYTHON) -m venv --clear build/audit
	build/audit/bin/python -m pip install --quiet 'pip-audit>=2.9'
	build/audit/bin/python tests/audit.py

clean:  ## remove what the other targets made, but for the fetched servers
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	rm -rf readers/*/build readers/typescript/dist readers/typescript/node_modules readers/python/src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
