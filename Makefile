# make install | check | test | test-all | test-docs | test-images | docs | smoke | demo [SOURCE=nyc_ems DATA=path] | live | serve
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?= simulated_city
NAME := $(if $(filter simulated_city,$(SOURCE)),demo,$(SOURCE))

.PHONY: install triton services check format test test-all test-docs test-images docs smoke demo live serve clean

install: $(VENV)/installed

# pip notes what it installed; a changed constraint or dependency installs again
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Hailtime needs Python 3.11 to 3.13, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,compare,dev]'
	touch $@

# a real Triton Inference Server in an environment of its own, unless one is on the PATH
triton: install
	$(BIN)/python scripts/serve.py --install-only

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install
	$(BIN)/pytest -n 2 --dist loadfile -m 'not (slow or docs or triton or postgres or spark or browser or prometheus or slurm or gpu or containers)'

# the real servers and the browser that the tests need; where they cannot be installed, says how
services:
	bash scripts/install_test_services.sh

# all but what has a target of its own below: the documentation and the images take minutes each. Two at a time, because
# most wait for servers; those that hold deadlines of milliseconds one by one. COVERAGE=--cov counts the lines of src
TIMED := $(wildcard tests/triton/test_client_*.py) $(addprefix tests/triton/test_,benchmark_faults.py deploy_under_load.py followers.py)
test-all: triton services
	for part in TRITON POSTGRES SPARK BROWSER PROMETHEUS SLURM; do export HAILTIME_REQUIRE_$$part=1; done; \
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not (docs or containers)' --durations=15 $(COVERAGE) $(addprefix --ignore=,$(TIMED)) && \
	$(BIN)/pytest --durations=5 $(TIMED)

# the four images of Dockerfile.cuda, built by buildah on stand-ins for their bases, and tried
test-images: triton services
	HAILTIME_REQUIRE_CONTAINERS=1 $(BIN)/pytest -m containers

# every command and code block of README.md and docs/, typed in a fresh checkout
test-docs: triton
	$(BIN)/pytest -m docs tests/docs

# the pages as a site in site/
docs: install
	$(BIN)/python scripts/settings_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

smoke: triton
	$(BIN)/python scripts/pipeline.py --name smoke experiment=smoke

# the whole line on a simulated city, or on real calls: make demo SOURCE=nyc_ems DATA=../shared/data/nyc_ems
demo: triton
	$(BIN)/python scripts/pipeline.py --name $(NAME) source=$(SOURCE) $(if $(DATA),source.load.folder=$(DATA))

# the story, live: a highway closes, the model retrains itself, a bad one is stopped; under ten minutes on two cores
live: triton
	$(BIN)/python scripts/live.py

serve: triton
	$(BIN)/python scripts/serve.py --repository model_repository

clean:
	rm -rf $(VENV) .triton .peers build dist site *.egg-info
