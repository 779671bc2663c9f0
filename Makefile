# Jobgate's targets. `make help` lists them. Only Python >= 3.11, git and GNU make are assumed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
UV := .venv/bin/uv

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Set-up: three virtual environments, since the pins of ministack and of the SAM CLI contradict ours ---

.venv/.ready: requirements/bootstrap.txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Jobgate needs Python >= 3.11; name one with PYTHON=…"; exit 1; }
	@echo "Installing Python packages into .venv"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

.venv-%/.ready: requirements/%.txt .venv/.ready
	@echo "Installing $* into .venv-$*"
	@test -x .venv-$*/bin/python || $(UV) venv --quiet --python .venv/bin/python .venv-$*
	@VIRTUAL_ENV=$(CURDIR)/.venv-$* $(UV) pip install --quiet --require-hashes -r requirements/$*.txt
	@touch $@

.PHONY: setup
setup: .venv/.ready .venv-ministack/.ready .venv-sam/.ready ## Install everything that the other targets need
