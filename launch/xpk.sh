#!/usr/bin/env bash
# Trains on TPUs of a GKE cluster, through XPK (https://github.com/AI-Hypercomputer/xpk).
#
#   launch/xpk.sh --name=NAME --cluster=CLUSTER --type=v5litepod-16 --image=IMAGE \
#     [OPTIONS] -- TRAINING'S FLAGS
#
# Builds the image with the code of this checkout, pushes it, and creates the workload. Training's
# flags are those of `xmc train`; --workdir must be a bucket, gs://BUCKET/DIR. A host that is taken
# away or that fails restarts the whole workload, which resumes; a mistake in the config ends it.
#
#   --name           of the workload
#   --cluster        GKE cluster that `xpk cluster create` has made or adapted
#   --type           TPU type, such as v5litepod-16
#   --image          to build and push, REGION-docker.pkg.dev/PROJECT/REPOSITORY/xmc:TAG
#   --project --zone of the cluster; default: those of `gcloud config`
#   --reuse          the image is pushed already: build none
#   --max-restarts   default 100
#   --dry-run        print the commands, run none
#   --KEY=VALUE      any other option goes to `xpk workload create`, such as --priority
set -euo pipefail
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/lib_tpu.sh"
name='' cluster='' type='' image='' project='' zone='' reuse='' max_restarts=100
parse 'name cluster type image project zone reuse? max_restarts' "$@"
need name cluster type image
check_train
check_paths
place=(--cluster="$cluster" ${project:+--project="$project"} ${zone:+--zone="$zone"})

run cd "$root"
if [[ ! $reuse ]]; then
  run docker build --platform=linux/amd64 --file=launch/hosts/Dockerfile --tag="$image" .
  run docker push "$image"
fi
# Every exit code but 0 and 2 restarts (42 and 127 to 255 do anyway). `exec`: SIGTERM arrives.
run xpk workload create --workload="$name" "${place[@]}" --tpu-type="$type" \
  --docker-image="$image" --max-restarts="$max_restarts" --restart-on-exit-codes=1,3-126 \
  --termination-grace-period-seconds=180 ${extra[@]+"${extra[@]}"} \
  --command="exec bash launch/hosts/train.sh $(quote "${train[@]}")"
echo "# log:     kubectl logs --follow --selector=$(quote "xpk.google.com/workload=$name")"
echo "# state:   $(quote xpk workload list "${place[@]}")"
echo "# delete:  $(quote xpk workload delete --workload="$name" "${place[@]}")"
