"""A model's tokenizer as transformers loads it, which makes the ids that lm-eval's model reads."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainer.data.tokenizer import Tokenizer
from trainer.errors import CheckpointError
from trainer.hugging_face.config_writing import config_of
from trainer.hugging_face.quiet import quiet_transformers
from trainer.recipe.model import ModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def transformers_tokenizer(
    tokenizer: Tokenizer, model: ModelSection, longest: int
) -> "PreTrainedTokenizerBase":
    """The tokenizer as AutoTokenizer reads it from the model's exported folder.

    `model`, `longest`: what its config.json says, by which transformers may choose the class.
    """
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as name, quiet_transformers():
        folder = Path(name)
        tokenizer.save(folder)
        with suppress(CheckpointError):  # a model of no family: its files alone decide
            config = config_of(model, longest, torch.float32, tokenizer)
            (folder / "config.json").write_text(json.dumps(config))
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded
