#!/usr/bin/env bash
# Runs a stage on TPU VMs, from their creation to their deletion. On every host
# a supervisor restarts the stage; `run --local` is that supervisor alone.
# shellcheck disable=SC2317,SC2329 # "tpu_$command" calls the commands.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch_tpu.sh COMMAND --name NAME --zone ZONE [options] [-- ARGUMENTS]
       launch_tpu.sh run --local N [options] -- ARGUMENTS

commands, in the order of their use:
  create   requests a TPU (a queued resource)
  wait     waits until it is ACTIVE and prints its states
  setup    uploads a commit to every worker and installs it
  run      starts `python -m r1jax ARGUMENTS` on every worker, under tmux and
           a supervisor; the same --run-id resumes from the last checkpoint
  status   prints the state of the TPU, and of the run on each worker
  logs     follows the log of one worker
  stop     lets the run write a checkpoint and end; kills it after --grace
  delete   deletes the TPU
  retry    for preemptible capacity: create, wait, setup and run, again whenever
           the TPU is lost, until the run ends with 0 or 2; if retry itself is
           killed, the same command continues

options:
  --name NAME         name of the TPU
  --zone ZONE         for example us-central2-b
  --project PROJECT   default: that of gcloud
  --slices N          slices of the TPU, default: 1; the same for every command
  --internal-ip       reaches the workers by their internal addresses
  --iap               reaches the workers through IAP, without any address
  --track TRACK       alpha or beta: that of gcloud, for options that are not in
                      its main track yet, such as --iap and --reservation
  --timeout S         seconds for a call of gcloud, default: 300; setup may take
                      12 times as long
  --type TYPE         create: for example v4-32 or v5litepod-256
  --runtime VERSION   create: for example tpu-ubuntu2204-base
  --spot, --reserved, --best-effort
                      create: kind of capacity, default: on demand
  --valid-for TIME    create: the request expires after, for example, 6h
  --labels K=V,…      create: labels in addition to run-id=ID
  --network, --subnetwork, --internal-ips, --service-account, --scopes,
  --tags, --metadata, --data-disk, --reservation, --provisioning-model
                      create: passed to gcloud; --internal-ips has no value
  --autodown MINUTES  create: a timer on each worker deletes the TPU when no run
                      was alive for so long, whatever becomes of this machine
  --wait              create: also waits
  --commit COMMIT     setup: the commit to upload, default: HEAD
  --env-file FILE     setup, run --local: lines NAME=value for the environment
                      of runs, such as HF_TOKEN. A value is taken as it is, with
                      its quotes, to the end of the line (LF or CR LF); on the
                      workers only the owner can read the file
  --prepare COMMAND   setup: a shell command that each worker runs at the end of
                      every setup, for example to mount a disk
  --run-id ID         default: the name; ~/runs/ID on each worker has the log
                      and the exit code
  --worker N          logs: default: 0
  --slice N           logs: default: 0
  --libtpu-args ARGS  run: flags for LIBTPU_INIT_ARGS, or one of
                      gathers  overlaps all-gathers with computation (FSDP)
                      slices   overlaps all-reduces between slices
                      vmem     more VMEM for a fusion on v6e
  --retries K         run: restarts; retry: creations and starts; default: 100
  --grace S           run, stop: seconds for the checkpoint, default: 300
  --give-back         retry: deletes the TPU when the run has ended, with any
                      code, was stopped or is given up
  --local N           run: N processes on this machine, without gcloud
  --logs DIR          run --local: default: runs/ID, where ID is the stage
  --dry-run           prints the commands and calls nothing

The supervisor ends with 0 if all processes do, with 2 (a user error) if one
does, with 75 after SIGTERM. In all other cases it stops the remaining processes
and restarts all; it gives up after 5 attempts in a row (10 on a pod) that ended
without a new step, or 20 that ended with 75, which may be temporary trouble.
All signals that ask it to end are one request; only Ctrl-C, 2 seconds or more
after the first of them, kills the processes before --grace.

Without --workdir in ARGUMENTS, the folder of the logs is the work directory. On
several hosts, and for retry, give a folder that all workers share and that
outlives the TPU. gcloud reaches several workers with keys from the ssh-agent:
`ssh-add ~/.ssh/google_compute_engine`.
END
}

fail() {
  say "$1"
  exit 2
}

say() {
  echo "launch_tpu.sh: $1" >&2
}

