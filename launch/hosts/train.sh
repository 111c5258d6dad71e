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
# XMC_COORDINATOR (HOST:PORT), XMC_PROCESSES and XMC_PROCESS say how to join; without them, JAX asks
# the cluster.
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

finished() {  # Whether the folder of the run holds the checkpoint of its last step; a bucket may be
  python3 - "$workdir" <<'PYTHON'
import json, sys
from etils import epath
run = epath.Path(sys.argv[1]).expanduser()
steps = json.loads((run / 'config.json').read_text())['steps']
sys.exit(not (run / 'checkpoints' / str(steps)).exists())
PYTHON
}

join=(--distributed)
if [[ ${XMC_COORDINATOR-} ]]; then
  join=(--coordinator="$XMC_COORDINATOR" --processes="$XMC_PROCESSES" --process="$XMC_PROCESS")
fi
cd "$root"
[[ ! $data ]] || python3 launch/hosts/fetch.py "$data"
# 1, not 2, which schedulers take for a mistake of the user: a download may work the next time.
[[ ! $setup ]] || bash -euc "$setup" || { echo "train.sh: --setup ended with code $?" >&2; exit 1; }
# The trap comes first: a signal that found none would end this script and leave the training alone.
child='' signalled=''
trap 'signalled=1; [[ ! $child ]] || kill -TERM "$child" 2>/dev/null || true' TERM INT
xmc train "${join[@]}" "${train[@]}" &
child=$!
[[ ! $signalled ]] || kill -TERM "$child" 2>/dev/null || true
signalled=1
while [[ $signalled ]]; do  # a signal ends `wait`, not the run
  signalled='' status=0
  wait "$child" || status=$?
done
checking=''      # --check trains nothing, so there is no last step to wait for
for flag in "${train[@]}"; do [[ $flag != --check ]] || checking=1; done
if ((status == 0)) && [[ ! $checking ]] && ! finished; then
  echo 'train.sh: stopped before the last step; exit code 75 asks for a restart, which resumes.' >&2
  status=75
fi
exit "$status"
