"""Peak memory of a corpus build: `python -m trainer.bench.build_memory MEGABYTES`.

Makes that much JSONL of random words (or Parquet: `--format parquet`) in a temporary folder, builds
a corpus from it in one process with duplicates removed and no other rule, and prints peak resident
memory and time. One file is one task, so this is the largest task that a corpus of any size has for
such a file.
"""

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trainer.corpus.build.corpus import build_corpus
from trainer.recipe import CorpusSection

WORDS = 20_000


def documents(megabytes: int) -> Iterator[dict[str, str]]:
    """Documents of log-normal length, 300 words in the median, until they are that large."""
    dice = random.Random(0)
    words = ["".join(dice.choices("etaoinshrdlucmfw", k=dice.randint(2, 9))) for _ in range(WORDS)]
    size = number = 0
    while size < megabytes * 10**6:
        text = " ".join(dice.choices(words, k=int(dice.lognormvariate(5.7, 1)) + 40))
        size += len(text)
        yield {"id": str(number), "text": text}
        number += 1


def write_documents(path: Path, megabytes: int) -> None:
    """Write them as JSONL, or as pyarrow writes Parquet by default: in one row group up to a
    million documents, a dictionary page before their texts.
    """
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(documents(megabytes))), path)
        return
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(document) + "\n" for document in documents(megabytes))


def peak_mib() -> int:
    """This process's largest resident set so far. Not ru_maxrss, which begins at its parent's."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", type=int)
    parser.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"documents.{asked.format}"
        # In a process of its own: what writing needs is not what is measured.
        writer = multiprocessing.Process(target=write_documents, args=(path, asked.megabytes))
        writer.start()
        writer.join()
        started = time.perf_counter()
        section = CorpusSection.model_validate(
            {"source": "text", "files": [str(path)], "rules": None, "workers": 1}
        )
        manifest = build_corpus(section, None, Path(folder) / "corpus", progress=False)
        seconds = time.perf_counter() - started
    number = sum(split.documents for split in manifest.splits.values())
    figures = {"megabytes": asked.megabytes, "format": asked.format, "documents": number}
    print(json.dumps({**figures, "peak_mib": peak_mib(), "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
