#!/usr/bin/env bash
# Creates TPU VMs, installs a commit on every worker, runs a stage there.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: launch_tpu.sh COMMAND --name NAME --zone ZONE [options] [-- ARGUMENTS]

commands, in the order of their use:
  create   asks for a TPU (a queued resource); status says when it is ACTIVE
  setup    uploads a commit to every worker and installs it
  run      starts `python -m r1jax ARGUMENTS` on every worker, under tmux;
           the same --run-id again goes on from the last checkpoint
  status   the state of the TPU, and of the run on each worker
  logs     follows the log of one worker
  delete   gives the TPU back

options:
  --name NAME         of the TPU
  --zone ZONE         such as us-central2-b
  --project PROJECT   default: gcloud's own
  --type TYPE         create: such as v4-32 or v5litepod-256
  --runtime VERSION   create: such as tpu-ubuntu2204-base
  --spot, --reserved  create: kind of capacity, default: on demand
  --valid-for TIME    create: give up after, such as 6h
  --commit COMMIT     setup: what to upload, default: HEAD
  --env-file FILE     setup: NAME=value lines that runs see, HF_TOKEN for one;
                      it lies on the workers readable by its owner alone
  --run-id ID         run, status, logs: default: the name; ~/runs/ID on each
                      worker holds its log and exit code
  --worker N          logs: default: 0
  --dry-run           prints the commands and calls nothing

`run` adds --workdir ~/runs/ID where ARGUMENTS have none. On more than one host
give one that every worker sees and that outlives the TPU, a mounted bucket.

example:
  launch_tpu.sh create --name r1 --zone us-central2-b --type v4-32 \
    --runtime tpu-ubuntu2204-base --spot
  launch_tpu.sh setup --name r1 --zone us-central2-b
  launch_tpu.sh run --name r1 --zone us-central2-b -- \
    rl --config experiments/zero_paper.py --config.init=Qwen/Qwen2.5-7B
EOF
}

fail() {
  echo "launch_tpu.sh: $1" >&2
  exit 2
}

call() {
  if [[ $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_workers() { # WORKERS SCRIPT
  call gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" \
    --worker="$1" --strict-host-key-checking=no --command="$2"
}

to_workers() { # FILE PLACE
  call gcloud compute tpus tpu-vm scp "$1" "$name:$2" "${where[@]}" \
    --worker=all --strict-host-key-checking=no
}

create() {
  [[ $type && $runtime ]] || fail 'create needs --type and --runtime'
  call gcloud compute tpus queued-resources create "$name" "${where[@]}" \
    --node-id="$name" --accelerator-type="$type" \
    --runtime-version="$runtime" --labels="run-id=$run_id" "${capacity[@]}"
}

setup() {
  local sha archive
  sha=$(git -C "$here" rev-parse --verify --quiet "$commit^{commit}") ||
    fail "there is no commit $commit"
  [[ -z $env_file || -f $env_file ]] || fail "there is no file $env_file"
  archive=${TMPDIR:-/tmp}/r1jax-$sha.tar.gz
  call git -C "$here" archive --format=tar.gz --output="$archive" "$sha"
  to_workers "$archive" r1jax.tar.gz
  if [[ $env_file ]]; then
    on_workers all 'touch ~/.r1jax.env && chmod 600 ~/.r1jax.env'
    to_workers "$env_file" .r1jax.env
  fi
  on_workers all "set -eu
command -v tmux > /dev/null && python3.11 -m ensurepip --version > /dev/null || {
  sudo apt-get update && sudo apt-get install -y tmux python3.11-venv
}
mkdir -p ~/r1jax-$sha
tar -xzf ~/r1jax.tar.gz -C ~/r1jax-$sha
cd ~/r1jax-$sha
python3.11 -m venv .venv
.venv/bin/python -m pip install --quiet -r requirements.lock 'jax[tpu]'
.venv/bin/python -m pip install --quiet --no-deps -e .
ln -sfn ~/r1jax-$sha ~/r1jax"
}

run() {
  local job script
  ((${#arguments[@]})) || fail 'run needs the arguments of a stage after --'
  job=$(printf '%q ' .venv/bin/python -m r1jax "${arguments[@]}")
  [[ " ${arguments[*]}" == *' --workdir'* ]] || job+="--workdir ~/runs/$run_id"
  script="(
cd ~/r1jax || exit
if [ -f ~/.r1jax.env ]; then set -a; . ~/.r1jax.env; set +a; fi
$job
) >> ~/runs/$run_id/log 2>&1
echo \$? > ~/runs/$run_id/exit_code"
  on_workers all "set -eu
mkdir -p ~/runs/$run_id
if tmux has-session -t =$run_id 2> /dev/null; then
  echo $run_id still runs on \$(hostname) >&2
  exit 1
fi
rm -f ~/runs/$run_id/exit_code
printf '%s\n' $(printf '%q' "$script") > ~/runs/$run_id/job.sh
tmux new-session -d -s $run_id bash ~/runs/$run_id/job.sh"
}

status() {
  local state
  state=$(call gcloud compute tpus queued-resources describe "$name" \
    "${where[@]}" --format='value(state.state)')
  echo "$state"
  [[ $dry_run || $state == ACTIVE ]] || return 0
  on_workers all "if tmux has-session -t =$run_id 2> /dev/null; then
  state=running
elif [ -f ~/runs/$run_id/exit_code ]; then
  state=\"exited with \$(cat ~/runs/$run_id/exit_code)\"
else
  state=absent
fi
echo \"\$(hostname): $run_id \$state\""
}

logs() {
  on_workers "$worker" "tail -n 100 -f ~/runs/$run_id/log"
}

delete() {
  call gcloud compute tpus queued-resources delete "$name" "${where[@]}" \
    --force --async --quiet
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name='' zone='' project='' type='' runtime='' env_file='' run_id='' dry_run=''
commit=HEAD worker=0 capacity=() arguments=()

command=${1:---help}
case $command in
  -h | --help)
    usage
    exit
    ;;
  create | setup | run | status | logs | delete) shift ;;
  *) fail "there is no command $command: see --help" ;;
esac
while (($#)); do
  option=$1
  case $option in
    --dry-run) dry_run=yes && shift && continue ;;
    --spot | --reserved) capacity+=("$option") && shift && continue ;;
    -h | --help) usage && exit ;;
    --) shift && arguments=("$@") && break ;;
    --*=*) value=${option#*=} option=${option%%=*} && shift ;;
    *) (($# > 1)) || fail "$option needs a value, or is unknown: see --help"
      value=$2 && shift 2 ;;
  esac
  case $option in
    --name) name=$value ;;
    --zone) zone=$value ;;
    --project) project=$value ;;
    --type) type=$value ;;
    --runtime) runtime=$value ;;
    --valid-for) capacity+=("--valid-until-duration=$value") ;;
    --commit) commit=$value ;;
    --env-file) env_file=$value ;;
    --run-id) run_id=$value ;;
    --worker) worker=$value ;;
    *) fail "unknown option $option: see --help" ;;
  esac
done
[[ $name && $zone ]] || fail "$command needs --name and --zone"
run_id=${run_id:-$name}
[[ $run_id =~ ^[a-z][a-z0-9-]*$ ]] ||
  fail "the run id $run_id may have a-z, 0-9 and - alone, and begins with a-z"
where=("--zone=$zone")
[[ -z $project ]] || where+=("--project=$project")
[[ $dry_run ]] || command -v gcloud > /dev/null ||
  fail 'gcloud is not on the PATH: install the Google Cloud CLI'
"$command"
