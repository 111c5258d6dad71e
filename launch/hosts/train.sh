#!/usr/bin/env bash
# What a scheduler starts on each host in place of `xmc train FLAGS`: hosts/train.sh FLAGS
#
# `xmc train` ends with 0 also where SIGTERM stopped it early. A scheduler would take that for the
# end of the run and never resume it. So this ends with 0 only if the run's last step is saved, and
# with 75 ("try again") if it is not. Other exit codes pass through; SIGTERM is passed on.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
workdir=$(value_of workdir "$@")
[[ $workdir ]] || die '--workdir DIR is missing'
command -v xmc >/dev/null || PATH=$root/.venv/bin:$PATH
command -v xmc >/dev/null || die 'there is no command xmc; install the package (see README.md)'

finished() {  # Whether the folder of the run holds the checkpoint of its last step; a bucket may be
  PATH=$(dirname "$(command -v xmc)"):$PATH python3 - "$workdir" <<'PYTHON'
import json, sys
from etils import epath
run = epath.Path(sys.argv[1])
steps = json.loads((run / 'config.json').read_text())['steps']
sys.exit(not (run / 'checkpoints' / str(steps)).exists())
PYTHON
}

cd "$root"
xmc train --distributed "$@" &
child=$!
trap 'signalled=1; kill -TERM "$child" 2>/dev/null || true' TERM INT
signalled=1
while [[ $signalled ]]; do  # a signal ends `wait`, not the run
  signalled='' status=0
  wait "$child" || status=$?
done
if ((status == 0)) && ! finished; then
  echo 'train.sh: stopped before the last step; exit code 75 asks for a restart, which resumes.' >&2
  status=75
fi
exit "$status"
