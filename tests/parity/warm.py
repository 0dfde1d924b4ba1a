"""Importing this loads what ranks of tests need: also what a run loads only for some recipes."""

from launch.warm import load_deepspeed
from trainer.collector import importing

load_deepspeed()

with importing():
    import transformers.utils.chat_template_utils  # noqa: F401

    import tests.parity.training  # noqa: F401
    import trainer.conversations.examples  # noqa: F401
