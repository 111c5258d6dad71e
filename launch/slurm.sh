#!/usr/bin/env bash
# Trains on a SLURM cluster with GPUs, one process a GPU.
#
#   launch/slurm.sh --nodes=2 --gpus=8 --time=24:00:00 [OPTIONS] -- TRAINING'S FLAGS
#
# Submits a job that uses the `xmc` of the environment that is active now, and that asks for itself
# again, to resume, when its time is up, it is preempted or a process has died. Training's flags
# are those of `xmc train`; --workdir must be a folder that all nodes see.
#
#   --nodes          number of nodes
#   --gpus           on each node: all of them, since JAX counts from the first; 0: train on CPUs
#   --time           limit of one job, such as 24:00:00
#   --max-restarts   default 100
#   --data --setup  what hosts get before training, see README.md
#   --dry-run        print the command, do not run it
#   --KEY=VALUE      any other option goes to `sbatch`, such as --partition and --cpus-per-task
set -euo pipefail
source "$(dirname "$0")/lib.sh"
nodes='' gpus='' time='' max_restarts=100 data='' setup=''
parse 'nodes gpus time max_restarts data setup' "$@"
need nodes gpus time
check_train
if [[ $gpus == 0 ]]; then tasks=(--ntasks-per-node=1)
else tasks=(--ntasks-per-node="$gpus" --gpus-per-node="$gpus"); fi

run cd "$root"
# SIGTERM reaches the processes three minutes before the time is up: time to save.
run sbatch --job-name=xmc --nodes="$nodes" "${tasks[@]}" --time="$time" --signal=TERM@180 \
  --requeue --open-mode=append --output=xmc-%j.log ${extra[@]+"${extra[@]}"} \
  launch/hosts/slurm.sh "$max_restarts" ${data:+--data="$data"} ${setup:+--setup="$setup"} \
  -- "${train[@]}"
echo '# log:     tail -F xmc-JOB.log    state:  squeue --me    stop for good:  scancel JOB'
