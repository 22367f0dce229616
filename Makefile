# A newcomer needs `make serve` and `make test`. Both install what is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEWEST := $(VENV)/newest-litellm
STAMP := $(VENV)/.installed
ARGS ?=
# The tests of a file run in one process, which starts their servers once. tests/conftest.py sets the number of processes
# and the order of the files. ARGS comes last, so that ARGS="-n 0" runs everything in one process, such as for a debugger.
# pytest's rewritten modules are kept, because rewriting them takes longer than importing them.
KEPT := PYTHONDONTWRITEBYTECODE=
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup serve test test-newest check fmt bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Install Turnlog and its pinned dependencies into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Turnlog needs Python 3.11 or newer. Try: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)" >&2; exit 1; }
	@echo "Installing Turnlog and its pinned dependencies into $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

serve: $(STAMP) ## Start PostgreSQL and the API (ARGS="--port 9000" passes options)
	@exec $(BIN)/turnlog serve $(ARGS)

test: $(STAMP) ## Run all tests against a real embedded PostgreSQL (ARGS="-k name" passes options, ARGS="-n 0" uses one process)
	@$(KEPT) $(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-newest: $(STAMP) ## Run the gateway's tests on the newest release of litellm
	@test -x $(NEWEST)/bin/python || $(BIN)/python -m venv --without-pip $(NEWEST)
	@# All other packages come from the first environment.
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > \
		"$$($(NEWEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first.pth"
	@$(BIN)/python -m pip --python $(NEWEST)/bin/python install --quiet --disable-pip-version-check --upgrade litellm
	@$(NEWEST)/bin/python -c 'from importlib.metadata import version; print("litellm", version("litellm"))'
	@$(KEPT) $(NEWEST)/bin/python -m pytest $(PARALLEL) tests/integration/model tests/unit $(ARGS)

check: $(STAMP) ## Check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

fmt: $(STAMP) ## Format, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## Run the benchmarks
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove .venv and all caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
