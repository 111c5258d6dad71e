#!/usr/bin/env bash
# The body of the job that launch/slurm.sh submits: hosts/slurm.sh MAX_RESTARTS WORDS OF hosts/train.sh
#
# Runs on the first node, in the folder of the checkout. A run that was stopped early or that failed
# is put into the queue again, under the same number and with the same log; not after a mistake (2).
set -euo pipefail
max_restarts=$1
shift
if [[ ${SLURM_CPUS_PER_TASK-} ]]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi

# Whatever the cluster's habits: when one process fails, the others are left to see it and end by
# themselves. srun's exit code is the highest of theirs, 128 + n where a signal n killed one.
status=0
srun --kill-on-bad-exit=0 --wait=0 bash launch/hosts/train.sh "$@" || status=$?
if ((status != 0 && status != 2)); then
  if ((${SLURM_RESTART_COUNT:-0} < max_restarts)); then
    echo "exit code $status: queueing job $SLURM_JOB_ID again"
    scontrol requeue "$SLURM_JOB_ID"
  else
    echo "exit code $status: restarted $max_restarts times already, not again" >&2
  fi
fi
exit "$status"
