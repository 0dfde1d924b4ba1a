"""Importing this loads all that a CPU rank needs, so that ranks can be forked in an instant.

Imports of megatron-core and DeepSpeed take seconds of one core a process: eight ranks on two cores
that import for themselves meet after 24 s, forks of one warm process after 5.
"""

from trainer.parallel.cpu import use_cpu

use_cpu()

import deepspeed  # noqa: E402, F401

import trainer.model.transformer  # noqa: E402
import trainer.parallel.megatron  # noqa: E402
import trainer.parallel.zero.replicated  # noqa: E402
import trainer.parallel.zero.sharded  # noqa: E402, F401
