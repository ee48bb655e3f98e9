#!/usr/bin/env bash
# Measures r1jax and TRL on one GPU, in at most 10 minutes and without a network:
#
#   experiments/benchmarks/gpu.sh OUT [WHEELS]
#
# from the root of the repository, with a python3 that has jax for the GPU, flax,
# optax, orbax-checkpoint, torch and transformers. WHEELS is a folder of wheels
# for what it lacks (see README.md). OUT gets results.json, table.md and the
# output of each program.
set -euo pipefail
out=$1 wheels=${2:-}
if [[ $wheels ]]; then
  python3 -m pip install --quiet --no-index --no-deps --no-compile \
    --target /tmp/gpu_site "$wheels"/*.whl
  export PYTHONPATH=/tmp/gpu_site:$PWD
fi
export PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_MEM_FRACTION=0.92
exec python3 -m experiments.benchmarks.gpu "$out"
