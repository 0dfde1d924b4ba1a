#!/usr/bin/env bash
# torch 2.13.0 on a CPU: the same product, written as a batch of products with blocks of the weight, takes half the time.
#
# What runs: 8 rows through a linear of 576 inputs and 49,152 outputs in fp32 (a small model's output layer
# while 8 texts are written), by torch.nn.functional.linear, and by torch.bmm with 512 blocks of 96
# outputs of that same weight, which is viewed and not copied; the least CPU time of 15 calls each, in turn.
# Seen: on two threads of an Intel Xeon with AVX-512 linear takes 2 to 3 times the CPU time of the batch with
# 4 to 15 rows (8 rows: 10.6 against 3.7 ms), and as much with 1 or 16 rows; both agree with fp64 to
# fp32's rounding.
# Hoped for: that the library's own product of a few rows is not the slower spelling of the two.
#
# It needs Python 3.10 to 3.13, PyPI, and a CPU where torch's build multiplies with MKL; it ends with 0 while
# this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "torch==2.13.0" numpy
"$folder/environment/bin/python" -W ignore - <<'PYTHON'
import time

import torch
from torch.nn.functional import linear

torch.manual_seed(0)
torch.set_grad_enabled(False)
weight = torch.randn(49152, 576)
blocks = weight.view(512, 96, 576).transpose(1, 2)


def in_blocks(x, _weight):
    return torch.bmm(x.expand(512, -1, -1), blocks).transpose(0, 1).reshape(len(x), -1)


def cost(product, x):
    before = time.process_time()
    product(x, weight)
    return time.process_time() - before


print("torch", torch.__version__, "on", torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), "threads")
for rows in (1, 4, 8, 15, 16):
    x = torch.randn(rows, 576)
    exact = x.double() @ weight.double().t()
    for product in (linear, in_blocks):
        assert torch.allclose(product(x, weight).double(), exact, atol=1e-3), product
    rounds = [(cost(linear, x), cost(in_blocks, x)) for _ in range(15)]
    whole, parts = map(min, zip(*rounds, strict=True))
    print(f"{rows} rows: linear {whole * 1000:.1f} ms of CPU, in blocks {parts * 1000:.1f} ms, {whole / parts:.2f} times")
    if rows == 8:
        assert whole > 1.4 * parts, "this has changed"
PYTHON
echo "still so: a linear of 8 rows is slower than the batch of its parts"
