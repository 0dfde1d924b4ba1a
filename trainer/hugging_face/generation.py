"""What a model's own generation_config.json asks for that no option of ours does."""

import json
from typing import Any

from trainer.parsing import read_json

_OFF: dict[str, Any] = {
    **{"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_p": 0.0, "typical_p": 1.0},
    **{"num_beams": 1, "penalty_alpha": 0.0, "min_length": 0, "min_new_tokens": 0},
    **{"encoder_repetition_penalty": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0},
    **{"diversity_penalty": 0.0, "top_h": 0.0, "guidance_scale": 1.0},
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "sequence_bias")),
    **dict.fromkeys(("exponential_decay_length_penalty", "stop_strings")),
}
"""Settings of transformers' generate that change what it writes, and what leaves each off."""
_OPTIONS = {"temperature": "--temperature", "top_k": "--top-k", "top_p": "--top-p"}


def unapplied(content: bytes) -> str | None:
    """A sentence on the settings of a generation_config.json that `lyceum generate` and `chat` do
    not take over, with the options that mean what its sampling does; None where there is none.
    """
    listed, config = unread_settings(content), _config(content)
    if not listed:
        return None
    options = " ".join(
        f"{option} {config[name]}" for name, option in _OPTIONS.items() if config.get(name)
    )
    more = f"; of its sampling they take {options}" if options else ""
    return f"{listed} of its generation_config.json is not applied by generate and chat{more}"


def unread_settings(content: bytes) -> str:
    """The settings of a generation_config.json that change what transformers writes, and that no
    text of ours follows: "repetition_penalty 1.1, ..."; empty where there is none.
    """
    asked = {
        name: held
        for name, held in _config(content).items()
        if name in _OFF and held is not None and held not in (_OFF[name], [], {})
    }
    return ", ".join(f"{name} {json.dumps(held)}" for name, held in asked.items())


def _config(content: bytes) -> dict[str, Any]:
    try:
        config = read_json(content)
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}
