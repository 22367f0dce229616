# `make serve` and `make test` are all a newcomer needs; both make the set-up where it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEWEST := $(VENV)/newest-litellm
STAMP := $(VENV)/.installed
ARGS ?=
# A file's tests stay in one process, which starts their servers once; tests/conftest.py says how many processes there are
# and which files come first. ARGS comes after, so that ARGS="-n 0" runs everything in one process, under a debugger too.
# Rewriting the tests' assertions takes longer than importing the tests, so the rewritten modules are kept.
KEPT := PYTHONDONTWRITEBYTECODE=
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup serve test test-newest check fmt bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with .venv/bin/turnlog and the pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Turnlog needs Python 3.11 or newer; try: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)" >&2; exit 1; }
	@echo "Installing Turnlog and its pinned dependencies into $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

serve: $(STAMP) ## Start PostgreSQL and the API (ARGS="--port 9000" passes options)
	@exec $(BIN)/turnlog serve $(ARGS)

test: $(STAMP) ## Run all tests against a real embedded PostgreSQL (ARGS="-k name" passes options, ARGS="-n 0" takes one process)
	@$(KEPT) $(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-newest: $(STAMP) ## Run the gateway's tests on the newest release of litellm
	@test -x $(NEWEST)/bin/python || $(BIN)/python -m venv --without-pip $(NEWEST)
	@# What the newest release does not need otherwise it finds in the first environment.
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > \
		"$$($(NEWEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first.pth"
	@$(BIN)/python -m pip --python $(NEWEST)/bin/python install --quiet --disable-pip-version-check --upgrade litellm
	@$(NEWEST)/bin/python -c 'from importlib.metadata import version; print("litellm", version("litellm"))'
	@$(KEPT) $(NEWEST)/bin/python -m pytest $(PARALLEL) tests/integration/gateway tests/unit $(ARGS)

check: $(STAMP) ## Format check, lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

fmt: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Run the benchmarks
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the set-up and all caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
