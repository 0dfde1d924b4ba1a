"""Where a turn ends in what a template writes, and what it writes behind all of them."""

import itertools
import re
from collections.abc import Callable, Mapping

QUESTION, PROBE = "A question.", "An answer."
"""The texts of the conversation by which a template is tried out."""


class TurnEnds:
    """Parts an answer from what a template writes behind its turn.

    `borders`: the tokens, by name, that may part turns. `token` is the one that ends an answer,
    None while none is known. Some templates write more behind the last turn, which is no part of
    it: an end of text (Phi 3), the opening of a next answer (Command A), documents, instructions.
    """

    def __init__(self, borders: Mapping[str, int]) -> None:
        self._borders = borders
        longest = sorted(borders, key=len, reverse=True)
        self._border = re.compile("|".join(map(re.escape, longest)) or r"(?!)")
        self.token: int | None = None
        self._closing = ""
        self._usual = ""
        self._endings: list[str] = []

    def first_in(self, text: str) -> str | None:
        """The first border that a text spells."""
        found = self._border.search(text)
        return found[0] if found else None

    def parted(self, behind: str, asked: Callable[[], str] | None) -> tuple[str, str]:
        """The answer to the end of its turn, and what follows it; `behind`: both.

        `asked` renders the turns before it, without a prompt for an answer, where something beside
        the turns may stand at the text's end.
        """
        body = behind.removesuffix(self._closing) if self._closing else behind
        if asked is not None and len(self._border.findall(body)) > 1:
            trailing = self._trailing(asked(), behind)
            body = behind.removesuffix(trailing) if trailing else body
        last = self._last(body)
        end = len(body) if last is None else last.end()
        return behind[:end], behind[end:]

    def find_closing(self, whole: str, longer: str, asked: str, prompt: str) -> None:
        """Find what is written behind a conversation's last turn, whatever it is.

        `whole`: PROBE behind QUESTION; `longer`: a question more and a prompt for its answer, "" if
        the template takes one question only; `asked`, `prompt`: the first question, without and
        with a prompt for its answer.
        """
        if longer.startswith(whole):
            return
        self._closing = self._always_written(whole, asked, prompt)
        if self._closing or not longer:
            return
        for name in self._borders:
            rest = whole.removesuffix(name)
            ended = self._last(rest[rest.rfind(PROBE) :])
            if rest != whole and longer.startswith(rest) and ended:
                self._closing = name

    def learn(self, said: str) -> None:
        """Take the end of an answer from `said`, which is PROBE to the end of its turn."""
        last = self._last(said)
        if last is not None and PROBE in said:
            self.token, self._usual = self._borders[last[0]], last[0]
            ends = self._border.finditer(said, said.rfind(PROBE))
            self._endings = [said[end.start() : last.end()] for end in ends]

    def _always_written(self, whole: str, asked: str, prompt: str) -> str:
        """What stands behind an answer as it stands behind a question."""
        tail = asked[asked.rfind(QUESTION) + len(QUESTION) :]
        size = _same_at_end(asked, whole)
        first = self._border.search(whole, len(whole) - size)
        if first is None:
            return ""
        if size >= len(tail):
            # The question's whole end is there, which begins with the end of its turn.
            return whole[first.end() :]
        return whole[first.start() :] if asked == prompt else ""

    def _trailing(self, asked: str, whole: str) -> str:
        """What stands at the end of both texts, but for the end of both's last turn."""
        same = whole[len(whole) - _same_at_end(asked, whole) :]
        first = self._border.search(same)
        if first is None:
            return ""
        same = same[first.start() :]
        ending = next((one for one in self._endings if same.startswith(one)), "")
        return same.removeprefix(ending)

    def _last(self, text: str) -> re.Match[str] | None:
        """The last border in a text."""
        if self._usual and (at := text.rfind(self._usual)) >= 0:
            usual = self._border.match(text, at)
            if usual is not None and self._border.search(text, usual.end()) is None:
                return usual
        found = list(self._border.finditer(text))
        return found[-1] if found else None


def _same_at_end(one: str, other: str) -> int:
    """How many characters two texts have in common at their ends."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
