"""Duplicates over all tasks of a build: which go, which stays, and why."""

import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from trainer.corpus.build.duplicates import decide, load_removed, match_range
from trainer.corpus.build.sketches import (
    SHINGLE_WORDS,
    Sketches,
    band_count,
    sketch,
    sketched_words,
)

TASK_BITS = 32


def words(count: int, changed: tuple[int, ...] = (), name: str = "") -> str:
    return " ".join(f"other{n}{name}" if n in changed else f"word{n}{name}" for n in range(count))


def removed(
    folder: Path,
    tasks: list[list[str]],
    near: float | None = 0.8,
    exact: bool = True,
    ranges: int = 1,
) -> dict[tuple[int, int], tuple[tuple[int, int], bool]]:
    """(task, document) of each removed document: the one kept in its place, and whether exactly."""
    for rank, texts in enumerate(tasks):
        sketches = Sketches(folder, rank, 0, near)
        for start in range(0, len(texts), 100):
            sketches.add(texts[start : start + 100])
        sketches.save()
    for part in range(ranges):
        match_range(folder, len(tasks), part, ranges, exact, near)
    decide(folder, len(tasks), ranges)
    return {
        (rank, int(entry["number"])): (
            (int(entry["kept_task"]), int(entry["kept"])),
            bool(entry["exact"]),
        )
        for rank in range(len(tasks))
        for entry in load_removed(folder, rank)
    }


