#!/usr/bin/env bash
# Cuts the link between two hosts that train together, and shows what each of them does then.
# The hosts are network namespaces of this one, so it needs root; nothing to edit, see --help.
set -eu
usage() {
  cat <<'END'
usage: tools/cut_link_check.sh --workdir RUN [--step N] [--heartbeat SECONDS] -- FLAGS...

Runs `xmc train FLAGS --workdir RUN` as two processes in two network namespaces, sets their link down
after step N (3), tells when and how each process ended, sets the link up and runs the same command
again, to its end. The exit code is 0 if both ended by themselves, each with code 75 and one
sentence, and the second run with 0.
END
}
fail() { echo "cut_link_check.sh: $1; see --help" >&2; exit 2; }
workdir='' step=3 heartbeat=10
while (($#)); do
  case $1 in
    --workdir | --step | --heartbeat)
      [[ ${2-} ]] || fail "$1 needs a value"
      printf -v "${1#--}" %s "$2"
      shift 2 ;;
    --help) usage; exit 0 ;;
    --) shift; break ;;
    *) fail "'$1' is not known here; flags of xmc train follow after --" ;;
  esac
done
[[ $workdir && $# -gt 0 ]] || fail 'a --workdir and the flags of xmc train are missing'
[[ $EUID == 0 ]] || fail 'network namespaces need root'
PATH=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH:/usr/sbin
export PATH JAX_PLATFORMS=cpu
hosts=("xmc$$a" "xmc$$b") logs=$(mktemp -d)

clean() {
  kill "${pids[@]}" 2>/dev/null || true
  for host in "${hosts[@]}"; do
    ip netns delete "$host" 2>/dev/null || true
    rm -rf "/etc/netns/$host"
  done
  rm -rf "$logs"
}
pids=()
trap clean EXIT

for i in 0 1; do
  ip netns add "${hosts[i]}"
  # A host's own name must lead to the address by which the other one reaches it.
  mkdir -p "/etc/netns/${hosts[i]}"
  printf '%s\n' '127.0.0.1 localhost' "10.231.0.$((i + 1)) $(hostname)" \
    > "/etc/netns/${hosts[i]}/hosts"
done
ip link add "${hosts[0]}" netns "${hosts[0]}" type veth peer name "${hosts[1]}" netns "${hosts[1]}"
for i in 0 1; do
  ip -n "${hosts[i]}" address add "10.231.0.$((i + 1))/24" dev "${hosts[i]}"
  ip -n "${hosts[i]}" link set lo up
  ip -n "${hosts[i]}" link set "${hosts[i]}" up
done

start() {
  pids=()
  for i in 0 1; do
    ip netns exec "${hosts[i]}" xmc train "$@" --workdir "$workdir" --heartbeat "$heartbeat" \
      --coordinator=10.231.0.1:8476 --processes=2 --process="$i" > "$logs/$i" 2>&1 &
    pids+=($!)
  done
}
finish() {          # prints how each process ended; true if with the code $1
  local code ok=0
  for i in 0 1; do
    code=0
    wait "${pids[i]}" || code=$?
    printf 'process %d: code %d. ' "$i" "$code"
    [[ $code == "$1" ]] || { ok=1; cat "$logs/$i"; }
    tail -n 1 "$logs/$i"
  done
  return "$ok"
}

start "$@"
until grep -q "^step $step/" "$logs/0"; do
  kill -0 "${pids[@]}" || { cat "$logs"/*; exit 1; }
  sleep 0.1
done
ip -n "${hosts[0]}" link set "${hosts[0]}" down
cut=${EPOCHREALTIME/./}
echo "link cut after step $step"
for i in 0 1; do
  (while kill -0 "${pids[i]}" 2>/dev/null; do sleep 0.05; done
   echo "process $i ended $(((${EPOCHREALTIME/./} - cut) / 1000)) ms after the cut") &
  watchers[i]=$!
done
wait "${watchers[@]}"
finish 75
ip -n "${hosts[0]}" link set "${hosts[0]}" up
echo 'link up again, the same command:'
start "$@"
finish 0
grep -o 'steps [0-9,]* to [0-9,]*' "$logs/0"
