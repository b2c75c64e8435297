# What a newcomer needs, with Python 3.11 or newer and make; "make" alone lists it.
#
# Variables:
#   PYTHON            the interpreter that the environment is made with (python3)
#   TORCH_INDEX_URL   an index for torch alone; on Linux that of its CPU builds, because its default wheel brings
#                     gigabytes of CUDA. Empty for none. A wheel of torch in a folder that pip knows goes before it.
#                     Other indexes, certificates and wheel folders: pip's own settings (pip.conf, PIP_...) count.
#   PYTEST            more arguments for pytest, such as PYTEST="-k checkpoint -x"

PYTHON ?= python3
TORCH_INDEX_URL ?= $(if $(filter Linux,$(shell uname -s)),https://download.pytorch.org/whl/cpu)
PYTEST ?=

venv := .venv
python := $(venv)/bin/python
pip_install := $(python) -m pip install --disable-pip-version-check --constraint container/constraints.txt
versions := pyproject.toml container/constraints.txt
# Tests of one file share what is dear to make (an image, a trained policy), so a file stays on one worker.
# Files as they come: with the default order those with few tests, which are the slow ones, would be the last.
pytest := $(python) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo setup test check lint docs bench base-image clean

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(venv)/.installed-rl ## the main job: collect, train, evaluate; needs no Docker
	$(venv)/bin/launcher demo

setup: $(venv)/.installed-dev ## environment with everything for development, and the commit hook
	@if [ -d .git ] && [ -z "$$(git config core.hooksPath)" ]; then git config core.hooksPath .ci/hooks; fi

test: $(venv)/.installed-dev ## all tests; those that need Docker run when an engine answers
	.ci/with-host-settings $(pytest) $(PYTEST)

check: lint ## lint, then the tests that take seconds and need no Docker
	$(pytest) --quiet -m "not docker and not slow" $(PYTEST)

lint: $(venv)/.installed-dev ## ruff and mypy
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

docs: $(venv)/.installed-dev ## the pages as a site, in build/site/html
	$(python) .ci/make_site.py

bench: $(venv)/.installed-dev ## measure against the floor of this machine
	$(python) benchmarks/run.py

base-image: ## a local stand-in for the public base image, for machines without a registry
	container/make-base-image

clean: ## remove the environment and caches; jobs stay
	rm -rf $(venv) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# An environment that was not finished has no such file and is made anew.
$(venv)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is missing or older than 3.11. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) has no venv module. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(venv)
	@touch $@

# torch by itself, so that its index serves nothing else; with pip's progress bar, because it is large.
$(venv)/.installed-torch: $(venv)/.made container/constraints.txt
	@$(pip_install) --no-index --no-deps torch >/dev/null 2>&1 \
	    || $(pip_install) $(if $(TORCH_INDEX_URL),--extra-index-url "$(TORCH_INDEX_URL)") torch
	@touch $@

$(venv)/.installed-rl: $(venv)/.installed-torch $(versions)
	$(pip_install) --quiet --editable '.[rl]'
	@touch $@

$(venv)/.installed-dev: $(venv)/.installed-torch $(versions)
	$(pip_install) --quiet --editable '.[rl,dev]'
	@touch $@ $(venv)/.installed-rl
