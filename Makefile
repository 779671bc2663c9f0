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
	@VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv-%/.ready: requirements/%.txt .venv/.ready
	@echo "Installing $* into .venv-$*"
	@test -x .venv-$*/bin/python || $(UV) venv --quiet --python .venv/bin/python .venv-$*
	@VIRTUAL_ENV=$(CURDIR)/.venv-$* $(UV) pip install --quiet --require-hashes -r requirements/$*.txt
	@touch $@

.PHONY: setup
setup: .venv/.ready ## Install everything that the other targets need
	@# The Kubernetes binaries take minutes where they aren't cached yet: beside the rest.
	@$(MAKE) --no-print-directory -j3 .venv-ministack/.ready .venv-sam/.ready $(if $(CLUSTER),,kubernetes)

.PHONY: kubernetes
kubernetes: .venv/.ready ## Find or build the Kubernetes binaries, fetch kubectl and helm
	@.venv/bin/python -m local.kubernetes >/dev/null

# --- What a newcomer runs ---

.PHONY: demo
demo: setup ## Watch a CI job deploy to a real Kubernetes API server (CLUSTER=KUBECONFIG_FILE: to yours)
	@.venv/bin/python -m local.demo $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(PORT),--port $(PORT))

.PHONY: test
test: setup ## Run all tests but the long ones
	@.venv/bin/pytest

.PHONY: test-long
test-long: setup mutate ## Run what takes long: mutation, then the tests marked long (crashes, load, soak)
	@.venv/bin/pytest -m long

.PHONY: kubectl-matrix
kubectl-matrix: setup ## Compare commands through the relay with direct ones (VERSIONS=v34,… TOPICS=…)
	@.venv/bin/python -m tests.kubectl_matrix $(if $(VERSIONS),--versions $(VERSIONS)) $(if $(TOPICS),--topics "$(TOPICS)")

.PHONY: sam-local
sam-local: setup ## Run every event in the SAM CLI's containers (your docker, or Debian's, unpacked aside)
	@.venv/bin/python -m local.sam_local

.PHONY: local
local: setup ## Start the same stack and keep it up until Ctrl-C (EMPTY=1: deployed, nothing installed)
	@.venv/bin/python -m local $(if $(PORT),--port $(PORT)) $(if $(EMPTY),--empty)

.PHONY: play
play: .venv/.ready ## Play the jobs of a pipeline on the stack of `make local` (FILE=.gitlab-ci.yml PROJECT=…)
	@$(if $(FILE),,$(error name FILE=…, a .gitlab-ci.yml))
	@.venv/bin/python -m local.play $(FILE) $(if $(PROJECT),--project $(PROJECT))

.PHONY: invoke
invoke: .venv/.ready .venv-ministack/.ready .venv-sam/.ready ## Run one event through a function (FUNCTION=token_exchange EVENT=FILE)
	@$(if $(and $(FUNCTION),$(EVENT)),,$(error name FUNCTION=…, one of functions/, and EVENT=…, a file of events/))
	@.venv/bin/python -m local.invoke $(FUNCTION) $(EVENT)

# --- What a contributor runs ---

.PHONY: lint
lint: .venv/.ready lint-template ## Check format, style, types, imports and the template
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

.PHONY: lint-template
lint-template: .venv/.ready .venv-sam/.ready
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-central-1 AWS_ACCESS_KEY_ID=none \
	  AWS_SECRET_ACCESS_KEY=none AWS_EC2_METADATA_DISABLED=true \
	  .venv-sam/bin/sam validate --lint --template template.yaml
	@# Circular references show only in what the template is translated to.
	@.venv/bin/python -m local.sam_template template.yaml | .venv/bin/cfn-lint

.PHONY: checkov
checkov: .venv/.ready .venv-checkov/.ready ## Check the template as it is deployed against checkov's rules
	@.venv/bin/python -m local.cloudformation template.yaml >.checkov.json
	@.venv-checkov/bin/checkov --config-file .checkov.yaml --file .checkov.json

.PHONY: commands
commands: .venv/.ready ## Write docs/commands.md from what the command says of itself
	@.venv/bin/python -m local.commands_page

.PHONY: roles
roles: setup ## Take each statement from the deployed roles and see a flow fail; writes docs/security.md
	@.venv/bin/python -m tests.role_proof

.PHONY: mutate
mutate: .venv-mutation/.ready ## Mutate the decision core; fails where its tests kill less than 95 %
	@nice -n 10 .venv-mutation/bin/python tests/mutation.py

.PHONY: bench
bench: .venv/.ready .venv-ministack/.ready .venv-sam/.ready .venv-bench/.ready ## Measure configuration, decisions, exchange, relay
	@.venv/bin/python -m benchmarks.configuration
	@.venv/bin/python -m benchmarks.decisions
	@.venv/bin/python -m benchmarks.exchange
	@.venv/bin/python -m benchmarks.relay --docs docs

.PHONY: simulation
simulation: .venv/.ready ## Count what a large deployment reads and writes, and write docs/cost.md
	@.venv/bin/python -m benchmarks.simulation --docs docs
	@.venv/bin/python -m benchmarks.cost --docs docs

.PHONY: bench-revocation
bench-revocation: setup ## Measure the seconds from a job's end, and from `jobgate revoke`, to refusal
	@.venv/bin/python -m benchmarks.revocation

.PHONY: release
release: .venv/.ready .venv-sam/.ready .venv-release/.ready ## Build dist/ from the last commit: wheel, functions, SBOMs, sums
	@.venv-release/bin/python -m local.release

.PHONY: fmt
fmt: .venv/.ready ## Format the code and mend what can be mended
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

.PHONY: lock
lock: .venv/.ready ## Lock the dependencies anew, with hashes and without addresses
	@compile="$(UV) pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-header"; \
	$$compile --group layer -o shared/requirements.txt; \
	$$compile pyproject.toml --group dev -o requirements/dev.txt; \
	$$compile pyproject.toml -c requirements/dev.txt -o requirements/command.txt; \
	for group in bootstrap checkov go ministack release sam; do \
	  $$compile --group $$group -o requirements/$$group.txt; \
	done; \
	$$compile --group mutation -c requirements/dev.txt -o requirements/mutation.txt; \
	$$compile --group runtime -c requirements/dev.txt -o requirements/runtime.txt; \
	$$compile --group bench -c requirements/dev.txt -o requirements/bench.txt; \
	$$compile --group clients --no-deps -o requirements/clients.txt
