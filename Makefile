# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
DEMO_SEED ?= 0
export GOMP_SPINCOUNT ?= 30000
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE ?= 1
export POSTTRAIN_BENCH_PYTHON ?= $(CURDIR)/$(BENCH)/bin/python

.PHONY: garak-env setup demo test test-slow check format bench-env bench lm-eval study docs clean

setup: $(VENV)/.done
$(VENV)/.done: pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

demo: setup
	$(BIN)/posttrain demo --seed $(DEMO_SEED)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: setup bench-env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile

check: setup
	$(BIN)/ruff format --check src tests benchmarks studies docs
	$(BIN)/ruff check src tests benchmarks studies docs
	$(BIN)/mypy
	$(BIN)/python -m posttrain.jobs.schema --check
	$(BIN)/python docs/readme_methods.py --check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_floors.py

format: setup
	$(BIN)/ruff check --fix src tests benchmarks studies docs
	$(BIN)/ruff format src tests benchmarks studies docs

bench-env: $(BENCH)/.done
$(BENCH)/.done: requirements-bench.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	touch $@

lm-eval: .venv-lm-eval/.done
.venv-lm-eval/.done: requirements-lm-eval.txt
	$(PYTHON) -m venv .venv-lm-eval
	.venv-lm-eval/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-lm-eval/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-lm-eval.txt
	touch $@

GARAK := .venv-garak
garak-env: $(GARAK)/.done
$(GARAK)/.done:
	$(PYTHON) -m venv $(GARAK)
	$(GARAK)/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/$(GARAK) $(GARAK)/bin/uv pip install --quiet garak==0.17.1 torch==2.13.0
	touch $@

bench: setup bench-env
	$(BIN)/python -m benchmarks.compare_trl --method $(or $(METHOD),sft) --size $(or $(SIZE),6m)

study: setup
	$(BIN)/python -m studies.$(subst -,_,$(NAME))

docs: setup
	$(BIN)/python -m posttrain.jobs.schema
	$(BIN)/python docs/readme_methods.py

clean:
	rm -rf runs .pytest_cache .ruff_cache .mypy_cache
