#!/usr/bin/env bash
# Trains on TPUs or GPUs of a GKE cluster, as a JobSet, through a queue of Kueue if there is one.
#
#   launch/gke.sh --name=NAME --image=IMAGE --accelerator=tpu-v5-lite-podslice --topology=4x4 \
#     --hosts=4 --chips=4 [OPTIONS] -- TRAINING'S FLAGS
#   launch/gke.sh --name=NAME --image=IMAGE --accelerator=nvidia-h100-80gb --hosts=2 --chips=8 \
#     [OPTIONS] -- TRAINING'S FLAGS
#
# Builds the image with the code of this checkout, pushes it, and creates the JobSet. Training's
# flags are those of `xmc train`; --workdir must be a bucket, gs://BUCKET/DIR. A host that is taken
# away or that fails restarts all of them, which resume; a mistake in the config ends the run.
#
#   --name           of the JobSet
#   --image          to build and push, REGION-docker.pkg.dev/PROJECT/REPOSITORY/xmc:TAG
#   --accelerator    label of the nodes, gke-tpu-accelerator or gke-accelerator
#   --topology       of a TPU slice, such as 4x4; without it the accelerator is a GPU
#   --device         gpu (CUDA 13, the default) or gpu12, for an older driver; of GPUs
#   --hosts          how many nodes
#   --chips          on each of them: all
#   --queue          LocalQueue of Kueue; default: no queue
#   --spot           on spot nodes
#   --reuse          the image is pushed already: build none
#   --max-restarts   default 100
#   --data --setup   what hosts get before training, see README.md
#   --dry-run        print the commands, run none
#   --KEY=VALUE      any other option goes to `kubectl create`, such as --namespace
set -euo pipefail
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/lib_tpu.sh"
source "$(dirname "$0")/lib_gke.sh"
name='' image='' accelerator='' topology='' hosts='' chips='' queue='' spot='' reuse='' device=''
max_restarts=100 data='' setup=''
parse 'name image accelerator topology device hosts chips queue spot? reuse? max_restarts data setup' \
  "$@"
need name image accelerator hosts chips
if [[ $topology ]]; then
  [[ ! $device ]] || die "--device=$device is for GPUs, and --topology for TPUs: leave one out"
  device=tpu
else
  device=${device:-gpu}
  [[ $device == gpu || $device == gpu12 ]] || die "--device=$device: give gpu or gpu12"
fi
check_train
check_paths

run cd "$root"
if [[ ! $reuse ]]; then
  run docker build --platform=linux/amd64 --build-arg="DEVICE=$device" \
    --file=launch/hosts/Dockerfile --tag="$image" .
  run docker push "$image"
fi
# shellcheck disable=SC2016  # the inner shell has $0 and $@
run bash -c 'kubectl create "$@" --filename=- <<<"$0"' "$(manifest)" ${extra[@]+"${extra[@]}"}
echo "# log:     kubectl logs --follow --selector=$(quote "jobset.sigs.k8s.io/jobset-name=$name")"
echo "# state:   kubectl get jobset $name"
echo "# delete:  kubectl delete jobset $name"
