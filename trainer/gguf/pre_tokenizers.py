"""How texts are split before a byte-level BPE, by the values of tokenizer.ggml.pre.

llama.cpp names each way of splitting by the first model that had it. transformers 5.23 knows fewer
of the names, and splits the others as GPT-2 does: SmolLM2's digits come out joined there.
Sources: llama.cpp's src/llama-vocab.cpp, and the tokenizer.json of the models themselves.
"""

import json
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, pre_tokenizers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN_WORDS = tuple(
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}{upper}{_LOWER}{lower}" for upper, lower in ("*+", "+*")
)
_TEKKEN_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

LLAMA3 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_REST}"
QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_REST}"
TEKKEN = "|".join((*_TEKKEN_WORDS, r"\p{N}", _TEKKEN_REST))
GPT_4O = "|".join(
    (*(f"{word}{_CONTRACTIONS}?" for word in _TEKKEN_WORDS), r"\p{N}{1,3}", _TEKKEN_REST)
)
_CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK3_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_DIGITS, _BYTES, _BY_GPT2 = "digits", "bytes", "bytes, by GPT-2's pattern"


@dataclass(frozen=True)
class Splitting:
    """What comes before the merges: `patterns`, each split by in turn, then bytes; `by_gpt2`:
    whether GPT-2's own pattern is the last.

    `digits`: each digit alone, before anything else; `normalized`: to NFC; `whole_words`: a word
    that is a token needs no merges; `starts`: texts begin with the bos token, where a file does not
    say.
    """

    patterns: tuple[str, ...] = ()
    by_gpt2: bool = False
    digits: bool = False
    normalized: bool = False
    whole_words: bool = False
    starts: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps by pattern, or by a word for those that have none."""
        digits = (_DIGITS,) * self.digits
        return (*digits, *self.patterns, _BY_GPT2 if self.by_gpt2 else _BYTES)


GPT2 = Splitting(by_gpt2=True)
_SPLIT_DIGITS = Splitting(by_gpt2=True, digits=True)
_LLAMA3 = Splitting((LLAMA3,), whole_words=True, starts=True)
_QWEN2 = Splitting((QWEN2,), normalized=True)

SPLITTINGS: dict[str, Splitting] = {
    # The first of those with one splitting is the name that is written.
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat"), GPT2),
    **dict.fromkeys(("exaone4", "granite-docling"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell", "minerva-7b"), _SPLIT_DIGITS),
    **dict.fromkeys(("command-r", "exaone"), _SPLIT_DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1"), _LLAMA3),
    **dict.fromkeys(("pixtral", "midm-2.0", "lfm2", "jina-v5-nano"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), Splitting((LLAMA3,))),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"), _QWEN2),
    **dict.fromkeys(("stablelm2", "hunyuan"), Splitting((QWEN2,))),
    "tekken": Splitting((TEKKEN,), whole_words=True, starts=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie"), Splitting((GPT_4O,))),
    "deepseek-v3": Splitting((r"\p{N}{1,3}", _CJK, _DEEPSEEK3_WORDS)),
}
"""By tokenizer.ggml.pre."""


def pre_tokenizer(splitting: Splitting) -> Any:
    """The pre-tokenizer of the tokenizers library that splits so."""
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] * splitting.digits
    steps += [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in splitting.patterns
    ]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.by_gpt2))
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def steps_of(described: dict[str, Any] | None) -> tuple[str, ...]:
    """The steps of a tokenizer.json's pre_tokenizer, as `Splitting.steps`; others as their JSON."""
    if not described:
        return ()
    kind = described.get("type")
    if kind == "Sequence":
        return tuple(one for each in described["pretokenizers"] for one in steps_of(each))
    if kind == "Digits" and described.get("individual_digits"):
        return (_DIGITS,)
    if kind == "ByteLevel" and not described.get("add_prefix_space", True):
        return (_BY_GPT2 if described.get("use_regex", True) else _BYTES,)
    if kind == "Split" and "Regex" in described.get("pattern", {}):
        # Keeping what matches, or dropping what does not: these patterns match everything.
        kept = (described.get("behavior"), bool(described.get("invert")))
        if kept in (("Isolated", False), ("Removed", True)):
            return (str(described["pattern"]["Regex"]),)
    return (json.dumps(described),)
