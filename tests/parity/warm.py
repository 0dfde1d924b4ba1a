"""Importing this loads what ranks of tests need: also what a run loads only for some recipes."""

from launch.warm import load_deepspeed

load_deepspeed()

import transformers.utils.chat_template_utils  # noqa: E402, F401

import tests.parity.training  # noqa: E402, F401
import trainer.conversations.examples  # noqa: E402, F401
