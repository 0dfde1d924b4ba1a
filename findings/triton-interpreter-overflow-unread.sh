#!/usr/bin/env bash
# Triton 3.7.1 with numpy 2.4.6: the interpreter checks integers for overflow, and nobody reads the result.
#
# What runs: with TRITON_INTERPRET=1 a kernel adds 1 to two int32 numbers, the larger of them 2^31 - 1;
# the interpreter's own options are read, and the blocks that it makes for this one sum are counted.
# Seen: its options ask for the check (sanitize_overflow is true), and for each sum it widens both
# operands, adds them again and compares twice: 14 blocks of numbers for a sum that needs two or three.
# The last step is a device assertion, which is dropped unless the option debug is on; it is off, and
# neither TRITON_DEBUG=1 nor debug=True at the launch turns it on. The sum wraps to -2^31 and no error is
# raised. (In our kernels the check took a quarter of the interpreter's time.)
# Hoped for: an error, as on a GPU in debug mode; or no check.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "torch==2.13.0" "triton==3.7.1" "numpy==2.4.6"
cat > "$folder/add.py" <<'PYTHON'
import numpy
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter


@triton.jit
def add_one(x, y, SIZE: tl.constexpr):
    values = tl.load(x + tl.arange(0, SIZE))
    tl.store(y + tl.arange(0, SIZE), values + 1)


@triton.jit
def copy(x, y, SIZE: tl.constexpr):
    values = tl.load(x + tl.arange(0, SIZE))
    tl.store(y + tl.arange(0, SIZE), values)


made = 0
plain = interpreter.TensorHandle.__post_init__


def counting(self):
    global made
    made += 1
    plain(self)


interpreter.TensorHandle.__post_init__ = counting
options = interpreter.interpreter_builder.options
x = torch.tensor([1, 2**31 - 1], dtype=torch.int32)
y = torch.empty_like(x)
counts = []
for kernel in (copy, add_one):
    made = 0
    kernel[(1,)](x, y, SIZE=2, debug=True)
    counts.append(made)
print("triton", triton.__version__, "numpy", numpy.__version__)
print("sanitize_overflow:", options.sanitize_overflow, "debug:", options.debug)
print(x.tolist(), "+ 1 =", y.tolist(), "; blocks for the sum:", counts[1] - counts[0])
assert options.sanitize_overflow and not options.debug, "this has changed"
assert y.tolist() == [2, -(2**31)], "this has changed"
assert counts[1] - counts[0] == 14, "this has changed"
PYTHON
TRITON_INTERPRET=1 TRITON_DEBUG=1 "$folder/environment/bin/python" -W ignore "$folder/add.py"
echo "still so: the check is made, and the overflow passes"
