# Everything a developer does here. `make` alone says what there is.
# A fresh machine is a Debian with make, git and Python 3.11 or later, and one is root there or has sudo: the rest is installed on demand.
# Without either, whatever is missing is named. Only what runs test hosts (demo, test, unit-hosts, molecule, bench) needs root itself.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

root := $(CURDIR)
build := $(root)/.build
venv := $(root)/.venv
# A checkout's own tools come first. `sudo` drops the environment, so that what needs root gets this explicitly.
export PATH := $(venv)/bin:$(PATH)
enter := tests/hosts/enter env PATH="$(PATH)"
# The python that makes the environment.
PYTHON ?= python3
# How molecule is to run a scenario: test, or create, converge, verify, destroy, …
DO ?= test
# What takes longest begins first, so that nothing long is left alone at the end.
long_scenarios := frontends master operations
scenarios := $(sort $(notdir $(patsubst %/molecule.yml,%,$(wildcard molecule/*/molecule.yml))))

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^# ==/ {print substr($$0, 6)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

# == The embedded network
.PHONY: demo demo-down demo-status demo-login
demo: venv hosts ## Provision a master and two mirrors from nothing, and watch cron carry a change (DEMO_TREE=DIR)
	@$(enter) DEMO_TREE="$(DEMO_TREE)" python3 tests/demo/demo.py up

demo-status: ## Show what each mirror of the demo holds
	@$(enter) python3 tests/demo/demo.py status

demo-login: ## Log in to a host of the demo (HOST=mirror1)
	@$(enter) TERM="$(TERM)" python3 tests/demo/demo.py login "$(HOST)"

demo-down: ## Remove the demo's hosts and network
	@$(enter) python3 tests/demo/demo.py down
	@tests/hosts/leave 2>/dev/null || true

# == Tests
.PHONY: test check lint types unit sanity unit-hosts molecule bench bench-trees soak
test: venv hosts ## Run everything: check, sanity, the engine on the oldest and newest release, all scenarios (JOBS=2)
	@$(venv)/bin/python tests/tools/run_steps.py --jobs "$(or $(JOBS),$(shell echo $$(($$(nproc) + 1))))" \
	    $(addprefix molecule-,$(long_scenarios)) unit-hosts $(addprefix molecule-,$(filter-out $(long_scenarios),$(scenarios))) check sanity

check: lint types unit ## Lint, types and unit tests: what to run before each commit

lint: venv
	ruff check .
	yamllint --strict .
	ansible-lint --offline --strict
	shellcheck --severity=warning $$(git ls-files -z --cached --others --exclude-standard -- molecule tests .ci | xargs -0 grep --files-with-matches --max-count=1 '^#!.*sh$$')
	antsibull-changelog lint
	cd .collections/ansible_collections/mirrornet/rsync && antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .

types: venv
	mypy --strict

unit: venv
	pytest -n auto -q

sanity: venv ## Run ansible-test's sanity tests on a copy of the files that git knows
	tests/tools/sanity

unit-hosts: packages-hosts ## Run the engine's unit tests on the oldest and newest Debian, with their own Python and rsync (SUITES=bookworm)
	@$(enter) tests/tools/unit_hosts $(SUITES)

molecule: venv hosts ## Run one scenario (SCENARIO=default DO=test|converge|verify|destroy)
	@test -f "molecule/$(SCENARIO)/molecule.yml" || { echo "which scenario? make molecule SCENARIO=, one of: $(scenarios)" >&2; exit 2; }
	@$(MAKE) "molecule-$(SCENARIO)"

# Each scenario has its own temporary directory, so that several can run at the same time.
.PHONY: $(addprefix molecule-,$(scenarios))
$(addprefix molecule-,$(scenarios)): molecule-%: venv hosts
	@$(enter) MOLECULE_EPHEMERAL_DIRECTORY="$(build)/molecule/$*" MOLECULE_COMMAND_BORDERS=false \
	    flock --close /run/lock/mirrornet-molecule-$* molecule $(DO) --scenario-name "$*"

bench: venv hosts ## Measure: a pull beside the bare rsync (BENCH_FILES=10000), bench-trees, and a first and a second site.yml run
	@PYTHONPATH=tests/unit:plugins/module_utils python3 tests/benchmark/pull.py
	@$(MAKE) bench-trees
	@$(enter) python3 tests/benchmark/bench.py

# The other variables: see the beginning of tests/benchmark/trees.py. BENCH_PICTURE=docs/images/bench.svg draws for the documentation.
bench-trees: venv ## Measure whole trees beside plain rsync (BENCH_TREES="10000 100000"; 1000000 takes 15 GB and most of an hour)
	@PYTHONPATH=tests:plugins/module_utils python3 -m benchmark.trees

soak: venv ## Kill runs by the hundred (SOAK_KILLS=200) and start them together 60 times: about 20 minutes
	PYTHONPATH=tests/unit pytest -n auto -q -p conftest tests/soak
	EVERY_STEP=1 pytest -n auto -q -k "killed" tests/unit/test_change.py tests/unit/test_fast_bad_days.py tests/unit/test_fast_signed.py

# == Parts
.PHONY: packages packages-check packages-hosts venv hosts build docs clean distclean
packages: ## Install what this machine lacks (Debian; as root or through sudo)
	@tests/tools/packages check hosts

packages-check packages-hosts: packages-%:
	@tests/tools/packages $*

venv: packages-check $(venv)/installed ## Make .venv, with the tools of tests/requirements.txt

$(venv)/installed: tests/requirements.txt
	@tests/tools/make_venv "$(PYTHON)" "$(venv)"

hosts: packages-hosts ## Make the images of the test hosts that are missing
	@tests/hosts/images

build: venv ## Make the tarball that Galaxy takes
	ansible-galaxy collection build --force --output-path "$(build)"

docs: venv ## Render the tables of variables in the roles' READMEs
	$(venv)/bin/python tests/tools/render_docs.py

clean: ## Remove what was made here, but for .venv and the images
	rm -rf .build .mypy_cache .pytest_cache .ruff_cache .hypothesis .ansible tests/output

distclean: clean ## Remove everything that was made, images included
	@$(enter) python3 tests/demo/demo.py down
	@tests/hosts/images --remove
	@tests/hosts/leave
	rm -rf .venv