def similarity(one: str, other: str, split: Callable[[str], list[str]] = sketched_words) -> float:
    """The Jaccard similarity of the sets of shingles, counted out."""
    sets = []
    for text in (one, other):
        found = split(text)
        sets.append({tuple(found[n : n + SHINGLE_WORDS]) for n in range(len(found) - 2)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_the_first_of_all_tasks_stays_and_each_removal_names_it(tmp_path: Path) -> None:
    """Would catch keep-last, a search within one task only, or removal of what is alike in part."""
    tasks = [
        [words(100), words(100, name="x")],
        [],
        [
            words(100).replace(" ", "\n  "),
            words(100, changed=(50,)),
            words(100, changed=tuple(range(50))),
        ],
        [words(100, name="x", changed=(3,)), words(100, name="x")],
    ]
    assert removed(tmp_path, tasks) == {
        (2, 0): ((0, 0), True),
        (2, 1): ((0, 0), False),
        (3, 0): ((0, 1), False),
        (3, 1): ((0, 1), True),
    }


def test_exact_and_near_are_looked_for_apart(tmp_path: Path) -> None:
    """Would catch a switch without effect."""
    tasks = [[words(100), words(100), words(100, changed=(50,))]]
    assert set(removed(tmp_path / "exact", tasks, near=None)) == {(0, 1)}
    assert set(removed(tmp_path / "near", tasks, exact=False)) == {(0, 1), (0, 2)}
    assert set(removed(tmp_path / "strict", tasks, near=0.999)) == {(0, 1)}


def test_a_document_goes_only_for_one_that_stays(tmp_path: Path) -> None:
    """Would catch chains: c goes for b, which went for a, though a and c are not alike."""
    a, b = words(400), words(400, changed=tuple(range(26)))
    c = words(400, changed=tuple(range(52)))
    assert similarity(a, b) > 0.86 and similarity(b, c) > 0.86 and similarity(a, c) < 0.77
    assert set(removed(tmp_path, [[a, b, c]])) == {(0, 1)}


@pytest.mark.parametrize("ranges", [2, 7])
def test_the_answer_does_not_depend_on_how_the_work_is_cut(tmp_path: Path, ranges: int) -> None:
    """Would catch pairs lost at the border of a range or of a task, and numbers of the wrong
    task.
    """
    dice = random.Random(ranges)
    texts = [words(60, name=str(dice.randrange(40))) for _ in range(100)]
    texts += [words(60, changed=(dice.randrange(60),), name=str(n % 40)) for n in range(60)]
    dice.shuffle(texts)
    whole = removed(tmp_path / "whole", [texts])
    sizes = [0, 30, 31, 31, 110, len(texts)]
    tasks = [texts[start:stop] for start, stop in pairwise(sizes)]
    parts = removed(tmp_path / "parts", tasks, ranges=ranges)

    def number(place: tuple[int, int]) -> int:
        return sizes[place[0]] + place[1]

    assert len(whole) > 60
    assert {number(gone): number(kept) for gone, (kept, _) in parts.items()} == {
        gone[1]: kept[1] for gone, (kept, _) in whole.items()
    }


def test_a_crowd_of_copies_costs_no_square_of_comparisons(tmp_path: Path) -> None:
    """Would catch a page that stands ten thousand times on the web stopping the build."""
    crowd = [words(30)] * 3000
    gone = removed(tmp_path, [crowd, [*crowd, words(30, name="other")]])
    assert len(gone) == 5999 and set(gone.values()) == {((0, 0), True)}
    pairs = np.load(tmp_path / "matches" / "00000.npy")
    # Each is compared with the first and with its neighbour, by digest and by sketch.
    assert len(pairs) <= 2 * 2 * 6000


def test_the_estimate_is_near_the_similarity_and_recall_is_as_promised(tmp_path: Path) -> None:
    """Would catch a biased sketch, or bands too few to bring similar documents together."""
    pairs = [
        (words(200, name=str(n)), words(200, changed=tuple(range(0, 200, 30)), name=str(n)))
        for n in range(200)
    ]
    true = similarity(*pairs[0])
    rows = sketch([text for pair in pairs for text in pair], 0)
    estimates = (rows[::2] == rows[1::2]).mean(axis=1)
    # 200 estimates, each with a standard error of sqrt(J (1 - J) / 128): four of the mean's.
    assert abs(estimates.mean() - true) < 4 * np.sqrt(true * (1 - true) / 128 / 200)
    near = 0.7
    found = removed(tmp_path, [[text for pair in pairs for text in pair]], near=near)
    assert true > near + 0.05 and band_count(near) > 1
    due = np.flatnonzero(estimates >= np.float32(near))
    caught = sum((0, 2 * int(n) + 1) in found for n in due)
    assert caught >= 0.95 * len(due) and len(found) == caught


UNSPACED = {
    "Chinese": "的一是了我不人在他有这上们来到时大地为子中你说生国年着就那和要",
    "Chinese beyond the BMP": "𠀀𠀁𠀂𠀃𠀄𠀅𠀆𠀇𠀈𠀉𠀊𠀋𠀌𠀍𠀎𠀏𠀐𠀑𠀒𠀓",
    "Japanese": "あいうえおかきくけこさしすせそたちつてとなにぬねのはひアイウエオカキク々ー",
    "Thai": "กขคงจชซดตถทนบปผพฟมยรลวสหอะาเแโใไ",
    "Lao": "ກຂຄງຈສຊຍດຕຖທນບປຜຝພຟມຢຣລວຫອຮະາເແໂໃໄ",
    "Khmer": "កខគឃងចឆជឈញដឋឌឍណតថទធនបផពភមយរលវសហឡអ",
    "Burmese": "ကခဂဃငစဆဇဈညဋဌဍဎဏတထဒဓနပဖဗဘမယရလဝသဟဠအ",
}
CLAUSE_LETTERS, CLAUSES = 12, 60
MARK = {"Thai": "\u0e34", "Lao": "\u0eb4", "Khmer": "\u17b7", "Burmese": "\u102d"}


def clauses(letters: str, mark: str, seed: int, changed: bool = False) -> str:
    """Clauses without spaces; every third letter has a mark; a letter of every fourth
    differs where `changed`.
    """
    dice = random.Random(seed)
    found = []
    for _ in range(CLAUSES):
        clause = [dice.choice(letters) for _ in range(CLAUSE_LETTERS)]
        other = dice.choice([letter for letter in letters if letter != clause[4]])
        if dice.random() < 0.25 and changed:
            clause[4] = other
        found.append("".join(f"{x}{mark * (n % 3 == 0)}" for n, x in enumerate(clause)))
    return "。".join(found)


@pytest.mark.parametrize("script", UNSPACED)
def test_scripts_without_spaces_have_near_duplicates(tmp_path: Path, script: str) -> None:
    """Would catch a clause compared whole, so that one changed letter hides a copy of a page."""
    letters, mark = UNSPACED[script], MARK.get(script, "")
    page = clauses(letters, mark, 1)
    copy, stranger = clauses(letters, mark, 1, changed=True), clauses(letters, mark, 2)

    def whole(text: str) -> list[str]:
        return re.findall(r"[\w\u0e34\u0eb4\u17b7\u102d]+|[^\w\s]", text)

    assert similarity(page, copy, whole) < 0.65, "negative control: clauses as words"
    assert similarity(page, copy) > 0.85
    assert removed(tmp_path, [[page, stranger, copy]]) == {(0, 2): ((0, 0), False)}


def test_text_with_spaces_is_cut_as_ever_and_keeps_its_vowels() -> None:
    """Would catch other sketches of English, and Hindi cut at every vowel that is a mark."""
    english = "Don't stop: the naïve façade cost 3,000 € in May_2024 (or so)…"
    assert sketched_words(english) == re.findall(r"\w+|[^\w\s]", english.lower())
    assert sketched_words("हिन्दी में लिखा है।") == ["हिन्दी", "में", "लिखा", "है", "।"]
    assert sketched_words("2024年AI很多") == ["2024", "年", "ai", "很", "多"]
