"""The special tokens that a chat template knows by name."""

from typing import Any

from trainer.data.tokenizer import CONFIG_FILE, Tokenizer
from trainer.parsing import read_json

NAMED_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def named_tokens(tokenizer: Tokenizer) -> dict[str, Any]:
    """Their texts by name: bos_token, eos_token and the others that the tokenizer has."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", CONFIG_FILE):
        if name in tokenizer.files:
            config |= read_json(tokenizer.files[name])
    extra = config.get("extra_special_tokens")
    named = {f"{kind}_token": config.get(f"{kind}_token") for kind in NAMED_TOKENS}
    named |= extra if isinstance(extra, dict) else {}
    texts = {
        key: held.get("content") if isinstance(held, dict) else held for key, held in named.items()
    }
    found = {key: text for key, text in texts.items() if isinstance(text, str)}
    return {"eos_token": tokenizer.decode([tokenizer.end_of_text]), **found}
