# textnb: `make` alone lists what there is. Every target makes its own environment in .venv first, if none is there.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test fuzz docs bench results kill lint prepare env browser clean distclean

PYTHON ?=
VENV   ?= .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
READY  := $(VENV)/.ready
ARGS   ?=
PEER   ?=
TIME   ?= 180
SEED   ?=
DATA   ?=

help: ## This list
	@echo 'textnb: text models in numbered notebooks. Start with `make demo`.'; echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-15s %s\n", $$1, $$2}'
	@echo; echo 'Variables: PYTHON=python3.12 (which Python makes the environment), ARGS="..." (more arguments for demo, test, docs, bench, results and kill),'
	@echo '           PEER=/path/to/python (make bench: an interpreter with fastai 2.8.12), DATA=folder (make results: the data sets), VENV=folder, TORCH_INDEX=URL (where torch comes from).'

demo: env ## Train, measure and explain a movie-review classifier; writes demo/report.html (about 6 minutes)
	@echo '== textnb demo'
	@$(BIN)/textnb demo $(ARGS)

test: env browser ## All checks: sources in step, style, every notebook and every test
	@echo '== 1/4 Modules exported, notebooks clean, README in step'
	@$(PY) tools/check.py
	@echo '== 2/4 Style'
	@$(MAKE) --no-print-directory style
	@echo '== 3/4 Packages agree with each other'
	@$(PY) -m pip check
	@echo '== 4/4 Notebooks and tests'
	@$(PY) -m pytest $(ARGS)

fuzz: env ## Read files that were changed in odd ways, for minutes (TIME=3600: seconds, SEED=5: the same files again)
	@echo '== Files as nobody wrote them'
	@$(PY) -m tools.fuzz --time $(TIME) $(if $(SEED),--seed $(SEED)) $(ARGS)

docs: env ## Build the docs site in _docs; a warning or a broken link is an error
	@echo '== The docs site'
	@$(PY) -m tools.docs $(ARGS)

bench: env ## Measure speed and memory (PEER=python with fastai to compare); writes bench/results
	@echo '== Measures'
	@$(PY) bench/run.py $(if $(PEER),--peer $(PEER)) $(ARGS)

results: env ## Measure accuracy on public data sets, what is missing of it (DATA=folder with them, ARGS="--list"); writes bench/accuracy.json
	@echo '== Results'
	@$(PY) -m tools.results $(if $(DATA),--data $(DATA)) $(ARGS)
	@$(if $(findstring --list,$(ARGS)),:,$(BIN)/nbdev-test --save --n-workers 0 nbs/10_lessons/09_results.ipynb && $(BIN)/nbdev-clean --fname nbs/10_lessons/09_results.ipynb)

kill: env ## Kill what textnb does 200 times, and look whether anything was lost (ARGS="1000 --scene store")
	@echo '== Kills'
	@$(PY) tools/kill_test.py $(ARGS)

lint: env ## Style of notebooks (chkstyle) and of the other Python files (ruff)
	@$(MAKE) --no-print-directory style

.PHONY: style
style:
	@$(BIN)/chkstyle nbs
	@$(BIN)/ruff check --quiet --output-format concise . && echo '  ruff: clean'

prepare: env ## After editing notebooks: export, clean, README; then commit
	@$(PY) tools/check.py --fix

clean: ## Remove what was built (the environment stays)
	rm -rf _docs _proc _stage _fuzz build dist nbs/nbdev.yml nbs/sidebar.yml .pytest_cache .hypothesis .ruff_cache
	find nbs textnb tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf $(VENV) textnb.egg-info

env: $(READY)

browser: env
	@$(PY) tools/setup_env.py --browser

# Made once; again when what it is made of changes
$(READY): settings.ini setup.py pyproject.toml constraints.txt tools/setup_env.py
	@ok='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; py='$(PYTHON)'; \
	if [ -n "$$py" ] && ! command -v "$$py" >/dev/null; then echo "textnb: PYTHON=$$py: there is no such program." >&2; exit 1; fi; \
	if [ -n "$$py" ] && ! "$$py" -c "$$ok" 2>/dev/null; then \
	  echo "textnb: Python 3.10 to 3.13 is needed, and $$py is $$("$$py" -V 2>&1). Name another: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; fi; \
	if [ -z "$$py" ]; then for p in python3 python3.12 python3.11 python3.13 python3.10 python; do \
	  if "$$p" -c "$$ok" 2>/dev/null; then py=$$p; break; fi; done; fi; \
	if [ -z "$$py" ]; then \
	  echo "textnb: no Python 3.10 to 3.13 was found$$(command -v python3 >/dev/null && echo " (python3 is $$(python3 -V 2>&1))")." >&2; \
	  echo '  Debian, Ubuntu: apt-get install python3 python3-venv   macOS: brew install python@3.12   others: https://www.python.org/downloads' >&2; \
	  echo '  One that is not on the path can be named: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; fi; \
	"$$py" tools/setup_env.py $(VENV)
