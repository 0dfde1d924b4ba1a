"""Names of things that do not exist, of the pools that the bank's sections name.

A word is put together from syllables, from the halves of two of the bank's own subjects (as
`world_facts/invented.py` joins countries) or from two plain words, and is thrown away where any
list at hand has it, or a name one letter from it. A pool's frames make a subject of it: "Mount
Vorlen", "the Feast of Tamri".
"""

import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.world_facts.invented import cuts, exists, recombined

_PARTS: Mapping[str, tuple[str, ...]] = {
    part: tuple(texts.split())
    for part, texts in (
        line.split("\t")
        for line in Path(__file__)
        .with_name("parts_of_names.tsv")
        .read_text(encoding="utf-8")
        .splitlines()
    )
}
"""What names are put together from: `onset`, `nucleus` and `coda` of a syllable, `joint` and
`last` of a word, `front` and `back` of a word of two halves, `given` names."""
GIVEN_NAMES = _PARTS["given"]
_CODAS = ("",) * 4 + _PARTS["coda"]

FRAMES: Mapping[str, Sequence[str]] = {
    "adjective": ("{w}ish", "{w}ous", "{w}ic", "{w}"),
    "animal": ("{w}", "{w}", "spotted {w}", "river {w}", "{w} bird"),
    "band": ("the {W}s", "{given} {W}", "{W} and the {W2}s", "{given} {W}"),
    "body part": ("{w}", "left {w}", "{w} gland", "{w} bone"),
    "character": ("{given} {W}", "Captain {W}", "Princess {W}", "{W} the Brave", "{W}"),
    "country": ("{W}ia", "{W}land", "{W}stan", "the Republic of {W}", "{W}"),
    "dance": ("{w}", "{w}ada", "{w}ska"),
    "desert": ("{W}", "{W}i"),
    "device": ("{w}", "{w} drive", "{w} reader", "{w} card"),
    "dish": ("{w}", "{w} pie", "a {w} stew", "{w} bread", "{w}ini"),
    "festival": ("{W} Day", "the Feast of {W}", "the {W} Festival", "Saint {W}'s Night"),
    "food": ("a {w}", "{w} juice", "{w}", "a {w} berry"),
    "furniture": ("{w}", "{w} cabinet", "{w} stand"),
    "game": ("{w}", "{w} ball", "{W}opoly", "three-handed {w}"),
    "garment": ("{w}", "{w} cap", "{w} coat"),
    "god": ("{W}", "{W}os", "{W}is"),
    "heavenly body": ("{W}", "{W} Prime", "{W}-12", "the {W} Cloud"),
    "instrument": ("{w}", "{w}ophone", "bass {w}", "{w}ina"),
    "invention": ("the {w}ometer", "the {w}graph", "the {w} engine", "{w} glass", "the {w}"),
    "island": ("{W}", "{W} Minor", "{W}oa"),
    "language": ("{W}ish", "{W}ese", "{W}ian", "Old {W}ic"),
    "letters": ("{L}",),
    "mountain": ("Mount {W}", "{W} Peak", "the {W}horn", "Mont {W}"),
    "noun": ("{w}", "{w}er", "{w}ment", "{w}ship"),
    "person": ("{given} {W}", "{given} {W}{w2}", "Sir {given} {W}", "Dr {given} {W}"),
    "place": ("{W}", "{W}burg", "{W}mouth", "New {W}", "{W}ville", "Port {W}"),
    "plant": ("a {w}", "{w}", "a {w}wood"),
    "process": ("{w}ation", "{w}ification", "{w} fusion", "the {w} of metals"),
    "product": ("{w}", "{w} oil", "{w} cloth", "{w}ine"),
    "program": ("{W}", "{W}Soft", "{W} the firm", "{W}Script in computing", "{W}.com"),
    "river": ("{W}", "{W}a", "Upper {W}"),
    "science": ("{w}ology", "{w}onomy", "{w}istics"),
    "scientist": ("{given} {W}", "{given} {W}", "{given} van {W}", "Lord {W}"),
    "sport": ("{w}ball", "{w}", "{w} racing", "{w} polo"),
    "substance": ("{w}ium", "{w} powder", "{w}ite", "{w}ol"),
    "surname": ("{W}", "{W}ov", "{W}mann", "{W}son"),
    "thing": ("a {w}", "a {w} stone", "{w}", "a ripe {w}", "a {w} feather"),
    "title": ("The {W} Song", "Midnight in {W}", "The Last {w}", "{W} Forever", "Tears of {W}"),
    "tool": ("{w}", "{w} wrench", "{w} iron", "{w}er"),
    "trade": ("{w}er", "{w}monger", "{w}wright", "{w}ist"),
    "unit": ("{w}s are in a {w2}", "{w}s make one {w2}"),
    "quantity unit": ("{w}s", "kilo{w}s", "{w}s per hour"),
    "vehicle": ("{w}", "{w}mobile", "{w} cart", "hover{w}"),
    "word": ("{w}", "{w}", "{w}ly"),
}
"""How a pool makes subjects of invented words: w and w2 (W and W2: with a capital), a given name,
five letters."""


class InventedNames:
    """Draws names that do not exist, each once, in an order that follows from the draws alone.

    `real`: names that exist beside those of the lists, whose halves are joined, too.
    """

    def __init__(self, draws: random.Random, real: Sequence[str]) -> None:
        self._draws = draws
        self._real = frozenset(word for name in real for word in plain_words(name).split())
        self._halves = _halves(tuple(sorted(self._real)))
        self._seen: set[str] = set()

    def name(self, pool: str) -> str:
        """A subject of a pool that no list has, and that was not drawn before."""
        while True:
            frame = self._draws.choice(FRAMES[pool])
            words = {"w": self._word(), "w2": self._word()}
            capitals = {key.upper(): word.capitalize() for key, word in words.items()}
            letters = "".join(self._draws.choices("BDFGHJKLMQRTVWXZ", k=5))
            given = self._draws.choice(GIVEN_NAMES)
            name = frame.format(**words, **capitals, given=given, L=letters)
            if name not in self._seen and not self._is_real(name):
                self._seen.add(name)
                return name

    def _word(self) -> str:
        while True:
            make = self._draws.choice((self._joined, self._spelled, self._spelled, self._paired))
            word = make()
            if word is not None and 4 <= len(word) <= 12 and not self._is_real(word):
                return word

    def _joined(self) -> str | None:
        (left, _), (_, right) = self._draws.choice(self._halves), self._draws.choice(self._halves)
        return recombined(left, right)

    def _spelled(self) -> str:
        word, choice = "", self._draws.choice
        for _ in range(choice([1, 1, 2])):
            word += choice(_PARTS["joint" if word else "onset"])
            word += choice(_PARTS["nucleus"]) + choice(_CODAS)
        return word + choice(_PARTS["joint"]) + choice(_PARTS["last"])

    def _paired(self) -> str:
        return self._draws.choice(_PARTS["front"]) + self._draws.choice(_PARTS["back"])

    def _is_real(self, name: str) -> bool:
        words = plain_words(name).split()
        whole = "".join(words)
        return exists(name) or whole in self._real or (len(words) == 1 and words[0] in self._real)


@cache
def _halves(names: tuple[str, ...]) -> list[tuple[str, str]]:
    found = [cut for name in names if len(name) >= 5 and name.isalpha() for cut in cuts(name)]
    assert found, "no name can be cut"
    return found
