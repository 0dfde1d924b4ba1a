"""Importing this loads all that a CPU rank needs, so that ranks can be forked in an instant.

Imports of megatron-core and DeepSpeed take seconds of one core a process: eight ranks on two cores
that import for themselves meet after 24 s, forks of one warm process after 5.
"""

from trainer.parallel.cpu import use_cpu

use_cpu()

from trainer.parallel.zero.deepspeed import prepare_deepspeed  # noqa: E402

prepare_deepspeed()

import trainer.loop  # noqa: E402, F401
