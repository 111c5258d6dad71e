# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the scripts that source this have parsed these and read those
# What the scripts for TPUs share: the code's way to the hosts, and what hosts do.

check_paths() {
  [[ $workdir == gs://?* ]] || die "--workdir $workdir: hosts share no disk; use gs://BUCKET/DIR"
  [[ $config == configs/* || $config != */* && $config != *.py* ]] \
    || die "--config $config: hosts get what is in configs/; put it there"
}

check_tpu() {  # Sets $version, $resource and $vm
  check_paths
  [[ -z $type || $version ]] || case $type in  # cloud.google.com/tpu/docs/runtimes
    v[234]-*) version=tpu-ubuntu2204-base ;;
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    *) die "--type=$type has no runtime version that is known here; add --version=..." ;;
  esac
  resource=(gcloud ${project:+--project="$project"} compute tpus queued-resources)
  vm=(gcloud ${project:+--project="$project"} compute tpus tpu-vm)
}

upload_code() {  # The code as it lies here goes next to the run: any host that starts fetches it
  run mkdir -p build
  run tar -czf build/code.tar.gz "${code[@]}"
  run gcloud ${project:+--project="$project"} storage cp build/code.tar.gz "$workdir/code.tar.gz"
}

# What each host runs as root, at every boot or by hand. Flags by hand stay for later boots, which
# run what the TPU was created with.
host_script() {  # host_script [by-hand]
  local keep='[[ -f /opt/xmc/flags ]] || '
  [[ ! ${1-} ]] || keep=''
  cat <<SCRIPT
#!/bin/bash
set -eo pipefail
export PATH=\$PATH:/snap/bin
mkdir -p /opt/xmc
exec 9>/opt/xmc/.lock && flock 9
${keep}printf %s $(quote "$(host_words)") >/opt/xmc/flags
for left in 4 3 2 1 0; do
  gcloud storage cat $(quote "$workdir/code.tar.gz") | tar -xz -C /opt/xmc && break
  ((left))
  sleep 30
done
eval "bash /opt/xmc/launch/hosts/tpu.sh \$(cat /opt/xmc/flags)"
SCRIPT
}

send_start() {  # Hosts that are up fetch the code, install it and start
  run "${vm[@]}" ssh "$name" --zone="$zone" --quiet --worker=all \
    --command="sudo bash -c $(quote "$(host_script by-hand)")"
}

tell_how() {  # tell_how DELETE COMMAND...: how to look at the run and how to end it
  local ssh=("${vm[@]}" ssh "$name" --zone="$zone")
  echo "# log:     $(quote "${ssh[@]}" '--command=journalctl --unit=xmc --follow')"
  echo "# stop:    $(quote "${ssh[@]}" --worker=all '--command=sudo systemctl stop xmc')"
  echo "# resume:  $(quote "${ssh[@]}" --worker=all '--command=sudo systemctl start xmc')"
  echo "# delete:  $(quote "$@")"
}
