"""A tokenizer as the metadata of a GGUF file.

Refused in one line is what its keys cannot say: whoever reads the file would make other tokens.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import gguf
import tokenizers
from gguf import TokenType

from trainer.data.tokenizer import CONFIG_FILE, GENERATION_FILE, MAIN_FILE, Tokenizer
from trainer.errors import CheckpointError
from trainer.gguf.pre_tokenizers import SPLITTINGS, steps_of
from trainer.gguf.vocabulary import SAMPLING, WORD_START, merges_of

_ENDS = ("eos", "eot", "eom")
"""The keys for ids that end a text, in the order in which they are given away."""


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, rows: int) -> None:
    """Add a tokenizer for an embedding of `rows` rows, its chat templates and generation's ids.

    Rows without a token are listed as unused. Raises CheckpointError for what GGUF cannot say.
    """
    content = json.loads(tokenizer.files[MAIN_FILE])
    if tokenizer.size > rows:
        raise _refused(f"has {tokenizer.size} tokens, and the embedding {rows} rows")
    if content["model"]["type"] != "BPE":
        raise _refused(f"is a {content['model']['type']}, and BPE is written")
    tokens, types = _tokens(content, rows)
    if content["model"].get("byte_fallback"):
        _add_sentencepiece(writer, content, tokens, types)
    else:
        _add_byte_level(writer, content)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    _add_special(writer, tokenizer, content)
    templates = [{"name": name, "template": it} for name, it in tokenizer.named_templates.items()]
    for name in tokenizer.named_templates:
        if not name.replace("_", "").isalnum() or not name.isascii():
            raise _refused(f"has a chat template named {name!r}: letters, digits and _ are written")
    if tokenizer.chat_template is not None:
        templates.append({"name": "default", "template": tokenizer.chat_template})
    writer.add_chat_template(templates)


def _tokens(content: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """The text and TokenType of each id."""
    vocab: dict[str, int] = content["model"]["vocab"]
    found = {number: (token, TokenType.NORMAL) for token, number in vocab.items()}
    if content["model"].get("byte_fallback"):
        bytes_ = {f"<0x{byte:02X}>" for byte in range(256)}
        found |= {vocab[token]: (token, TokenType.BYTE) for token in bytes_ & vocab.keys()}
        if (unknown := content["model"].get("unk_token")) is not None:
            found[vocab[unknown]] = (unknown, TokenType.UNKNOWN)
    for added in content.get("added_tokens") or []:
        strips = [key for key in ("lstrip", "rstrip", "single_word") if added.get(key)]
        if strips:
            raise _refused(f"has {added['content']!r} with {strips[0]}, which GGUF cannot say")
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        if found.get(added["id"], ("", 0))[1] != TokenType.UNKNOWN:
            found[added["id"]] = (added["content"], kind)
    listed = [found.get(number, (f"[PAD{number}]", TokenType.UNUSED)) for number in range(rows)]
    return [token for token, _kind in listed], [int(kind) for _token, kind in listed]


def _add_byte_level(writer: gguf.GGUFWriter, content: dict[str, Any]) -> None:
    model = content["model"]
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise _refused(f"has a {key}")
    steps = steps_of(content.get("pre_tokenizer"))
    whole_words = bool(model.get("ignore_merges"))
    normalizer = (content.get("normalizer") or {}).get("type")
    name = next(
        (
            name
            for name, known in SPLITTINGS.items()
            if known.steps == steps
            and known.whole_words == whole_words
            and normalizer == ("NFC" if known.normalized else None)
        ),
        None,
    )
    if name is None or (content.get("decoder") or {}).get("type") != "ByteLevel":
        raise _refused("splits or normalizes texts in a way that llama.cpp has no name for")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_merges([" ".join(_pair(merge)) for merge in model["merges"]])


def _add_sentencepiece(
    writer: gguf.GGUFWriter, content: dict[str, Any], tokens: Sequence[str], types: Sequence[int]
) -> None:
    """Merges become scores: a token's falls with the rank of the first merge that makes it."""
    prefix = _space_prefix(content)
    merges = [_pair(merge) for merge in content["model"]["merges"]]
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    scores = {token: -float(ranks.get(token, len(merges))) for token in tokens}
    normal = [token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.NORMAL]
    plain = set(normal)
    made = [pair for pair in merges if {*pair, "".join(pair)} <= plain]
    if merges_of(normal, scores) != made:
        raise _refused("has merges that follow from no scores of SentencePiece's kind")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores([scores[token] for token in tokens])
    writer.add_add_space_prefix(prefix)


def _space_prefix(content: dict[str, Any]) -> bool:
    """Whether a space is put before a text, by the pre-tokenizer, or by an older normalizer."""
    before, normalizer = content.get("pre_tokenizer") or {}, content.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    spelled = {"type": "Replace", "pattern": {"String": " "}, "content": WORD_START}
    prepended = {"type": "Prepend", "prepend": WORD_START}
    if before.get("type") == "Metaspace" and not steps and not before.get("split", True):
        return bool(before.get("prepend_scheme") != "never")
    if not before and steps in ([spelled], [prepended, spelled]):
        return len(steps) == 2
    raise _refused("splits or normalizes texts in a way that SentencePiece's files do not")


def _add_special(writer: gguf.GGUFWriter, tokenizer: Tokenizer, content: dict[str, Any]) -> None:
    config = json.loads(tokenizer.files.get(CONFIG_FILE, b"{}"))
    generation = json.loads(tokenizer.files.get(GENERATION_FILE, b"{}"))
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    plain = backend.encode("a", add_special_tokens=False).ids
    whole = backend.encode("a").ids
    behind = whole[len(tokenizer.start) + len(plain) :]
    if len(tokenizer.start) > 1 or behind not in ([], [tokenizer.end_of_text]):
        raise _refused("puts more than a bos token before a text, or than the eos token behind it")
    begin = tokenizer.start[0] if tokenizer.start else _id(config, "bos_token", backend)
    if begin is not None:
        writer.add_bos_token_id(begin)
    writer.add_add_bos_token(bool(tokenizer.start))
    writer.add_add_eos_token(bool(behind))
    ends = [tokenizer.end_of_text, *sorted(tokenizer.ends - {tokenizer.end_of_text})]
    if len(ends) > len(_ENDS):
        raise _refused(f"ends texts at {len(ends)} tokens, and GGUF names {len(_ENDS)}")
    for name, end in zip(_ENDS, ends, strict=False):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", end)
    special: dict[str, Callable[[int], None]] = {
        "unk_token": writer.add_unk_token_id,
        "pad_token": writer.add_pad_token_id,
    }
    for key, add in special.items():
        if (number := _id(config, key, backend)) is not None:
            add(number)
    for theirs, ours in SAMPLING.items():
        value = generation.get(ours)
        if isinstance(value, int | float) and not isinstance(value, bool):
            add_number = writer.add_int32 if theirs == "top_k" else writer.add_float32
            add_number(f"general.sampling.{theirs}", value)


def _id(config: dict[str, Any], key: str, backend: tokenizers.Tokenizer) -> int | None:
    named = config.get(key)
    if isinstance(named, dict):
        named = named.get("content")
    return backend.token_to_id(named) if isinstance(named, str) else None


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """A merge, which older files write as one text."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _refused(what: str) -> CheckpointError:
    return CheckpointError(
        f"the tokenizer {what}: a GGUF file cannot hold it; export a Hugging Face folder"
    )
