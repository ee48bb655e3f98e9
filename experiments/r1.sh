#!/usr/bin/env bash
# The recipe of DeepSeek-R1, one command for each stage:
#
#   experiments/r1.sh CONFIGS WORKDIR [SOURCE]
#   experiments/r1.sh experiments/mini_r1 runs/mini_r1
#
# CONFIGS is a folder with one config file for each stage that is to be run. It
# may contain make_data.py, which writes the data (from SOURCE, if needed), and
# rewrite.py, which makes the cold-start data from responses of R1-Zero. Without
# them you provide these files. WORKDIR is the ROOT of the configs. A finished
# stage is skipped; after an interruption the same command continues.
# WORKDIR/times.txt has the time that each command took.
set -euo pipefail
configs=${1:?usage: experiments/r1.sh CONFIGS WORKDIR [SOURCE]}
work=${2:?usage: experiments/r1.sh CONFIGS WORKDIR [SOURCE]}
python=${PYTHON:-.venv/bin/python}
module=${configs%/}
module=${module//\//.}
mkdir -p "$work"

# timed NAME COMMAND…: runs the command and writes its time to times.txt.
timed() {
  echo "== $1"
  local TIMEFORMAT="$1 %R s wall, %U s user, %S s system"
  { time "${@:2}" 2>&3; } 3>&2 2>> "$work/times.txt"
}

# has NAME: whether CONFIGS has this file.
has() { [ -e "$configs/$1.py" ]; }

# stage STAGE NAME CONFIG [--config.key=value …]: runs a stage in WORKDIR/NAME,
# or does nothing if CONFIGS does not have the config.
stage() {
  if ! has "$3"; then return; fi
  timed "$2" "$python" -m r1jax "$1" \
    --config "$configs/$3.py" --workdir "$work/$2" "${@:4}"
}

# Data and base model.
if has make_data; then
  timed data "$python" -m "$module.make_data" "$work/data" "${@:3}"
fi
stage sft base base

# R1-Zero: RL from the base model.
stage rl zero zero

# Dev1: cold start. Correct responses of R1-Zero are rewritten for readability,
# and the base model is fine-tuned on them.
stage reject sample_zero sample_zero
if has rewrite; then
  timed rewrite "$python" -m "$module.rewrite" \
    "$work/sample_zero/records.jsonl" "$work/cold_start.jsonl"
elif has sample_zero && [ ! -e "$work/cold_start.jsonl" ]; then
  echo "rewrite $work/sample_zero/records.jsonl for readability (R1, B.3.2)," \
    "as $work/cold_start.jsonl, and run this command again" >&2
  exit 2
fi
stage sft dev1 dev1

# Dev2: reasoning RL with the language consistency reward.
stage rl dev2 dev2

# Dev3: rejection sampling, mixed with records that need no reasoning; SFT of
# the base model on both.
stage reject sample_dev2 sample_dev2
stage sft dev3 dev3

# R1: two reward models, and RL for all scenarios.
stage reward_model helpful helpful
stage reward_model harmless harmless
stage rl r1 r1

# Distillation: small students by SFT on responses of R1, and one by RL alone.
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

# Evaluation. The results of R1 are compared with those of all other models; the
# baseline of its paired differences is R1-Zero, or else the base model.
others=
stage evaluate eval/base evaluate_base
if has evaluate_base; then others="'$work/eval/base',"; fi
for model in base zero dev1 dev2 dev3 student_base$students student_zero; do
  if [ -e "$work/$model/model" ]; then
    stage evaluate "eval/$model" evaluate --config.init="$work/$model/model"
    others+="'$work/eval/$model',"
  fi
done
baseline=base
if has zero; then baseline=zero; fi
stage evaluate eval/r1 evaluate --config.init="$work/r1/model" \
  --config.baseline="$work/eval/$baseline" --config.compare_with="[$others]"

# Runs beyond the recipe.
if [ -e "$configs/more.sh" ]; then source "$configs/more.sh"; fi
