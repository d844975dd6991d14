# The commands of a contributor. Each sets up what it needs in .venv by itself.
PYTHON ?= python3
ARGS ?=

setup = $(PYTHON) scripts/setup_env.py
in_venv = .venv/bin/python
run_demo = $(in_venv) manage.py demo $(if $(PORT),--port $(PORT)) $(if $(ONCE),--once) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs audit tox bench trace dist mutants setup clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' $(firstword $(MAKEFILE_LIST)) | while read -r name text; do \
		printf '  make %-7s %s\n' "$$name" "$$text"; done

# On a terminal, set -m gives the demo a separate process group, so that Ctrl-C only reaches the demo, not make.
demo:  ## the portal with fake vendors in the browser (ONCE=1: without a browser, PORT=8000, ARGS=...)
	@$(setup) demo
	@if [ -t 0 ]; then set -m; $(run_demo); else exec $(run_demo); fi

test:  ## the common test suite on each database there is (ARGS="tests/test_x.py -k name --require mariadb")
	@$(setup) test
	@exec $(in_venv) -m scripts.run_tests $(ARGS)

lint:  ## style, types, structure, words, missing migrations
	@$(setup) lint test
	$(in_venv) -m ruff check .
	$(in_venv) -m ruff format --check .
	$(in_venv) -m mypy
	.venv/bin/lint-imports
	$(in_venv) -m scripts.structure
	$(in_venv) -m scripts.words
	$(in_venv) manage.py makemigrations --check --dry-run

docs:  ## the documentation, in docs/_build/html
	@$(setup) docs
	$(in_venv) -m sphinx -W --keep-going -q -b html docs docs/_build/html

audit:  ## known vulnerabilities of all that is installed in .venv (ARGS="--ignore-vuln ID")
	@$(setup) demo docs lint test audit
	$(in_venv) scripts/audit.py $(ARGS)

tox:  ## the matrix of Python and Django versions, with the interpreters that are installed
	@$(setup) lint
	$(in_venv) -m tox run-parallel $(ARGS)

bench:  ## the package beside its peers, in ratios (ARGS="intake --rounds 3", ARGS=--help)
	@$(setup) test bench
	@exec $(in_venv) -m benchmarks $(ARGS)

mutants:  ## small changes of the code that a test should notice (ARGS="sso --sample 300 --seed 14")
	@$(setup) test mutants
	@exec $(in_venv) -m mutants $(ARGS)

trace:  ## the functions on the path of one delivery and one dispatch
	@$(setup) test
	@$(in_venv) -m scripts.trace

dist:  ## the sdist and wheel of the last commit, reproducibly (ARGS="--sbom FILE --tag v0.1.0")
	@$(setup) release
	$(in_venv) scripts/build_release.py $(ARGS)

setup:  ## only set up .venv (EXTRAS="test mariadb")
	@$(setup) $(EXTRAS)

clean:  ## remove what the other commands made
	rm -rf .venv .demo .tox .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .mutants build dist docs/_build
