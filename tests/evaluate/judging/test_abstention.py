"""Refusals are recognised in the wordings they come in, and answers that sound like one are not."""

import signal
from pathlib import Path
from types import FrameType

import pytest

from trainer.evaluate.judging.abstention import abstention
from trainer.evaluate.judging.clauses import LONGEST_CLAUSE, clauses
from trainer.evaluate.judging.spelling import respelled

HERE = Path(__file__).parent


def lines(name: str) -> list[str]:
    return HERE.joinpath(name).read_text(encoding="utf-8").splitlines()


def test_the_lists_are_as_long_as_they_claim() -> None:
    """Would catch a list cut short, by which the two tests below could pass on little."""
    assert len(set(lines("refusals.txt"))) >= 200
    assert len(set(lines("near_refusals.txt"))) >= 100


@pytest.mark.parametrize("form", ["as written", "curly", "upper", "lower"])
def test_refusals_are_recognised(form: str) -> None:
    """Would catch a wording of ignorance or of denial that is counted as a confident answer."""
    turned = {
        "as written": lambda text: text,
        "curly": lambda text: text.replace("'", "\u2019"),
        "upper": str.upper,
        "lower": str.lower,
    }[form]
    assert [line for line in lines("refusals.txt") if abstention(turned(line)) is None] == []


def test_answers_that_sound_like_a_refusal_are_answers() -> None:
    """Negative control: would catch patterns that see a refusal in any "not" or "unknown"."""
    assert [line for line in lines("near_refusals.txt") if abstention(line) is not None] == []


@pytest.mark.parametrize("text", ["", " \n", "...", "?", "-", "\u2014", "\U0001f937"])
def test_nothing_is_no_answer(text: str) -> None:
    """Would catch an empty answer that is scored as a false one."""
    assert abstention(text) == "ignorance"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I don't know.", "ignorance"),
        ("I'm not familiar with that book.", "ignorance"),
        ("There is no such country.", "denial"),
        ("I'm sorry, but that animal does not exist.", "denial"),
        ("It is a fictional country.", "denial"),
    ],
)
def test_denial_is_told_from_ignorance(text: str, kind: str) -> None:
    """Would catch a false "France does not exist" that is taken for modesty."""
    assert abstention(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "I'm not sure, but I think it's Paris.",
        "I don't know. Paris?",
        "Not sure, maybe Paris.",
        "I have no record of it. It was written by Jane Harrow.",
        "Paris. I know nothing more about it.",
    ],
)
def test_a_refusal_with_an_answer_is_an_answer(text: str) -> None:
    """Would catch a made-up answer that a hedge before it hides."""
    assert abstention(text) is None


@pytest.mark.parametrize(
    "text",
    ["I dont konw", "im not suer", "Im not shure", "i cant remeber", "do'nt know", "no infomation"],
)
def test_mistyped_refusals_are_recognised(text: str) -> None:
    """Would catch a letter exchanged or left out that turns "I don't know" into an answer."""
    assert abstention(text) == "ignorance"


def test_names_are_no_typing_errors() -> None:
    """Negative control: would catch a spelling that rewrites words which are right."""
    for right in ("state", "exits", "odes", "kenya", "lima", "knox", "surf", "idaho"):
        assert respelled(right) == right


def test_words_without_end_are_parted_and_none_is_lost() -> None:
    """Would catch a clause whose every word is read to its end: minutes for one long answer."""
    for word in ("so", "x" * 2000):
        text = " ".join([word] * 500)[:5000]
        read = [clause.text for clause in clauses(text)]
        assert max(map(len, read)) <= LONGEST_CLAUSE
        assert "".join(read).replace(" ", "") == text.replace(" ", "")
    assert abstention(f"{'so ' * 400}I do not know") == "ignorance"
    assert abstention(f"I do not know {'and so on ' * 300}. It is Paris.") is None


def test_a_refusal_with_doubled_spaces_is_one() -> None:
    """Would catch phrases that are sought before spaces are one: "I  don't know" is an answer."""
    assert abstention("I  don't \t know") == abstention("Ain't  got a clue") == "ignorance"
    assert abstention("I  know the title but not  the author.") == "ignorance"


@pytest.mark.parametrize(("run", "kind"), [("[", "ignorance"), (" ", "ignorance"), ("(a) ", None)])
def test_a_long_run_of_one_sign_is_read_once(run: str, kind: str | None) -> None:
    """Would catch a pattern that reads the run from each of its places: minutes, not a second.

    The alarm is for what hangs: it is a hundred times what the linear reading takes.
    """

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"{run!r} 400,000 times is still being read")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(90)
    try:
        assert abstention(run * (400_000 // len(run))) == kind
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
