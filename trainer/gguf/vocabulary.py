"""The tokenizer that a GGUF file's metadata describes, as the files of a Hugging Face folder."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import tokenizers
from gguf import TokenType
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from trainer.data.tokenizer import (
    CONFIG_FILE,
    GENERATION_FILE,
    MAIN_FILE,
    NAMED_TEMPLATES_FOLDER,
    TEMPLATE_FILE,
    Tokenizer,
)
from trainer.errors import DataError
from trainer.gguf.metadata import Metadata
from trainer.gguf.pre_tokenizers import GPT2, SPLITTINGS, Splitting, pre_tokenizer

_log = logging.getLogger(__name__)

WORD_START = "▁"
"""How SentencePiece spells a space."""
_KEY = "tokenizer.ggml."
SAMPLING = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
"""What generation_config.json calls the keys of general.sampling."""
_SPECIAL = {
    **{"bos_token": "bos_token_id", "eos_token": "eos_token_id"},
    **{"unk_token": "unknown_token_id", "pad_token": "padding_token_id"},
}
"""The keys of tokenizer_config.json by those of GGUF."""


def read_tokenizer(metadata: Metadata) -> Tokenizer:
    """The tokenizer of a GGUF file, with its chat templates and the ids that end a text.

    Byte-level BPE (`gpt2`) and SentencePiece's BPE (`llama`) are read. Tokens that the file marks
    as control or user-defined are parsed out of rendered texts, and no merges make them of a plain
    text. Raises DataError for another kind, and where the lists that it is made of are missing or
    of different lengths.
    """
    where = str(metadata.path)
    kind = metadata.text(_KEY + "model")
    tokens = metadata.texts(_KEY + "tokens")
    if not tokens or kind in (None, "none", "no_vocab"):
        raise DataError(f"{where}: holds no tokenizer; choose a file with tokenizer.ggml.tokens")
    types = _types(metadata, len(tokens))
    special = {ours: _named(metadata, theirs, tokens) for ours, theirs in _SPECIAL.items()}
    if kind == "gpt2":
        splitting = _splitting(metadata)
        backend, starts = _byte_level(metadata, tokens, types, splitting), splitting.starts
    elif kind == "llama":
        backend, starts = _sentencepiece(metadata, tokens, types, special["unk_token"]), True
    else:
        raise DataError(
            f"{where}: tokenizer.ggml.model is {kind!r}, and gpt2 (byte-level BPE) and llama"
            " (SentencePiece's BPE) are read; choose another model"
        )
    if len(set(tokens)) < len(tokens):
        _log.warning(
            "%s: %d tokens of its tokenizer have the text of another; the last of each is made",
            *(where, len(tokens) - len(set(tokens))),
        )
    added = [
        AddedToken(token, normalized=False, special=int(of) == TokenType.CONTROL)
        for token, of in zip(tokens, types, strict=True)
        if of in (TokenType.CONTROL, TokenType.USER_DEFINED)
    ]
    backend.add_tokens(added)
    _frame(metadata, backend, special, starts)
    files = _files(metadata, backend, special, tokens)
    return Tokenizer(files, where)


def _byte_level(
    metadata: Metadata, tokens: Sequence[str], types: Sequence[int], splitting: Splitting
) -> tokenizers.Tokenizer:
    merges = metadata.texts(_KEY + "merges")
    if merges is None:
        raise DataError(f"{metadata.path}: holds no tokenizer.ggml.merges; fetch the file again")
    spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = set(spelling.alphabet())
    vocab = {}
    for number, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind == TokenType.NORMAL and not set(token) <= alphabet:
            token = "".join(part for part, _span in spelling.pre_tokenize_str(token))
        vocab[token] = number
    pairs = [merge.split(" ") for merge in merges]
    _require_pairs(metadata, pairs, vocab)
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab,
            [(pair[0], pair[1]) for pair in pairs],
            ignore_merges=splitting.whole_words,
        )
    )
    if splitting.normalized:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizer(splitting)
    backend.decoder = decoders.ByteLevel()
    metadata.value(_KEY + "add_space_prefix")
    return backend


def _require_pairs(metadata: Metadata, pairs: list[list[str]], vocab: dict[str, int]) -> None:
    for number, pair in enumerate(pairs):
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            raise DataError(
                f"{metadata.path}: tokenizer.ggml.merges, number {number}: {' '.join(pair)!r} is no"
                " pair of tokens that make a third; fetch the file again"
            )


def _splitting(metadata: Metadata) -> Splitting:
    named = metadata.text(_KEY + "pre")
    if named in SPLITTINGS:
        return SPLITTINGS[named]
    _log.warning(
        "%s: tokenizer.ggml.pre is %s, a splitting of texts that is not known here: they are split"
        " as GPT-2's, and may become other tokens than the model learned from",
        *(metadata.path, repr(named) if named else "missing"),
    )
    return GPT2


def _sentencepiece(
    metadata: Metadata, tokens: Sequence[str], types: Sequence[int], unknown: str | None
) -> tokenizers.Tokenizer:
    scores = metadata.numbers(_KEY + "scores")
    if scores is None or len(scores) != len(tokens):
        raise DataError(
            f"{metadata.path}: has {len(scores or [])} tokenizer.ggml.scores for {len(tokens)}"
            " tokens; fetch the file again"
        )
    vocab = {token: number for number, token in enumerate(tokens)}
    normal = [token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.NORMAL]
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab,
            merges_of(normal, {token: scores[vocab[token]] for token in normal}),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = metadata.flag(_KEY + "add_space_prefix") is not False
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
        WORD_START, prepend_scheme="first" if prefix else "never", split=False
    )
    steps = [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * prefix)
    if metadata.flag(_KEY + "remove_extra_whitespaces"):
        _log.warning("%s: remove_extra_whitespaces is not applied", metadata.path)
    metadata.value(_KEY + "pre")
    return backend


def merges_of(tokens: Sequence[str], scores: dict[str, float]) -> list[tuple[str, str]]:
    """The merges by which a BPE of these tokens does what SentencePiece does by their scores.

    As transformers' generate_merges, but of the tokens that a plain text may become.
    """
    order = {token: number for number, token in enumerate(tokens)}
    found = []
    for token in tokens:
        cuts = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        pairs = [pair for pair in cuts if pair[0] in order and pair[1] in order]
        pairs.sort(key=lambda pair: (order[pair[0]], order[pair[1]]))
        found += [(scores[token], pair) for pair in pairs]
    found.sort(key=lambda one: (one[0], len(one[1][0]), len(one[1][1])), reverse=True)
    return [pair for _score, pair in found]


def _types(metadata: Metadata, count: int) -> list[int]:
    """What each token is, as TokenType; a file without a list holds normal ones."""
    types = metadata.wholes(_KEY + "token_type")
    if types is None:
        return [int(TokenType.NORMAL)] * count
    if len(types) != count:
        raise DataError(
            f"{metadata.path}: has {len(types)} tokenizer.ggml.token_type for {count} tokens; fetch"
            " the file again"
        )
    return types


def _named(metadata: Metadata, key: str, tokens: Sequence[str]) -> str | None:
    number = metadata.whole(_KEY + key)
    if number is None:
        return None
    if number >= len(tokens):
        raise DataError(
            f"{metadata.path}: tokenizer.ggml.{key} is {number}, and there are {len(tokens)}"
            " tokens; fetch the file again"
        )
    return tokens[number]


def _frame(
    metadata: Metadata,
    backend: tokenizers.Tokenizer,
    special: dict[str, str | None],
    starts: bool,
) -> None:
    """Let texts begin with the bos token, and end with the eos token, where the file says so."""
    begin, end = (metadata.flag(f"{_KEY}add_{name}_token") for name in ("bos", "eos"))
    first = special["bos_token"] if (starts if begin is None else begin) else None
    last = special["eos_token"] if end else None
    if first is None and last is None:
        return
    before, behind = ([token] if token is not None else [] for token in (first, last))
    backend.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *behind],
        pair=[*before, "$A", *behind, *(f"{token}:1" for token in before), "$B:1"]
        + [f"{token}:1" for token in behind],
        special_tokens=[(token, backend.token_to_id(token)) for token in {*before, *behind}],
    )


def _files(
    metadata: Metadata,
    backend: tokenizers.Tokenizer,
    special: dict[str, str | None],
    tokens: Sequence[str],
) -> dict[str, bytes]:
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata.needed("{arch}.context_length"),
    }
    files = {
        MAIN_FILE: (backend.to_str(pretty=True) + "\n").encode(),
        CONFIG_FILE: _as_json(config),
        GENERATION_FILE: _as_json(_generation(metadata, tokens)),
    }
    if (template := metadata.text("tokenizer.chat_template")) is not None:
        files[TEMPLATE_FILE] = template.encode()
    for name in metadata.texts("tokenizer.chat_templates") or ():
        text = metadata.text(f"tokenizer.chat_template.{name}")
        if text is not None and name != "default" and name.replace("_", "").isalnum():
            files[f"{NAMED_TEMPLATES_FOLDER}/{name}.jinja"] = text.encode()
    return files


def _generation(metadata: Metadata, tokens: Sequence[str]) -> dict[str, Any]:
    """generation_config.json: ids, and what the file proposes for sampling."""
    keys = [f"{name}_token_id" for name in ("eos", "eot", "eom")]
    ends = [metadata.whole(_KEY + key) for key in keys if _named(metadata, key, tokens) is not None]
    sampling: dict[str, float | None] = {
        ours: metadata.number(f"general.sampling.{theirs}") for theirs, ours in SAMPLING.items()
    }
    if (most := sampling["top_k"]) is not None:
        sampling["top_k"] = max(0, int(most))  # below 1 is off there, and 0 in transformers
    return {
        "bos_token_id": metadata.whole(_KEY + "bos_token_id"),
        "eos_token_id": list(dict.fromkeys(end for end in ends if end is not None)) or None,
        "pad_token_id": metadata.whole(_KEY + "padding_token_id"),
        **{name: value for name, value in sampling.items() if value is not None},
    }


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
