#!/usr/bin/env bash
# Rehearses a run of several processes, all on this host's CPU.
#
#   launch/local_multiprocess.sh [--processes=2] [--devices=4] -- TRAINING'S FLAGS
#
# Starts `xmc train` several times, which join at a port of the loopback interface. Each line of output
# begins with the number of its process. SIGTERM and Ctrl-C are passed on to all. The exit code is 0
# if theirs all are, otherwise the first that is not.
#
#   --processes   how many
#   --devices     CPU devices of each
#   --port        of the coordinator; default: one that is free
#   --dry-run     print the commands, start nothing
set -u
source "$(dirname "$0")/lib.sh"
processes=2 devices=4 port=''
parse 'processes devices port' "$@"
((${#extra[@]} == 0)) || die "${extra[0]} is not an option; --help lists them"
((${#train[@]})) || die "training's flags are missing: -- --config FILE --workdir DIR"
for key in processes devices; do
  [[ ${!key} =~ ^[1-9][0-9]*$ ]] || die "--$key=${!key} is not a positive number"
done
PATH=$root/.venv/bin:$PATH
ask='import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
[[ $port ]] || port=$(python -c "$ask") || die 'python is not to be found'

pids=() stopped=''
trap 'stopped=1; kill -TERM "${pids[@]}" 2>/dev/null' TERM INT
for ((i = 0; i < processes; i++)); do
  command=(env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="$devices" xmc train "${train[@]}"
           --coordinator="127.0.0.1:$port" --processes="$processes" --process="$i")
  if [[ $dry_run ]]; then run "${command[@]}" && continue; fi
  "${command[@]}" > >(exec sed -u "s/^/[$i] /") 2>&1 &
  pids+=($!)
  [[ ! $stopped ]] || kill -TERM "$!" 2>/dev/null     # the signal came before this one had started
  echo "process $i is $!"
done

first=0
for ((i = 0; i < ${#pids[@]}; i++)); do
  while :; do
    wait "${pids[i]}"
    status=$?
    kill -0 "${pids[i]}" 2>/dev/null || break       # `wait` also returns when a signal has come
  done
  ((status == 0)) || echo "process $i ended with code $status"
  ((first)) || first=$status
done
exit "$first"
