# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # what is set here is read by the scripts that source this
# What the launch scripts share: arguments, quoting, dry runs. Needs no more than macOS's bash 3.2.
# Those that start hosts have --data=FROM, a prepared data set in a bucket or a folder, and
# --setup=COMMAND; hosts copy and run these before training (hosts/train.sh).

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
code=(launch configs xmc_jax setup.cfg pyproject.toml README.md LICENSE NOTICE)  # what hosts need
dry_run='' extra=() train=() config='' workdir=''

die() { echo "$(basename "$0"): $*" >&2 && exit 2; }

# parse 'OWN OPTIONS' "$@": --key=value or --key value sets $key if `key` is an own option, --key if
# `key?` is. Other options go to `extra`, for the tool underneath; what follows -- goes to `train`.
parse() {
  local own=" $1 dry_run? " key
  while shift && (($#)) && [[ $1 != -- ]]; do
    [[ $1 != --help ]] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit 0; }
    [[ $1 == --?* ]] || die "$1 is not an option: write --KEY=VALUE, and flags of training after --"
    key=${1%%=*} && key=${key#--} && key=${key//-/_}
    if [[ $own == *" $key? "* && $1 == *=* ]]; then die "${1%%=*} takes no value; leave it out for no"
    elif [[ $own == *" $key? "* ]]; then printf -v "$key" 1
    elif [[ $own != *" $key "* ]]; then extra+=("$1")
    elif [[ $1 == *=* ]]; then printf -v "$key" %s "${1#*=}"
    elif [[ ${2-} && $2 != --* ]]; then printf -v "$key" %s "$2" && shift
    else die "$1 needs a value"; fi
  done
  (($# == 0)) || { shift && train=("$@"); }
}

need() {  # need OPTION...: each has been given
  local key
  for key; do [[ ${!key} ]] || die "--${key//_/-}=... is missing; --help tells what it is"; done
}

check_train() {  # Sets $config and $workdir, from the flags of training
  config=$(value_of config ${train[@]+"${train[@]}"})
  workdir=$(value_of workdir ${train[@]+"${train[@]}"})
  [[ $config && $workdir ]] || die 'flags of training are missing: -- --config FILE --workdir DIR'
  local file=$config  # FILE, FILE:VARIANT, or NAME of configs/NAME.py with or without a variant
  (cd "$root" && [[ -f $file ]]) || file=${config%:*}
  [[ $file == */* || $file == *.py ]] || file=configs/${config%%:*}.py
  (cd "$root" && [[ -f $file ]]) || die "--config $config: no such file in the checkout, $root"
}

value_of() {  # value_of NAME ARGUMENTS...: the value of the flag --NAME, or nothing; the last wins
  local name=$1 value=''
  while shift && (($#)); do
    case $1 in
      --"$name"=* | -"$name"=*) value=${1#*=} ;;
      --"$name" | -"$name") value=${2-} ;;
    esac
  done
  printf %s "$value"
}

quote() {  # The words as a shell reads them back
  local word single="'" escaped="'\\''" space=''
  for word; do
    [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || word="'${word//$single/$escaped}'"
    printf '%s%s' "$space" "$word" && space=' '
  done
}

host_words() {  # The words of hosts/train.sh, as a shell reads them
  quote ${data:+--data="$data"} ${setup:+--setup="$setup"} -- "${train[@]}"
}

# Runs a command, or prints it in a dry run.
run() { if [[ $dry_run ]]; then quote "$@" && echo; else "$@"; fi; }
