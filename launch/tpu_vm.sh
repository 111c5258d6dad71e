#!/usr/bin/env bash
# Trains on a Cloud TPU VM, one host or a pod slice, v2 to v6e. Newer ones: gke.sh, compute_tpu.sh.
#
#   launch/tpu_vm.sh --name=NAME --zone=ZONE --type=v4-32 [OPTIONS] -- TRAINING'S FLAGS
#   launch/tpu_vm.sh --name=NAME --zone=ZONE --reuse [OPTIONS] -- TRAINING'S FLAGS
#
# Creates the TPU, sends it the code of this checkout, installs it on all hosts, and starts `xmc
# train` there as the system service "xmc", which goes on without this terminal. Training's flags
# are those of `xmc train`; --workdir must be a bucket, gs://BUCKET/DIR.
#
#   --name --zone    of the TPU
#   --type           accelerator type, such as v4-32, v5litepod-16, v5p-8, v6e-8
#   --reuse          the TPU is there already: only send, install and start; a run there is stopped
#   --project        default: that of `gcloud config`
#   --version        of the TPU's software; default: Google's for JAX on this type
#   --data --setup  what hosts get before training, see README.md
#   --dry-run        print the commands, run none
#   --KEY=VALUE      any other option goes to `gcloud compute tpus tpu-vm create`, such as --spot
set -euo pipefail
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/lib_tpu.sh"
name='' zone='' type='' project='' version='' reuse='' data='' setup=''
parse 'name zone type project version reuse? data setup' "$@"
need name zone
[[ $reuse ]] || need type
check_train
check_tpu

run cd "$root"
upload_code
if [[ ! $reuse ]]; then
  run "${vm[@]}" create "$name" --zone="$zone" --accelerator-type="$type" --version="$version" \
    ${extra[@]+"${extra[@]}"}
fi
send_start
tell_how "${vm[@]}" delete "$name" --zone="$zone"
