#!/usr/bin/env bash
# Trains on a TPU that Cloud TPU's queue hands out, spot TPUs above all, v2 to v6e. It is for v5e and
# older ones without a cluster; elsewhere take gke.sh or compute_tpu.sh.
#
#   launch/queued_resource.sh --name=NAME --zone=ZONE --type=v5litepod-16 --spot --watch \
#     [OPTIONS] -- TRAINING'S FLAGS
#
# Sends the code of this checkout to the bucket and queues for a TPU whose hosts, at every boot,
# fetch the code, install it and start or resume `xmc train` as the system service "xmc".
# Training's flags are those of `xmc train`; --workdir must be a bucket, gs://BUCKET/DIR.
#
#   --name --zone    of the queued resource and of its TPU
#   --type           accelerator type, such as v4-32, v5litepod-16, v5p-8, v6e-8
#   --watch          stay: queue again whenever the TPU is taken away; delete it when the run is
#                    finished. Ends with 1 if training has failed. Without it: queue once.
#   --project        default: that of `gcloud config`
#   --version        of the TPU's software; default: Google's for JAX on this type
#   --data --setup  what hosts get before training, see README.md
#   --dry-run        print the commands, run none
#   --KEY=VALUE      any other option goes to `gcloud compute tpus queued-resources create`
set -euo pipefail
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/lib_tpu.sh"
name='' zone='' type='' project='' version='' watch='' data='' setup=''
parse 'name zone type project version watch? data setup' "$@"
need name zone type
check_train
check_tpu

state=("${resource[@]}" describe "$name" --zone="$zone" '--format=value(state.state)')
node=("${vm[@]}" describe "$name" --zone="$zone" '--format=value(state)')
service=("${vm[@]}" ssh "$name" --zone="$zone" --quiet
  '--command=systemctl show xmc --property=SubState --value')
delete=("${resource[@]}" delete "$name" --zone="$zone" --force --quiet)
create=("${resource[@]}" create "$name" --node-id="$name" --zone="$zone" --accelerator-type="$type"
  --runtime-version="$version" --metadata="^:xmc:^startup-script=$(host_script)"
  ${extra[@]+"${extra[@]}"})

run cd "$root"
upload_code
# Where it is there already, a watch is taken up again, with this code and these flags.
sent=1
if ! run "${create[@]}"; then
  [[ $watch ]] && "${state[@]}" && sent='' || exit 1
fi
tell_how "${delete[@]}"
[[ $watch ]] || exit 0
if [[ $dry_run ]]; then
  echo "# every minute: $(quote "${state[@]}"); $(quote "${node[@]}"); $(quote "${service[@]}")"
  exit 0
fi
while sleep 60; do
  seen="$("${state[@]}" || echo UNKNOWN) $("${node[@]}" 2>/dev/null || echo NONE)"
  if [[ $seen == 'ACTIVE READY' && ! $sent ]]; then
    send_start || die "not all hosts of $name could be reached; run the same command again"
    sent=1 && seen+=' started'
  elif [[ $seen == 'ACTIVE READY' ]]; then
    seen+=" $("${service[@]}" || echo unreachable)"
  fi
  echo "$(date '+%F %T')  $name: $seen"
  case $seen in
    *exited) echo 'The run is finished.' && exec "${delete[@]}" ;;
    *failed) echo 'Training has failed; the TPU is kept for a look at the log.' && exit 1 ;;
    SUSPENDED* | FAILED* | *PREEMPTED | *TERMINATED)
      { "${delete[@]}" && "${create[@]}" && sent=1; } || true ;;
    UNKNOWN*) { "${create[@]}" && sent=1; } || true ;;
  esac
done