call() {
  if [[ $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

now() {
  date +%s
}

# Sleeps, but a signal is handled at once. The lock (9) is not inherited.
rest() {
  sleep "$1" 9>&- &
  wait "$!" || true
}

# Calls gcloud, and ends it after `limit` seconds (0: never). A terminal remains
# usable for its questions, except by retry.
tpus() {
  local gcloud=(gcloud ${track:+"$track"} compute tpus "$@" "${where[@]}")
  if [[ $dry_run || $limit == 0 ]] || ! command -v timeout > /dev/null; then
    call "${gcloud[@]}"
  elif [[ -t 0 && $command != retry ]]; then
    timeout --foreground --kill-after=10 "$limit" "${gcloud[@]}"
  else
    # Ctrl-C must end this shell too: the shell that waits for a command which
    # does not end by SIGINT takes no notice of it.
    (
      trap 'kill "$!"; trap - INT; kill -INT "$BASHPID"' INT
      timeout --kill-after=10 "$limit" "${gcloud[@]}" < /dev/null &
      wait "$!"
    )
  fi
}

ssh_to() { # NODE WORKERS SCRIPT
  tpus tpu-vm ssh "$1" --worker="$2" --command="$3" "${reach[@]}" \
    "${keep_alive[@]/#/--ssh-flag=}"
}

copy_to() { # NODE FILE TARGET
  tpus tpu-vm scp "$2" "$1:$3" --worker=all "${reach[@]}" \
    "${keep_alive[@]/#/--scp-flag=}"
}

# Calls FUNCTION NODE ARGUMENTS for all nodes in parallel; fails if one fails.
on_nodes() { # FUNCTION ARGUMENTS
  local node pid pids=() result=0
  for node in "${nodes[@]}"; do
    if [[ $dry_run || $slices == 1 ]]; then
      "$1" "$node" "${@:2}" || result=$?
    else
      "$1" "$node" "${@:2}" < /dev/null &
      pids+=("$!")
    fi
  done
  for pid in ${pids[@]+"${pids[@]}"}; do
    wait "$pid" || result=$?
  done
  return "$result"
}

on_workers() { # SCRIPT
  on_nodes ssh_to all "$1"
}

# Prints a state in capitals, ABSENT if the resource does not exist. gcloud may
# fail temporarily, so it is called up to five times.
state_of() { # KIND NAME FIELD
  local output try limit=$((timeout < 60 ? timeout : 60))
  if [[ $dry_run ]]; then
    tpus "$1" describe "$2" --format="value($3)"
    return
  fi
  for try in 2 4 8 16 32; do
    if output=$(tpus "$1" describe "$2" --format="value($3)" 2>&1); then
      grep -xE '[A-Z_]+' <<< "$output" | tail -n 1
      return
    elif [[ $output == *NOT_FOUND* ]]; then
      echo ABSENT
      return
    fi
    ! is_permanent "$output" || break
    rest "$try"
  done
  say "gcloud cannot describe $2: $output"
  return 1
}

is_permanent() { # ERROR OF GCLOUD
  [[ $1 =~ INVALID_ARGUMENT|PERMISSION_DENIED|UNAUTHENTICATED|active\ account ]]
}

queue_state() {
  state_of queued-resources "$name" state.state
}

tpu_create() {
  local file node=("--node-id=$name") timer=()
  ((slices == 1)) ||
    node=("--node-count=$slices" "--node-prefix=$name")
  if [[ $autodown ]]; then
    file=$(own_file "$name-autodown.sh") || exit
    write_file "$(autodown_script)" "$file"
    timer=("--metadata-from-file=startup-script=$file")
  fi
  tpus queued-resources create "$name" "${node[@]}" \
    --accelerator-type="$type" --runtime-version="$runtime" \
    --labels="run-id=$run_id${labels:+,$labels}" \
    ${create[@]+"${create[@]}"} ${timer[@]+"${timer[@]}"} &&
    if [[ $and_wait ]]; then tpu_wait; fi
}

# A path in the folder of git, where no other user can put a file or a link.
own_file() { # NAME
  local folder
  folder=$(git -C "$here" rev-parse --absolute-git-dir) ||
    fail "$here is not a clone of a git repository"
  echo "$folder/r1jax-$1"
}

write_file() { # TEXT FILE
  # shellcheck disable=SC2016 # The inner bash expands them.
  call bash -c 'printf "%s\n" "$1" > "$2"' - "$@"
}

# A startup script of the TPU's workers, which root runs at every boot. A run is
# alive while a process holds the lock in its folder, see open_logs.
autodown_script() {
  cat <<END
#!/bin/bash
# Deletes this TPU when no run was alive for $autodown minutes.
PATH=\$PATH:/snap/bin
tpu() { timeout 300 gcloud compute tpus queued-resources "\$1" $(
    printf '%q ' "$name" "${where[@]}"
  )"\${@:2}" --quiet; }
is_alive() {
  for lock in /home/*/runs/*/lock /root/runs/*/lock; do
    [ ! -e "\$lock" ] || flock -n "\$lock" true || return 0
  done
  return 1
}
count_minutes() {
  idle=0
  while sleep 60; do
    if is_alive; then idle=0; else idle=\$((idle + 1)); fi
    [ "\$idle" -lt $autodown ] || tpu delete --force --async
  done
}
# setup shows this file.
tpu describe > /dev/null 2> /run/r1jax-autodown ||
  echo 'so --autodown cannot delete this TPU' >> /run/r1jax-autodown
count_minutes >> /run/r1jax-autodown 2>&1 &
END
}

tpu_wait() {
  local state before='' pause=10 began reported=0
  began=$(now)
  while :; do
    state=$(queue_state) || return 1
    if [[ $dry_run ]]; then
      echo "$state"
      return
    fi
    if [[ $state != "$before" ]] || (($(now) - reported >= 600)); then
      reported=$(now)
      say "$name is $state, after $(((reported - began) / 60)) min"
    fi
    case $state in
      ACTIVE) return ;;
      ABSENT | FAILED | SUSPENDING | SUSPENDED)
        say 'it will not become ACTIVE: delete it and create a new one'
        return 1
        ;;
    esac
    [[ $state == "$before" ]] || pause=10
    before=$state
    rest "$pause"
    pause=$((pause < 60 ? pause * 2 : 120))
  done
}

tpu_setup() {
  local sha archive limit=$((12 * timeout))
  sha=$(the_commit) || exit
  archive=$(own_file "$name.tar.gz") || exit
  say_commit "$sha"
  call git -C "$here" archive --format=tar.gz --output="$archive" "$sha" &&
    on_nodes copy_to "$archive" r1jax.tar.gz &&
    if [[ $env_file ]]; then
      on_workers 'touch ~/.r1jax.env && chmod 600 ~/.r1jax.env' &&
        on_nodes copy_to "$env_file" .r1jax.env
    fi &&
    on_workers "set -eu
mkdir -p ~/r1jax-$sha
cd ~/r1jax-$sha
if [ ! -f .installed ]; then
  command -v tmux && python3.11 -m ensurepip --version || {
    sudo apt-get -o DPkg::Lock::Timeout=600 update
    sudo apt-get -o DPkg::Lock::Timeout=600 install -y tmux python3.11-venv
  }
  tar -xzf ~/r1jax.tar.gz
  python3.11 -m venv .venv
  .venv/bin/python -m pip install --quiet -r requirements-3.11.lock \\
    -r requirements-tpu.lock
  .venv/bin/python -m pip install --quiet --no-deps -e .
  touch .installed
fi
ln -sfn ~/r1jax-$sha ~/r1jax
[ ! -s /run/r1jax-autodown ] || cat /run/r1jax-autodown >&2
(
${prepare:-:}
)"
}

# What a run has, and which changes it does not have.
say_commit() { # SHA
  local changed count
  changed=$(git -C "$here" status --porcelain) || changed=''
  say "uploads $(git -C "$here" log -1 --format='%h (%s)' "$1")"
  [[ $changed ]] || return 0
  count=$(wc -l <<< "$changed")
  say "not committed and not uploaded, ${count// /} files:"
  head -n 10 <<< "$changed" >&2
}

the_commit() {
  git -C "$here" rev-parse --verify --quiet "$commit^{commit}" ||
    fail "there is no commit $commit"
}

tpu_run() {
  local job options=(--run-id "$run_id" --retries "$restarts" --grace "$grace")
  [[ ! $libtpu ]] || options+=(--libtpu-args "$libtpu")
  # %q quotes for bash, so bash must read the script. Signals reach all processes
  # of a session when a machine shuts down: this bash waits for the supervisor.
  job="set -e
at=~/runs/$run_id
trap 'echo \$? > \$at/code && mv \$at/code \$at/exit_code' EXIT
trap : TERM HUP INT
exec 2>> \$at/log
cd -P ~/r1jax
if [ -f ~/.r1jax.env ]; then set -- --env-file ~/.r1jax.env; fi
export R1JAX_HOSTS=auto
./launch_tpu.sh run --local 1 --logs ~/runs/$run_id \"\$@\"$(
    printf ' %q' "${options[@]}" -- "${arguments[@]}"
  )"
  on_workers "set -eu
mkdir -p ~/runs/$run_id
if tmux has-session -t =$run_id 2> /dev/null; then
  echo $run_id is still running on \$(hostname) >&2
  exit 1
fi
rm -f ~/runs/$run_id/exit_code ~/runs/$run_id/stopped ~/runs/$run_id/gained
printf '%s\n' $(printf '%q' "$job") > ~/runs/$run_id/job.sh
tmux new-session -d -s $run_id bash ~/runs/$run_id/job.sh"
}

tpu_status() {
  local state seen
  state=$(queue_state)
  echo "$state"
  if [[ $dry_run || $state == ACTIVE ]]; then
    seen=$(run_status) || return
    echo "$seen"
    [[ $dry_run || $seen == *': '*' running'* ]] || say_cost
  fi
}

run_status() {
  local limit=$((timeout < 120 ? timeout : 120))
  on_workers "if tmux has-session -t =$run_id 2> /dev/null; then
  state=running
elif [ -f ~/runs/$run_id/stopped ]; then
  state='was stopped'
elif [ -f ~/runs/$run_id/exit_code ]; then
  state=\"exited with \$(cat ~/runs/$run_id/exit_code)\"
else
  state=absent
fi
echo \"\$(hostname): $run_id \$state\"
[ ! -f ~/runs/$run_id/gained ] || echo \"\$(hostname) has new steps of $run_id\""
}

say_cost() {
  say "$name still exists and costs money: delete it when it is not needed"
}

tpu_logs() {
  local limit=0
  ssh_to "${nodes[slice]}" "$worker" "tail -n 100 -F ~/runs/$run_id/log"
}

tpu_stop() {
  local result=0
  halt "$grace" 'touch stopped' || result=$?
  [[ $dry_run ]] || say_cost
  return "$result"
}

halt() { # SECONDS COMMAND
  local limit=$(($1 + timeout))
  on_workers "cd ~/runs/$run_id || exit
runs() { tmux has-session -t =$run_id 2> /dev/null; }
request() { kill -\$1 \$(cat pid) 2> /dev/null; }
wait_for_end() { for i in \$(seq \$1); do runs || exit 0; sleep 1; done; }
$2
request TERM
wait_for_end $1
request USR1
wait_for_end 10
tmux kill-session -t =$run_id
echo $run_id did not end and was killed on \$(hostname) >&2"
}

tpu_delete() {
  tpus queued-resources delete "$name" --force --async --quiet
}

# A loop over the states of the TPU. It keeps no state that a `retry` which is
# killed and called again would need.
tpu_retry() {
  local state before='' pause=10 hold=15 created=0 started=0 replaced=0 errors=0
  local since starts=0 exists='' is_over='' job=''
  if [[ $dry_run ]]; then
    queue_state && tpu_create && tpu_setup && tpu_run && run_status
    tpu_delete
    return
  fi
  and_wait=''
  commit=$(the_commit) || exit # HEAD may move during the run.
  since=$(now)
  trap end_of_retry EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  while :; do
    state=$(queue_state) || state=UNKNOWN
    if [[ $before$state == UNKNOWN ]]; then
      say "whether $name exists and costs money is not known"
      exit 1
    fi
    if [[ $state != "$before" ]]; then
      say "$name is $state"
      pause=10 before=$state since=$(now)
    fi
    case $state in
      ABSENT) exists='' ;;
      UNKNOWN) ;;
      *) exists=yes ;;
    esac
    case $state in
      ABSENT) request_again ;;
      FAILED | SUSPENDING | SUSPENDED) tpu_delete || true ;;
      ACTIVE) check_run ;;
    esac
    rest "$pause"
    pause=$((pause < 60 ? pause * 2 : 120))
  done
}

# No end of retry leaves a TPU without a word.
end_of_retry() {
  local code=$? try
  [[ ! $job ]] || end_tree "$job"
  if [[ $exists && $is_over && $give_back ]]; then
    for try in 2 4 8 16 32; do
      if tpu_delete; then exit "$code"; fi
      rest "$try"
    done
    say "$name could not be deleted"
  fi
  [[ ! $exists ]] || say_cost
  exit "$code"
}

request_again() {
  local output result=0
  ((created++ < retries)) || end_retries
  if ((created > 1)); then
    rest "$hold"
    hold=$((hold < 300 ? hold * 2 : 600))
  fi
  starts=0
  output=$(tpu_create 2>&1) || result=$?
  echo "$output" >&2
  # gcloud ends with 2 for an unknown option.
  if ((result == 2)) || { ((result)) && is_permanent "$output"; }; then
    fail 'the request for the TPU is invalid'
  fi
  ((result)) || exists=yes
}

# Checks the run on an ACTIVE TPU once, and starts, replaces or ends it.
check_run() {
  local seen
  seen=$(run_seen)
  if [[ $seen == *' gained' ]]; then
    seen=${seen% gained} replaced=0 starts=0
  fi
  case $seen in
    running)
      errors=0
      (($(now) - since < 1800)) || hold=15
      return
      ;;
    0 | 2) finish_run "$seen" ;;
    stopped)
      say "$run_id was stopped; run starts it again"
      is_over=yes
      exit 75
      ;;
  esac
  say "$run_id: $seen"
  pause=10 since=$(now)
  case $seen in
    idle)
      # On one machine, `max_starts` starts in a row may gain no step.
      ((started++ < retries && starts++ < max_starts)) || end_retries
      if while_active start_run; then errors=0; else errors=$((errors + 1)); fi
      ;;
    failed) replace ;;
    gone) tpu_delete || true ;;
    *) errors=$((errors + 1)) ;;
  esac
  if ((errors == 10)); then
    errors=0
    if [[ $seen == mixed ]]; then halt 60 : || true; else replace; fi
  fi
}

start_run() {
  tpu_setup && tpu_run
}

# Runs a command, but not for longer than the TPU is ACTIVE: a connection to a
# machine that is lost may hang.
while_active() { # COMMAND
  local result=0 polls=0 now_state
  "$@" < /dev/null &
  job=$!
  while kill -0 "$job" 2> /dev/null; do
    rest 5
    if ((++polls % 6 == 0)); then
      now_state=$(queue_state) || continue
      if [[ $now_state != ACTIVE ]]; then
        say "$name is $now_state: no longer waits for its workers"
        end_tree "$job"
        break
      fi
    fi
  done
  wait "$job" || result=$?
  job=''
  return "$result"
}

# Ends a process and what it has started.
end_tree() { # PID
  local child
  for child in $(pgrep -P "$1"); do
    end_tree "$child"
  done
  kill "$1" 2> /dev/null || true
}

# The machines may be faulty: other ones are requested, twice.
replace() {
  ((++replaced < 3)) || finish_run 1
  tpu_delete || true
}

# Prints one of: gone (a node is lost), unseen (a worker does not answer), 0 or
# running (all workers), 2 or stopped (one worker), mixed (some are running),
# idle (can be started), failed (a supervisor gave up); then ' gained' if a worker
# has seen new steps since the start.
run_seen() {
  local node seen gained=''
  for node in "${nodes[@]}"; do
    case $(state_of tpu-vm "$node" state) in
      ABSENT | PREEMPTED | TERMINATED | DELETING | STOPP*)
        echo gone
        return
        ;;
    esac
  done
  seen=$(run_status) || seen=''
  [[ $seen != *' has new steps of '* ]] || gained=' gained'
  seen=$(sed -nE "s/^[^:]*: $run_id (.*)$/\1/p" <<< "$seen" | sort -u)
  case $seen in
    'running') seen=running ;;
    'exited with 0') seen=0 ;;
    *'was stopped'*) seen=stopped ;;
    *'exited with 2' | *'exited with 2'$'\n'*) seen=2 ;;
    *running*) seen=mixed ;;
    '') seen=unseen ;;
    *) if grep -qvxE 'absent|exited with (0|75)' <<< "$seen"; then
      seen=failed
    else
      seen=idle
    fi ;;
  esac
  echo "$seen$gained"
}

finish_run() { # CODE
  if (($1)); then
    say "$run_id ended with $1; the end of its log:"
    ssh_to "${nodes[0]}" 0 "tail -n 20 ~/runs/$run_id/log" >&2 || true
  else
    say "$run_id is done"
  fi
  is_over=yes
  exit "$1"
}

end_retries() {
  local why="$retries retries"
  ((starts <= max_starts)) || why="$max_starts starts without a new step"
  say "$run_id gives up after $why; the same command continues"
  is_over=yes
  exit 1
}

supervise() {
  local restarted=0 stale=0 pause=1 max_stale=5 most=0 began lived why
  local waited=0 max_waits=20
  local pids=() code who requested='' at_once='' log=$logs/log wrapper=(setsid)
  local marker follower python=python3 ticks=0
  [[ ! -x $here/.venv/bin/python ]] || python=$here/.venv/bin/python
  python=${PYTHON:-$python}
  # On a pod the other hosts restart only after the heartbeat timeout.
  [[ ${R1JAX_HOSTS:-} != auto ]] || max_stale=10
  if [[ $dry_run ]]; then
    start_all
    return
  fi
  # Children receive SIGTERM when this process is killed.
  ! setpriv --pdeathsig TERM true 2> /dev/null ||
    wrapper=(setpriv --pdeathsig TERM setsid)
  open_logs
  trap 'request TERM' TERM HUP
  trap 'request INT' INT
  trap 'request USR1' USR1
  trap close_logs EXIT
  most=$(steps_done)
  while :; do
    began=$(now)
    start_all
    attend
    lived=$(($(now) - began))
    case $code in 0 | 2) break ;; esac
    if [[ $requested ]]; then
      code=75
      break
    fi
    why="process $who ended with $code$(meaning "$code")"
    ((lived < 300)) || pause=1
    count_stale
    if ((stale >= max_stale || waited >= max_waits || restarted >= retries)); then
      give_up
      break
    fi
    restarted=$((restarted + 1))
    note "$why: restart $restarted of $retries, in $pause s"
    rest "$pause"
    pause=$((pause < 32 ? pause * 2 : 60))
    if [[ $requested ]]; then
      code=75
      break
    fi
  done
  exit "$code"
}

# Counts the attempts in a row that ended without a new step. Those that ended
# with 75 count apart: their trouble may end by itself.
count_stale() {
  local steps
  steps=$(steps_done)
  if ((steps > most)); then
    most=$steps stale=0 waited=0
    touch "$logs/gained"
  elif [[ $code == 75 ]]; then
    waited=$((waited + 1))
  else
    stale=$((stale + 1))
  fi
}

# How far the run has come: the updates of metrics.jsonl and the files of
# responses in the work directory.
steps_done() {
  local i folder='' lines=0 count
  for ((i = 0; i < ${#arguments[@]}; i++)); do
    case ${arguments[i]} in
      --workdir) folder=${arguments[i + 1]:-} ;;
      --workdir=*) folder=${arguments[i]#*=} ;;
    esac
  done
  [[ ! -f $folder/metrics.jsonl ]] || lines=$(wc -l < "$folder/metrics.jsonl")
  count=$(find "$folder" -maxdepth 2 -name '*.jsonl' 2> /dev/null | wc -l)
  echo $((lines + count))
}

# All signals that ask to end are one request, which may arrive twice: from the
# machine and from what started this process. Only a person ends it at once: by
# Ctrl-C, or by `stop`, which sends USR1 after its grace period.
request() { # SIGNAL
  requested=${requested:-$ticks}
  if [[ $1 == USR1 || ($1 == INT && $((ticks - requested)) -ge 2) ]]; then
    at_once=yes
  fi
}

note() {
  echo "launch_tpu.sh: $1" >> "$log"
}

meaning() {
  case $1 in
    70) echo ' (stuck)' ;;
    75) echo ' (terminated, or temporary trouble)' ;;
    134) echo ' (another process was lost)' ;;
    137) echo ' (killed; out of memory?)' ;;
    139) echo ' (crashed)' ;;
  esac
}

give_up() {
  local times=''
  if ((stale >= max_stale)); then
    times=$stale
  elif ((waited >= max_waits)); then
    times=$waited
  fi
  if [[ $times ]]; then
    why+=" without a new step, for the ${times}th time in a row"
  fi
  note "$why: gives up after $restarted restarts"
  # The log of process 0 is on the terminal already.
  ((who == 0)) || tail -n 20 "$log-$who" >&2
}

# Processes inherit the lock, so no other run starts while one of them lives.
open_logs() {
  local from
  mkdir -p "$logs"
  exec 9>> "$logs/lock"
  flock -w 60 9 || {
    say "$run_id is still running, see $logs: stop it or use another --run-id"
    exit 1 # not 2: a later attempt may succeed
  }
  echo "$$" > "$logs/pid"
  touch "$log"
  # When the first tail is killed, the second prints the rest and ends.
  "${wrapper[@]}" tail -f --pid="$$" /dev/null 9>&- &
  marker=$!
  from=$(($(wc -c < "$log") + 1)) # before the processes write
  tail -c "+$from" -s 0.2 -f --pid="$marker" "$log" 9>&- &
  follower=$!
}

close_logs() {
  signal_all KILL
  kill "$marker" 2> /dev/null || true
  wait "$follower" || true
  rm -f "$logs/pid"
}

start_all() {
  local i file port child
  pids=()
  while :; do
    port=$((20000 + RANDOM % 12000))
    (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
  done
  for ((i = 0; i < hosts; i++)); do
    file=$log
    ((i == 0)) || file+=-$i
    child=("$python" -m r1jax "${arguments[@]}")
    ((hosts == 1)) || child=(env "R1JAX_COORDINATOR=127.0.0.1:$port" \
      "R1JAX_HOSTS=$hosts" "R1JAX_HOST=$i" "${child[@]}")
    [[ ! $env_file ]] ||
      child=(python3 -c "$with_variables" "$env_file" "${child[@]}")
    if [[ $dry_run ]]; then
      call "${child[@]}"
    else
      "${wrapper[@]}" "${child[@]}" < /dev/null >> "$file" 2>&1 &
      pids+=("$!")
    fi
  done
}

# Python that runs a command with the variables of an --env-file. Their values
# pass through no shell and no list of processes. The flags of --libtpu-args
# follow those of the file.
with_variables='
import os, re, sys
file, *command = sys.argv[1:]
for line in open(file, "rb").read().split(b"\n"):
  name, equals, value = line.removesuffix(b"\r").partition(b"=")
  if equals and re.fullmatch(rb"[A-Za-z_][A-Za-z0-9_]*", name):
    if name == b"LIBTPU_INIT_ARGS" and name in os.environb:
      value += b" " + os.environb[name]
    os.environb[name] = value
os.execvp(command[0], command)'

# Waits until all processes have ended. Sets code and who to the first failure.
attend() {
  local i alive deadline='' result codes=()
  code='' who=''
  while :; do
    alive=0
    for i in "${!pids[@]}"; do
      if kill -0 "${pids[i]}" 2> /dev/null; then
        alive=$((alive + 1))
      elif [[ ! ${codes[i]:-} ]]; then
        result=0
        if is_lost "${pids[i]}"; then
          result=137
        else
          wait "${pids[i]}" || result=$?
        fi
        codes[i]=$result
        # A process that has lost another one ends with 134.
        if ((result)) && { [[ ! $code || $result == 2 ]] ||
          [[ $code == 134 && ! $deadline ]]; }; then
          code=$result who=$i
        fi
      fi
    done
    ((alive)) || break
    if [[ $requested$code ]]; then stop_all; fi
    tick
  done
  signal_all KILL # child processes that remain
  code=${code:-0}
}

# Whether bash has lost the end of a process, and would wait for ever. It may when
# a signal with a trap arrives as the process ends.
is_lost() { # PID
  local running
  running=$(jobs -rp)
  [[ $'\n'$running$'\n' == *$'\n'$1$'\n'* ]]
}

# Waits and counts a second, unless a signal arrives. Here the loop calls no
# other program: bash would lose a SIGINT while it waits for one.
tick() {
  sleep 1 9>&- &
  if wait "$!"; then ticks=$((ticks + 1)); fi
}

# Sends SIGTERM to the remaining processes once, and SIGKILL at the deadline.
stop_all() {
  if [[ ! $deadline ]]; then
    deadline=$((ticks + 10))
    if [[ $requested || $code == 75 ]]; then
      note "terminating: waits up to $grace s for a checkpoint"
      deadline=$((ticks + grace))
    fi
    signal_all TERM
  fi
  if [[ $at_once ]] || ((ticks >= deadline)); then signal_all KILL; fi
}

signal_all() { # SIGNAL
  local pid
  for pid in ${pids[@]+"${pids[@]}"}; do
    if [[ $1 == KILL ]]; then
      kill -KILL -- "-$pid" 2> /dev/null || true # its children too
    else
      kill "-$1" "$pid" 2> /dev/null || true
    fi
  done
}

libtpu_args() {
  case $1 in
    gathers) echo --xla_tpu_enable_async_collective_fusion=true \
      --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true \
      --xla_tpu_enable_async_collective_fusion_multiple_steps=true \
      --xla_tpu_overlap_compute_collective_tc=true \
      --xla_enable_async_all_gather=true ;;
    slices) echo --xla_tpu_enable_data_parallel_all_reduce_opt=true \
      --xla_tpu_data_parallel_opt_different_sized_ops=true ;;
    vmem) echo --xla_tpu_scoped_vmem_limit_kib=98304 ;;
    --*) echo "$1" ;;
    *) fail "--libtpu-args is gathers, slices, vmem or --flags, not $1" ;;
  esac
}

number() { # OPTION VALUE MINIMUM
  [[ $2 =~ ^(0|[1-9][0-9]{0,5})$ && $2 -ge $3 ]] ||
    fail "$1 is $2: it must be an integer of at least $3"
}

set_option() { # OPTION VALUE
  case $1 in
    --name) name=$2 ;;
    --zone) zone=$2 ;;
    --project) project=$2 ;;
    --slices) number "$@" 1 && slices=$2 ;;
    --type) type=$2 ;;
    --runtime) runtime=$2 ;;
    --valid-for) create+=("--valid-until-duration=$2") ;;
    --network | --subnetwork | --service-account | --scopes | --tags | \
      --metadata | --data-disk | --reservation | --provisioning-model)
      create+=("$1=$2")
      ;;
    --autodown) number "$@" 1 && autodown=$2 ;;
    --track) track=$2 ;;
    --timeout) number "$@" 1 && timeout=$2 ;;
    --labels) labels=$2 ;;
    --commit) commit=$2 ;;
    --env-file) env_file=$2 ;;
    --prepare) prepare=$2 ;;
    --run-id) run_id=$2 ;;
    --worker) number "$@" 0 && worker=$2 ;;
    --slice) number "$@" 0 && slice=$2 ;;
    --libtpu-args)
      value=$(libtpu_args "$2") || exit
      libtpu+=${libtpu:+ }$value
      ;;
    --retries) number "$@" 0 && retries=$2 ;;
    --grace) number "$@" 1 && grace=$2 ;;
    --local) number "$@" 1 && hosts=$2 ;;
    --logs) logs=$2 ;;
    *) fail "unknown option $1: see --help" ;;
  esac
}

# Behind -- an option would be passed on: with --dry-run there, the calls would
# be real. (preflight has --slices too.)
check_arguments() {
  local argument option options
  [[ $command == @(run|retry) ]] || ((${#arguments[@]} == 0)) ||
    fail "$command has no ARGUMENTS: write its options before --"
  options=$(usage | grep -oE '^  --[a-z-]+(, --[a-z-]+)*' | tr -s ', \n' ' ')
  for argument in ${arguments[@]+"${arguments[@]}"}; do
    option=${argument%%=*}
    [[ $option =~ ^--[a-z-]+$ ]] || continue
    [[ $option != --slices || ${arguments[0]} != preflight ]] || continue
    [[ " $options " != *" $option "* ]] ||
      fail "$option is an option of $command: write it before --"
  done
}

has_workdir() {
  local argument
  for argument in "${arguments[@]}"; do
    case $argument in --workdir | --workdir=*) return ;; esac
  done
  return 1
}

check() {
  [[ ! $hosts || $command == run ]] || fail '--local is an option of run'
  [[ $hosts ]] || [[ $name && $zone ]] ||
    fail "$command needs --name and --zone"
  [[ $command != @(create|retry) ]] || [[ $type && $runtime ]] ||
    fail "$command needs --type and --runtime"
  check_arguments
  [[ $command != @(run|retry) ]] || ((${#arguments[@]})) ||
    fail "$command needs the arguments of a stage after --"
  [[ $command != retry ]] || has_workdir ||
    fail 'retry needs a --workdir in ARGUMENTS, on a disk that outlives the TPU'
  [[ $hosts ]] || check_workdir
  [[ ! $env_file ]] || check_env_file
  [[ ! $track || $track == @(alpha|beta) ]] ||
    fail "--track is alpha or beta, not $track"
  ((slice < slices)) || fail "there are $slices slices, counted from 0"
  [[ $run_id =~ ^[a-z][a-z0-9_-]*$ ]] ||
    fail "the run id $run_id must match [a-z][a-z0-9_-]*"
}

# On a worker, ARGUMENTS run in the folder of the commit.
check_workdir() {
  local i folder=''
  for ((i = 0; i < ${#arguments[@]}; i++)); do
    case ${arguments[i]} in
      --workdir) folder=${arguments[i + 1]:-} ;;
      --workdir=*) folder=${arguments[i]#*=} ;;
      *) continue ;;
    esac
    [[ $folder != *://* ]] ||
      fail "--workdir is $folder, but runs write folders: mount the bucket on \
all workers (gcsfuse, see --prepare) and give the folder"
    [[ $folder == /* ]] ||
      fail "--workdir $folder is relative to the folder of a commit, which the \
next commit leaves behind: give an absolute path, on a disk of all workers"
  done
}

# Says which lines of --env-file are not used as they may be meant. The values
# are secrets.
check_env_file() {
  local line name value count=0 ends=0 LC_ALL=C
  [[ -f $env_file ]] || fail "there is no file $env_file"
  [[ $(tr -cd '\0' < "$env_file" | wc -c) -eq 0 ]] ||
    fail "$env_file has NUL bytes, which no variable can hold: save it as UTF-8"
  while IFS= read -r line || [[ $line ]]; do
    count=$((count + 1))
    if [[ $line == *$'\r' ]]; then
      ends=$((ends + 1)) line=${line%$'\r'}
    fi
    name=${line%%=*} value=${line#*=}
    if [[ ! $line || $line == '#'* ]]; then
      continue
    elif [[ $line != *=* || ! $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then
      say "$env_file: line $count is not NAME=value and is left out"
    elif [[ $value == \"*\" || $value == \'*\' ]]; then
      say "$env_file: the quotes of $name are part of its value"
    fi
  done < "$env_file"
  ((ends == 0)) ||
    say "$env_file: $ends lines end with CR LF: the CR is no part of a value"
}

main() {
  local here name='' zone='' project='' type='' runtime='' env_file='' run_id=''
  local dry_run='' and_wait='' give_back='' prepare='' labels='' libtpu=''
  local commit=HEAD worker=0 slice=0 slices=1 retries=100 restarts=100 grace=300
  local hosts='' logs='' create=() arguments=() nodes=() where reach=() value
  local autodown='' track='' timeout=300 limit max_starts=10 keep_alive=()
  local command=${1:---help} i
  here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  case $command in
    -h | --help) usage && return ;;
    create | wait | setup | run | status | logs | stop | delete | retry)
      shift
      ;;
    *) fail "there is no command $command: see --help" ;;
  esac
  while (($#)); do
    case $1 in
      -h | --help) usage && return ;;
      --dry-run) dry_run=yes && shift ;;
      --wait) and_wait=yes && shift ;;
      --give-back) give_back=yes && shift ;;
      --internal-ip) reach+=(--internal-ip) && shift ;;
      --iap) reach+=(--tunnel-through-iap) && shift ;;
      --spot | --reserved | --best-effort | --internal-ips)
        create+=("$1") && shift
        ;;
      --) shift && arguments=("$@") && break ;;
      --*=*) set_option "${1%%=*}" "${1#*=}" && shift ;;
      *) (($# > 1)) || fail "$1 needs a value, or is unknown: see --help"
        set_option "$1" "$2" && shift 2 ;;
    esac
  done
  run_id=${run_id:-${name:-${arguments[0]:-}}}
  check
  if [[ $hosts ]]; then
    logs=${logs:-runs/$run_id}
    has_workdir || arguments+=(--workdir "$logs")
    export PYTHONUNBUFFERED=1
    [[ ! $libtpu ]] ||
      export LIBTPU_INIT_ARGS="${LIBTPU_INIT_ARGS:+$LIBTPU_INIT_ARGS }$libtpu"
    supervise
    return
  fi
  where=("--zone=$zone" ${project:+"--project=$project"})
  reach=(--strict-host-key-checking=no ${reach[@]+"${reach[@]}"})
  # A connection that is silent for two minutes is lost.
  keep_alive=(-oConnectTimeout=30 -oServerAliveInterval=15
    -oServerAliveCountMax=8)
  limit=$timeout
  nodes=("$name")
  for ((i = 0; slices > 1 && i < slices; i++)); do nodes[i]=$name-$i; done
  [[ $command == retry ]] || restarts=$retries
  [[ $dry_run ]] || command -v gcloud > /dev/null ||
    fail 'gcloud is not on the PATH: install the Google Cloud CLI'
  "tpu_$command"
}

# bash has read the whole file here, which may change during the run.
main "$@"
exit
