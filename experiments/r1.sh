#!/usr/bin/env bash
# DeepSeek-R1, a command a stage:
#
#   experiments/r1.sh CONFIGS WORKDIR [SOURCE]
#   experiments/r1.sh experiments/mini_r1 runs/mini_r1
#
# CONFIGS holds a config file for each stage that is wanted, and may hold world.py
# that makes the data (of SOURCE, if it takes one) and rewrite.py that makes
# cold-start data of R1-Zero's responses; without them these files are yours to
# bring. WORKDIR is the ROOT that the configs name. A finished stage says so and
# is skipped; killed anywhere, the same command goes on. What each stage took is
# in times.txt.
set -euo pipefail
configs=${1:?usage: experiments/r1.sh CONFIGS WORKDIR [SOURCE]}
work=${2:?usage: experiments/r1.sh CONFIGS WORKDIR [SOURCE]}
python=${PYTHON:-.venv/bin/python}
module=${configs%/}
module=${module//\//.}
mkdir -p "$work"

# timed NAME COMMAND…
timed() {
  echo "== $1"
  local TIMEFORMAT="$1 %R s wall, %U s user, %S s system"
  { time "${@:2}" 2>&3; } 3>&2 2>> "$work/times.txt"
}

# has NAME: whether CONFIGS has this file
has() { [ -e "$configs/$1.py" ]; }

# stage STAGE NAME CONFIG [--config.key=value …]; nothing without that config
stage() {
  if ! has "$3"; then return; fi
  timed "$2" "$python" -m r1jax "$1" \
    --config "$configs/$3.py" --workdir "$work/$2" "${@:4}"
}

# Data, and a base that knows both languages (a real one is downloaded).
if has world; then
  timed data "$python" -m "$module.world" "$work/data" "${@:3}"
fi
stage sft base base

# R1-Zero: pure reinforcement learning.
stage rl zero zero

# R1, Dev1: the cold start. R1-Zero's correct responses are made readable, and
# the base learns from them.
stage reject sample_zero sample_zero
if has rewrite; then
  timed rewrite "$python" -m "$module.rewrite" \
    "$work/sample_zero/records.jsonl" "$work/cold.jsonl"
elif has sample_zero && [ ! -e "$work/cold.jsonl" ]; then
  echo "make $work/sample_zero/records.jsonl readable (R1, B.3.2), write it to" \
    "$work/cold.jsonl, and start this command again" >&2
  exit 2
fi
stage sft dev1 dev1

# Dev2: reasoning-oriented RL, with the reward for one language.
stage rl dev2 dev2

# Dev3: rejection sampling and what is no reasoning, for SFT from the base.
stage reject sample_dev2 sample_dev2
stage sft dev3 dev3

# R1: two reward models, and RL for all scenarios.
stage reward_model helpful helpful
stage reward_model harmless harmless
stage rl r1 r1

# Distillation: small students on R1's responses, and one by RL alone.
stage reject sample_r1 sample_r1
stage sft student_base student_base
students=
for config in "$configs"/distill*.py; do
  name=$(basename "$config" .py)
  if has "$name" && [ "$name" != distill_on_policy ]; then
    stage sft "$name" "$name"
    students+=" $name"
  fi
done
stage rl student_zero student_zero
stage rl distill_on_policy distill_on_policy

# Evaluation: R1's results.html has the others beside it, Zero or else the base
# subtracted.
others=
stage evaluate eval/base evaluate_base
if has evaluate_base; then others="'$work/eval/base',"; fi
for model in base zero dev1 dev2 dev3 student_base$students student_zero; do
  if [ -e "$work/$model/model" ]; then
    stage evaluate "eval/$model" evaluate --config.init="$work/$model/model"
    others+="'$work/eval/$model',"
  fi
done
first=base
if has zero; then first=zero; fi
stage evaluate eval/r1 evaluate --config.init="$work/r1/model" \
  --config.baseline="$work/eval/$first" --config.compare_with="[$others]"

# Whatever these configs have to ask beyond the recipe.
if [ -e "$configs/more.sh" ]; then source "$configs/more.sh"; fi
