"""The first example that a run prints: what its reader checks must be in it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.token_flags import TARGET
from trainer.data.tokenizer import train_tokenizer
from trainer.stages.example import ANSWER, BEFORE, END, HEAD, SHOWN_TOKENS, shown_parts

TOKENIZER = train_tokenizer(["a"], 259)
LETTERS = TOKENIZER.encode("abcdefghij")


def example(prompt: int, answer: int, after: int) -> list[int]:
    """Tokens of one byte each; those of the answer are supervised."""
    tokens = [LETTERS[n % 10] for n in range(prompt + answer + after)]
    return [t | TARGET if prompt <= n < prompt + answer else t for n, t in enumerate(tokens)]


def test_a_long_prompt_hides_neither_the_answer_nor_the_end() -> None:
    """Catches an example cut before its first supervised token, however long its prompt."""
    tokens = example(prompt=50_000, answer=300, after=3_000)
    shown = shown_parts(tokens, True, TOKENIZER)
    text = "".join(piece for _, piece in shown)
    assert text.startswith("abcdefghij" * (HEAD // 10))
    assert text.endswith("".join("abcdefghij"[n % 10] for n in range(53_300 - END, 53_300)))
    supervised = [piece for target, piece in shown if target]
    assert supervised == ["".join("abcdefghij"[n % 10] for n in range(ANSWER))]
    assert " ... 49,808 tokens ... " in text and f" ... {50_000 - HEAD - BEFORE:,} tok" in text


@settings(max_examples=30)
@given(st.integers(0, 2000), st.integers(1, 2000), st.integers(0, 2000))
def test_what_is_shown_and_left_out_is_the_whole_example(
    prompt: int, answer: int, after: int
) -> None:
    """Catches tokens shown twice, or lost where two of the parts touch."""
    tokens = example(prompt, answer, after)
    shown = shown_parts(tokens, True, TOKENIZER)
    left_out = [piece for _, piece in shown if piece.startswith(" ... ")]
    skipped = sum(int(piece.split()[1].replace(",", "")) for piece in left_out)
    letters = sum(len(piece) for _, piece in shown) - sum(map(len, left_out))
    assert letters + skipped == len(tokens)
    assert letters <= SHOWN_TOKENS and any(target for target, _ in shown)
    assert bool(left_out) == (len(tokens) > SHOWN_TOKENS)


def test_an_answer_that_begins_in_the_head_is_one_run() -> None:
    """Catches ]][[ inside of an answer, where two of the parts touch."""
    shown = shown_parts(example(HEAD - 40, 2 * SHOWN_TOKENS, 0), True, TOKENIZER)
    assert [target for target, _ in shown] == [False, True, False, True]
    assert len(shown[1][1]) == ANSWER
