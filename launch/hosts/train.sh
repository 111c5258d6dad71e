#!/usr/bin/env bash
# What a scheduler starts on each host in place of `xmc train FLAGS`:
#
#   hosts/train.sh [--data=FROM] [--setup=COMMAND] -- TRAINING'S FLAGS
#
# First it gives the host what a new disk lacks: --data copies a prepared set from a bucket or folder
# into data/, --setup runs a command in the checkout, such as 'xmc weights get bert-base-uncased'.
# `xmc train` ends with 0 also where SIGTERM stopped it early. A scheduler would take that for the
# end of the run and never resume it. So this ends with 0 only if the run's last step is saved, and
# with 75 ("try again") if it is not. Other exit codes pass through; SIGTERM is passed on.
#
# XMC_COORDINATOR (HOST:PORT), XMC_PROCESSES, XMC_PROCESS: how to join; else JAX asks the cluster.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
data='' setup=''
parse 'data setup' "$@"
((${#extra[@]} == 0)) || die "${extra[0]} is not an option; training's flags come after --"
workdir=$(value_of workdir ${train[@]+"${train[@]}"})
[[ $workdir ]] || die '--workdir DIR is missing'
command -v xmc >/dev/null || PATH=$root/.venv/bin:$PATH
command -v xmc >/dev/null || die 'there is no command xmc; install the package (see README.md)'
PATH=$(dirname "$(command -v xmc)"):$PATH

finished() {  # Whether the run's folder, or bucket, holds the checkpoint of its last step or a later
  python3 - "$workdir" <<'PYTHON'
import json, sys
from etils import epath
run = epath.Path(sys.argv[1]).expanduser()
steps = json.loads((run / 'config.json').read_text())['steps']
saved = (run / 'checkpoints').iterdir() if (run / 'checkpoints').exists() else ()
sys.exit(not any(path.name.isdecimal() and int(path.name) >= steps for path in saved))
PYTHON
}

# Without a trap, a signal ends this script but not its child; process 1 of a container ignores it.
child='' signalled='' stopped='' status=0
trap 'signalled=1 stopped=1; [[ ! $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM INT
await() {  # Runs a command, passes signals on to it and leaves its exit code in $status
  "$@" &
  child=$!
  [[ ! $stopped ]] || kill -TERM "$child" 2>/dev/null || true
  signalled=1
  while [[ $signalled ]]; do  # a signal ends `wait`, not the command
    signalled='' status=0
    wait "$child" || status=$?
  done
  [[ ! $stopped || $1 == xmc ]] || exit 75
}

# Hosts that are new may be late, by a node pool that grows or a slow download.
join=(--distributed --wait=1800)
if [[ ${XMC_COORDINATOR-} ]]; then
  join=(--coordinator="$XMC_COORDINATOR" --processes="$XMC_PROCESSES" --process="$XMC_PROCESS"
    --wait=1800)
fi
cd "$root"
[[ ! $data ]] || await python3 launch/hosts/fetch.py "$data"
((status == 0)) || exit "$status"
[[ ! $setup ]] || await bash -euc "$setup"
# 1, not 2, which schedulers take for a mistake of the user: a download may work the next time.
((status == 0)) || { echo "train.sh: --setup ended with code $status" >&2 && exit 1; }
await xmc train "${join[@]}" "${train[@]}"
checking=''      # --check trains nothing, so there is no last step to wait for
for flag in "${train[@]}"; do [[ $flag != --check ]] || checking=1; done
if ((status == 0)) && [[ ! $checking ]] && ! finished; then
  echo 'train.sh: stopped before the last step; exit code 75 asks for a restart, which resumes.' >&2
  status=75
fi
exit "$status"
