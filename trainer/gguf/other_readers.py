"""What a GGUF file says that other programs leave unread, so that no model changes in silence."""

import logging

from trainer.recipe.model import ModelSection

_log = logging.getLogger(__name__)

_THEIRS = "transformers 5.23"
_QWEN3_WIDTH = 128


def say_what_others_leave_unread(family: str, model: ModelSection) -> None:
    """Warn of parts of a model that are written, and that llama.cpp or transformers do not read.

    `family`: transformers' name of it.
    """
    if model.window is not None:
        _log.warning(
            "the window of %d tokens is written, and read here; of this architecture llama.cpp and"
            " transformers read none: there, longer texts are seen whole",
            model.window,
        )
    if model.rope_scaling is not None:
        _log.warning(
            "model.rope_scaling (%s) is written, and read here and by llama.cpp; %s reads none from"
            " a GGUF file: there, positions are rotated as without it; export a Hugging Face folder"
            " for it",
            *(model.rope_scaling.type, _THEIRS),
        )
    usual = {"qwen2": model.hidden // model.heads, "qwen3": _QWEN3_WIDTH}.get(family)
    if usual not in (None, model.head_width):
        _log.warning(
            "heads are %d wide, which the file says; %s expects %d of this architecture, and"
            " refuses such a GGUF file; export a Hugging Face folder for it",
            *(model.head_width, _THEIRS, usual),
        )
