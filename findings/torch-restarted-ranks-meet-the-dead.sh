#!/usr/bin/env bash
# torch 2.13.0: torchrun starts failed ranks again, and they look for each other at the addresses of the dead.
#
# What runs: two ranks over gloo under `torchrun --standalone --max-restarts 2`; the second one is killed behind
# its first all-reduce, in the first start only. At most eight runs, until one fails.
# Seen: in about half of the runs the ranks that are started again end with "Connection refused", or hang, in every
# restart. torchrun's process of the first node keeps one TCPStore over all starts, its keys with it, and nothing
# in them says which start they are of: who reads before the others have written reads addresses of the dead. With
# TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 the first rank holds a new store each time, and every restart succeeds. (A
# third node that joins two others waits under the shared store for that store's address, which the first node
# writes in its first round alone; it ends with a timeout, and takes the others with it.)
# Hoped for: keys, or a store, of each start's own, as the older /worker/attempt_N was.
#
# It needs Python 3.10 to 3.13 and PyPI; it ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=${PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$folder/environment"
    python=$folder/environment/bin/python
    "$python" -m pip install --quiet "torch==2.13.0" numpy
fi
cat >"$folder/rank.py" <<'PYTHON'
import os
import signal

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
dist.all_reduce(torch.ones(1))
PYTHON
ends() {
    OMP_NUM_THREADS=1 TORCH_DISABLE_SHARE_RDZV_TCP_STORE=$1 timeout 60 "$python" -m torch.distributed.run \
        --standalone --nproc-per-node 2 --max-restarts 2 "$folder/rank.py" >"$folder/said-$1" 2>&1 </dev/null
}
failed=0
for _ in 1 2 3 4 5 6 7 8; do
    ends 1
    if ! ends 0; then
        failed=1
        break
    fi
done
if [ "$failed" = 0 ]; then
    echo "this has changed: ranks that are started again meet"
    exit 1
fi
echo "still so: ranks that torchrun starts again may not meet at the store that it keeps"
