"""Importing this loads what ranks of tests need: also what a run loads only where it shards."""

from launch.warm import load_deepspeed

load_deepspeed()

import tests.parity.training  # noqa: E402, F401
