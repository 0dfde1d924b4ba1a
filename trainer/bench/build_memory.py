"""Peak memory of a corpus build: `python -m trainer.bench.build_memory MEGABYTES`.

Makes that much JSONL of random words in a temporary folder, builds a corpus from it in one process
with duplicates removed and no other rule, and prints peak resident memory and time. One file is one
task, so this is the largest task that a corpus of any size has for such a file.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from trainer.corpus.build.corpus import build_corpus
from trainer.recipe import CorpusSection

WORDS = 20_000


def write_documents(path: Path, megabytes: int) -> None:
    """Documents of log-normal length, 300 words in the median, until the file is that large."""
    dice = random.Random(0)
    words = ["".join(dice.choices("etaoinshrdlucmfw", k=dice.randint(2, 9))) for _ in range(WORDS)]
    size = number = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 10**6:
            text = " ".join(dice.choices(words, k=int(dice.lognormvariate(5.7, 1)) + 40))
            size += file.write(json.dumps({"id": str(number), "text": text}) + "\n")
            number += 1


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", type=int)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        write_documents(path, megabytes)
        started = time.perf_counter()
        section = CorpusSection.model_validate(
            {"source": "text", "files": [str(path)], "rules": None, "workers": 1}
        )
        manifest = build_corpus(section, None, Path(folder) / "corpus", progress=False)
        seconds = time.perf_counter() - started
    documents = sum(split.documents for split in manifest.splits.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"megabytes": megabytes, "documents": documents}
    print(json.dumps({**figures, "peak_mib": round(peak), "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
