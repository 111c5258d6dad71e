#!/usr/bin/env bash
# Trains on TPUs of Compute Engine, v5p and newer: a managed instance group is the slice.
#
#   launch/compute_tpu.sh --name=NAME --zone=ZONE --machine=ct6e-standard-4t --topology=4x4 \
#     --hosts=4 [--spot | --flex-start=3d] [OPTIONS] -- TRAINING'S FLAGS
#
# Sends the code of this checkout to the bucket and creates the group. Its hosts fetch the code at
# every boot, install it and start or resume `xmc train` as the system service "xmc". The hosts of a
# slice come and go together: when one is taken away, delete the group and run the command again.
# Training's flags are those of `xmc train`; --workdir must be a bucket, gs://BUCKET/DIR.
#
#   --name --zone    of the group
#   --machine        machine type, such as ct5p-hightpu-4t, ct6e-standard-4t, tpu7x-standard-4t
#   --topology       of the slice, such as 4x4 for 16 chips of a v6e
#   --hosts          chips of the slice divided by those of the machine type
#   --spot           on spot machines
#   --flex-start     wait for machines that stay this long, at most 7d, and are deleted then
#   --project        default: that of `gcloud config`
#   --data --setup   what hosts get before training, see README.md
#   --dry-run        print the commands, run none
#   --KEY=VALUE      any other option goes to `gcloud compute instance-templates create`, such as
#                    --image-family and --image-project
set -euo pipefail
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/lib_tpu.sh"
name='' zone='' machine='' topology='' hosts='' spot='' flex_start='' project='' data='' setup=''
parse 'name zone machine topology hosts spot? flex_start project data setup' "$@"
need name zone machine topology hosts
check_train
check_paths

gcloud=(gcloud compute) mine=(${project:+--project="$project"})
place=(--zone="$zone" ${mine[@]+"${mine[@]}"}) region=(--region="${zone%-*}" ${mine[@]+"${mine[@]}"})
policy=$name  # gcloud may want the whole path, which needs the project
[[ ! $project ]] || policy=projects/$project/regions/${zone%-*}/resourcePolicies/$name
model=(--boot-disk-size=200GB)
[[ ! $spot ]] || model+=(--provisioning-model=SPOT --instance-termination-action=DELETE)
[[ ! $flex_start ]] || model+=(--provisioning-model=FLEX_START --max-run-duration="$flex_start"
  --instance-termination-action=DELETE --reservation-affinity=none)
run cd "$root"
upload_code
# First, because a part may be there if a later command fails.
echo "# delete:  $(quote "${gcloud[@]}" instance-groups managed delete "$name" "${place[@]}")"
echo "#          $(quote "${gcloud[@]}" instance-templates delete "$name" \
  ${mine[@]+"${mine[@]}"})"
echo "#          $(quote "${gcloud[@]}" resource-policies delete "$name" "${region[@]}")"
run "${gcloud[@]}" resource-policies create workload-policy "$name" --type=high-throughput \
  --accelerator-topology="$topology" "${region[@]}"
run "${gcloud[@]}" instance-templates create "$name" --machine-type="$machine" \
  --maintenance-policy=TERMINATE --scopes=cloud-platform \
  --metadata="^:xmc:^startup-script=$(host_script)" ${mine[@]+"${mine[@]}"} \
  ${model[@]+"${model[@]}"} ${extra[@]+"${extra[@]}"}
run "${gcloud[@]}" instance-groups managed create "$name" "${place[@]}" --size="$hosts" \
  --template="$name" --workload-policy="$policy" --default-action-on-vm-failure=do-nothing
echo "# state:   $(quote "${gcloud[@]}" instance-groups managed list-instances "$name" "${place[@]}")"
echo "# log:     $(quote "${gcloud[@]}" ssh HOST "${place[@]}" -- journalctl --unit=xmc --follow)"
