#!/usr/bin/env bash
# join-ray HOST:PORT COMMAND...: run a command on a Ray cluster from a container that is not part of it yet.
# A Ray driver needs a raylet beside it: this one offers no CPU and no GPU, so that no cell is placed here.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: join-ray HOST:PORT COMMAND..." >&2
    exit 2
fi
address=$1
shift

ray start --address "$address" --num-cpus 0 --num-gpus 0 --object-store-memory 1000000000 --disable-usage-stats >/dev/null
trap 'ray stop >/dev/null 2>&1 || true' EXIT
"$@"
