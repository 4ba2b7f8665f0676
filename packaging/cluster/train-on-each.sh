#!/bin/bash
# Train on several machines without a scheduler: start this on each of them, with the same words.
#
#     RUN=birds-1 FIRST=node01 NODES=4 packaging/cluster/train-on-each.sh shards/ --preset vitl16-short
#
# RUN     a name for this run, another for every run: by it a restart finds the run that it goes on with
# FIRST   host name or address of one of the machines, which all others reach
# NODES   how many machines, or from:to, as 2:4: the run then goes on with those that are there
# GPUS    processes on each (default: as many as there are GPUs)
# PORT    of FIRST (default 29400), RESTARTS of a machine's processes (default 3), DEVICE (default cuda)
#
# What is given is given to `engine train`. Folder and project must be on a disk that all machines see.

set -euo pipefail

if [ "$#" -eq 0 ]; then
    echo "usage: RUN=NAME FIRST=HOST NODES=N $0 FOLDER [OPTIONS OF engine train]" >&2
    exit 2
fi

exec torchrun \
    --nnodes "${NODES:?say how many machines: NODES=4}" \
    --nproc-per-node "${GPUS:-gpu}" \
    --rdzv-backend c10d \
    --rdzv-endpoint "${FIRST:?name one of the machines: FIRST=node01}:${PORT:-29400}" \
    --rdzv-id "${RUN:?give the run a name of its own: RUN=birds-1}" \
    --max-restarts "${RESTARTS:-3}" \
    --shutdown-timeout 120 \
    -m engine train "$@" --device "${DEVICE:-cuda}"
