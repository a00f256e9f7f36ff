# `make demo` and `make test` each set up all they need. See README.md.
ROOT ?= graphufs-root
PORT ?= 0
PYTEST_ARGS ?=
DEMO_ARGS ?=
BEGAN := $(shell date +%s)
POSTGRESQL := scripts/packages.sh postgresql

# Modules are compiled once, and the assertions of the tests rewritten once, not in each process of each run: as they
# are first used, in environments that are their user's alone (make setup, for a site, compiles all of them).
export PYTHONDONTWRITEBYTECODE :=
demo test test-faults test-hostile setup-dev setup-airflow-dev: export LAZY_BYTECODE := yes

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-cuda setup-earth2studio setup-airflow setup-airflow-dev demo real airflow test \
    test-faults test-hostile test-compose test-isa test-long gpu-wheels up down logs shell-hpc lint docs benchmark lock clean

# Which tests each of the processes takes, tests/conftest.py says.
PYTEST = .venv/bin/python -m pytest -n $(PROCESSES) --dist loadscope --no-loadscope-reorder
# More than the two cores of a small machine: a test that starts servers or processes waits for them.
PROCESSES := 3

help:          ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.job          ## Make .venv with the graphufs command
setup-dev: .venv/.dev      ## The same with the test tools
setup-cuda: .venv-cuda/.done  ## Make .venv-cuda, the graphufs command with CUDA: for GPUs, and to plan for them without one
setup-earth2studio: .venv-earth2studio/.done  ## Make .venv-earth2studio, for the test of an emulator inside Earth2Studio
setup-airflow: .venv-airflow/.done  ## Make .venv-airflow with Airflow, for the control plane
setup-airflow-dev: .venv-airflow/.dev  ## The same with pytest

.venv/.dev: requirements/dev.lock requirements/bootstrap.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh dev
	@touch $@ .venv/.job

# Everything in job-cpu.lock is in dev.lock too, so a .venv made for the tests serves as it is.
.venv/.job: requirements/job-cpu.lock requirements/bootstrap.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh job-cpu
	@touch $@

.venv-cuda/.done: requirements/job-cuda.lock requirements/bootstrap.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh job-cuda
	@touch $@

.venv-earth2studio/.done: requirements/earth2studio.lock requirements/bootstrap.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh earth2studio
	@touch $@

.venv-airflow/.done: requirements/airflow.lock requirements/bootstrap.lock pyproject.toml scripts/setup.sh
	@scripts/setup.sh airflow
	@touch $@

.venv-airflow/.dev: .venv-airflow/.done requirements/airflow-dev.lock
	@scripts/setup.sh airflow-dev
	@touch $@

# What Airflow needs is made by the demo itself, which begins the embedded world beside it.
demo: .venv/.job   ## Take the demo from data to scores through a private Airflow, and check its bar (DEMO_ARGS=--timings)
	@.venv/bin/python scripts/run_demo.py --root $(ROOT) --began $(BEGAN) $(DEMO_ARGS) \
	    --first "make --no-print-directory .venv-airflow/.done" $(if $(filter 0,$(shell id -u)),--first "$(POSTGRESQL)")

# Two months of ERA5 are where a site has them; DATA names the folder, SEASON the store in it.
DATA ?= ../shared/data
SEASON ?= era5_2025-12_2026-01_2p5deg.zarr.zip
real: .venv/.job           ## Train on 55 days of real ERA5 and score the week after (DATA=FOLDER: where they are)
	@[ -e "$(DATA)/$(SEASON)" ] || { echo "make real: there is no $(DATA)/$(SEASON), two months of ERA5 in" \
	    "WeatherBench2's layout; give the folder that holds it, make real DATA=FOLDER" >&2; exit 2; }
	@.venv/bin/graphufs run era5_season --root $(ROOT) --set 'data.source.url=$(DATA)/$(SEASON)'

airflow: .venv/.job .venv-airflow/.done  ## Start the same Airflow and leave it up until Ctrl-C (on a port of yours: PORT=8080)
	@[ "$$(id -u)" != 0 ] || $(POSTGRESQL)
	@.venv/bin/python scripts/airflow_here.py --root $(ROOT) --port $(PORT)

test: .venv/.dev .venv-airflow/.dev  ## Run the tests
	@scripts/packages.sh slurm postgresql browser
	@$(PYTEST) $(PYTEST_ARGS)

test-faults: PROCESSES := 4  # what they start computes little and waits long
test-faults: .venv/.dev .venv-airflow/.dev  ## A training from the browser to the registry, and the most telling faults
	@scripts/packages.sh slurm postgresql browser
	@$(PYTEST) -m 'faults and not long' tests/airflow tests/slurm $(PYTEST_ARGS)

test-hostile: .venv/.dev   ## Bad input of every class, listed and made at random: one error line each, soon
	@$(PYTEST) -m 'not long and not compose' tests/hostile $(PYTEST_ARGS)

test-long: .venv/.dev .venv-airflow/.dev  ## What a release needs besides: all other faults, test-hostile, p0 at full size, test-isa
	@scripts/packages.sh slurm postgresql browser
	@$(PYTEST) -m '(long or hostile) and not compose' $(PYTEST_ARGS)
	@if docker info >/dev/null 2>&1; then $(MAKE) --no-print-directory test-compose PYTEST_ARGS="-m '' $(PYTEST_ARGS)"; \
	else echo "no Docker engine answers: the death of every service in containers is not tested" >&2; fi
	@$(MAKE) --no-print-directory test-isa

test-isa: .venv/.dev       ## The tests that compute, with fewer instruction sets and cores (ISAS="AVX2" CORES="1")
	@scripts/test_isa.sh $(PYTEST_ARGS)

up:            ## Start docker-compose.yml: Airflow and a small Slurm cluster in containers
	@scripts/compose.sh up

down:          ## Stop it; what it keeps, stays (docker compose down -v throws that away too)
	@scripts/compose.sh down

logs:          ## Follow its logs
	@scripts/compose.sh logs

shell-hpc:     ## A shell on its login node
	@scripts/compose.sh shell-hpc

test-compose: .venv/.dev   ## Build, start and use docker-compose.yml; GRAPHUFS_NO_ENGINE=1: well without an engine
	@.venv/bin/python -m pytest -m 'not long' -p no:xdist tests/compose $(PYTEST_ARGS)

lint: .venv/.dev           ## Check style, types, the order of imports, and the picture of the packages
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo
	@.venv/bin/python scripts/architecture.py --check

docs: .venv/.dev           ## Build the documentation site, site/index.html; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build

benchmark: .venv/.dev      ## Measure: the demo's bar with three seeds, and what else lies under benchmarks/
	@.venv/bin/python benchmarks/demo.py --root $(ROOT) --seeds 0 1 2

gpu-wheels:    ## Fetch the wheels that scripts/gpu_check.sh needs on a machine with a card and no package index
	@scripts/gpu_wheels.sh

lock:                      ## Compile requirements/*.lock from pyproject.toml
	@scripts/lock.sh

clean:                     ## Remove the environments; what lies under $(ROOT) stays
	rm -rf .venv .venv-airflow .venv-cuda .venv-earth2studio .tools
