"""Make the small folders that tests/compatibility/older holds; run with the commit to be kept.

    cd EMPTY_FOLDER && OMP_NUM_THREADS=1 PYTHONPATH=CHECKOUT python PATH/TO/make_older.py

Only the command line and files that the contract names are used, so that any commit can run this.
What stays is what a user of that commit has: a corpus, a run of each stage that ended at half of
its steps, the sets that it was tuned on; and `expected.json`, what that commit then went on to do.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from safetensors.numpy import load_file

HALF, STEPS = 4, 8
GENERATE = ("generate", "runs/pretrain", "--prompt", "The harbour", "--tokens", "16", "--seed", "3")
CHANGED = 1_700_000_000
PASSAGE = "near the"
WORDS = """
adjective old young tired careful quiet proud clever patient cheerful stubborn
person fisherman teacher baker sailor doctor painter keeper farmer gardener printer
verb carried repaired painted counted forgot described sold measured borrowed found
thing boats lamps letters baskets windows ropes barrels maps bells ladders clocks
place harbour market bridge lighthouse garden library station mill orchard square
time spring summer autumn winter evening morning Sunday
where near behind above beside opposite below inside beyond
town Merrowby Oldport Hartlea Stonewick Fernhill
link because while although before after until unless since
"""
GERMAN = (
    "Der alte Fischer ging jeden Morgen vor Sonnenaufgang an den Hafen hinunter. Seine Frau hatte"
    " ihm wie immer ein Brot und eine Flasche Wasser eingepackt. Das Wetter war in diesem Herbst so"
    " schlecht, dass kaum ein Boot auslaufen konnte. Die Kinder des Dorfes warteten am Ufer und"
    " zählten die Wellen. Am Abend saßen alle zusammen in der warmen Küche."
)


def main() -> None:
    """Write everything into the working directory, which must be empty."""
    assert not any(Path().iterdir()), "start in an empty folder"
    os.environ["LYCEUM_CACHE"] = str(Path("cache").absolute())
    write_sources()
    for name, recipe in recipes().items():
        text = yaml.safe_dump(recipe, sort_keys=False)
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    expected: dict[str, Any] = {"runs": {}}
    lyceum("corpus", "build", "pretrain.yaml")
    lyceum("corpus", "find", "corpus", PASSAGE, "--json", "found.json")
    found = json.loads(Path("found.json").read_text())
    expected["found"] = [[hit["id"] for hit in found[side]] for side in ("whole", "partial")]
    for name in recipes():
        lyceum("train", f"{name}.yaml", f"steps={HALF}")
        kept = Path("runs", name)
        shutil.copytree(kept, "kept")
        lyceum("train", f"{name}.yaml")
        metrics = [json.loads(line) for line in (kept / "metrics.jsonl").open()]
        expected["runs"][name] = [
            {key: value for key, value in record.items() if exact(key)} for record in metrics
        ]
        shutil.rmtree(kept)
        Path("kept").rename(kept)
    lyceum("evaluate", "runs/pretrain", "--json", "evaluated.json")
    expected["suites"] = json.loads(Path("evaluated.json").read_text())["suites"]
    expected["written"] = {
        warmth: lyceum(*GENERATE, "--temperature", warmth) for warmth in ("0", "1")
    }
    expected["trace"] = traced(lyceum("corpus", "trace", "runs/pretrain", "2"))
    lyceum("export", "runs/pretrain", "exported")
    expected["exported"] = tensor_digests(Path("exported"))
    shutil.rmtree("exported")
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    tidy()


def recipes() -> dict[str, dict[str, Any]]:
    """A recipe a stage, all keys relative to the working directory."""
    common = {"steps": STEPS, "sequence_length": 64, "device": "cpu", "data": {"workers": 0}}
    tuning = {
        **common,
        "lora": {"rank": 2, "alpha": 4},
        "batch": {"sequences": 4, "micro": 2},
        "optimizer": {"lr": 1e-2},
        "schedule": {"warmup": 0, "name": "constant"},
        "conversations": {"validation": 0.2},
        "evaluate": {"every": HALF, "sequences": 4},
    }
    shape = {"layers": 2, "hidden": 16, "heads": 2, "kv_heads": 1, "ffn": 40}
    return {
        "pretrain": {
            "run": "runs/pretrain",
            **common,
            "model": {**shape, "vocab": 320, "tied_embeddings": True},
            "batch": {"sequences": 8, "micro": 4},
            "optimizer": {"lr": 2e-2},
            "schedule": {"warmup": 1, "length": STEPS},
            "evaluate": {"every": HALF, "sequences": 8},
            "corpus": {
                "source": "text",
                "files": ["raw/*.jsonl.gz", "raw/*.txt"],
                "path": "corpus",
                "vocab": 320,
                "validation": 0.2,
                "shard_tokens": 8000,
                "workers": 1,
                "rules": {"decontaminate": {"sets": [{"name": "quiz", "file": "quiz.txt"}]}},
            },
        },
        "sft": {
            "stage": "sft",
            "run": "runs/sft",
            "init_from": "runs/pretrain",
            **tuning,
            "data": {"workers": 0, "mixture": [{"corpus": "raw/talks.jsonl"}]},
        },
        "preference": {
            "stage": "preference",
            "run": "runs/preference",
            "init_from": "runs/sft",
            **tuning,
            "data": {"workers": 0, "mixture": [{"corpus": "raw/pairs.jsonl"}]},
            "preference": {"loss": "dpo", "beta": 0.5},
        },
    }


def write_sources() -> None:
    """Documents, a few of which fall to a rule; conversations; pairs."""
    Path("raw").mkdir()
    dice = random.Random(0)
    texts = [" ".join(sentence(dice) for _ in range(dice.randint(6, 12))) for _ in range(33)]
    texts[20] = texts[4]  # an exact copy
    texts[21] = texts[5].replace(" the ", " one ", 1)  # a near copy
    texts[22] = GERMAN
    texts[23] = "Too short."
    texts[24] += " Write to maria.42@mail-service.com or call +1 (415) 555-2077 for the rest."
    quiz = "the keeper of the last lamp counted forty seven ships on the evening of the storm"
    texts[25] += f" It is known that {quiz}."
    lines = [json.dumps({"id": f"d{n}", "text": text}) for n, text in enumerate(texts[:32])]
    lines.insert(30, '{"id": "broken", "text": ')
    plain = Path("raw/documents.jsonl")
    plain.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run(["gzip", "--no-name", "--best", str(plain)], check=True)
    Path("raw/story.txt").write_text(texts[32] + "\n", encoding="utf-8")
    Path("quiz.txt").write_text(f"{quiz}\n", encoding="utf-8")
    talks, pairs, things = [], [], vocabulary()["thing"]
    for number in range(16):
        thing = f"{things[number % len(things)]} {number}"
        turns = [("user", f"What is {number}?"), ("assistant", f"{thing}." * (1 + number % 2))]
        turns += [("user", "Sure?"), ("assistant", "Yes.")] if number % 4 == 0 else []
        talks.append({"messages": [{"role": role, "content": said} for role, said in turns]})
        rejected = f"No{'!' * (number % 5)}"
        pairs.append({"prompt": f"What is {number}?", "chosen": thing, "rejected": rejected})
    for name, entries in (("talks", talks), ("pairs", pairs)):
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        Path(f"raw/{name}.jsonl").write_text(text, encoding="utf-8")
    settle(Path("raw"))


def settle(folder: Path) -> None:
    """Give each file one time of change, by which a cached set knows its file again."""
    for path in folder.iterdir():
        os.utime(path, (CHANGED, CHANGED))


def vocabulary() -> dict[str, list[str]]:
    """WORDS by their kind."""
    return {kind: words for kind, *words in map(str.split, WORDS.strip().splitlines())}


def sentence(dice: random.Random) -> str:
    """One of very many English sentences, so that documents do not repeat each other."""
    words = vocabulary()

    def any_of(kind: str) -> str:
        return dice.choice(words[kind])

    def clause() -> str:
        who = f"{any_of('adjective')} {any_of('person')}"
        what = f"{dice.choice(('some', 'many', 'her', 'his', 'all'))} {any_of('thing')}"
        return f"the {who} {any_of('verb')} {what}"

    where = f"{any_of('where')} the {any_of('place')} of {any_of('town')}"
    begin = f"One {any_of('time')} {where} {clause()}"
    return f"{begin} {any_of('link')} {clause()} with the {any_of('person')}."


def lyceum(*words: str) -> str:
    """Run the command; what it printed."""
    command = [sys.executable, "-m", "trainer", *words]
    # Not as text: that would turn a carriage return which a model writes into a new line.
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()


def exact(key: str) -> bool:
    """Whether a figure of a step follows from the recipe alone, not from the machine's speed."""
    return key in {"step", "loss", "grad_norm", "lr", "tokens", "supervised_tokens"} or "/" in key


def traced(shown: str) -> list[list[str]]:
    """Row, positions, document, file, shard and tokens, of each line of a trace's table (which has
    a column for the corpus too, in later commits).
    """
    table = [line for line in shown.splitlines() if line.startswith(("┃", "│"))]
    names = [name.strip() for name in table[0].split("┃")]
    columns = [number for number, name in enumerate(names) if name not in ("", "corpus")][:6]
    lines = (line.split("│") for line in table[1:])
    return [[cells[number].strip() for number in columns] for cells in lines]


def tensor_digests(folder: Path) -> dict[str, str]:
    """sha256 of each tensor that an export holds."""
    tensors: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    return {
        name: hashlib.sha256(tensor.tobytes()).hexdigest()[:16]
        for name, tensor in sorted(tensors.items())
    }


def tidy() -> None:
    """Leave out what a test does not read, and the names of the machine that this ran on."""
    for name in ("found.json", "evaluated.json"):
        Path(name).unlink()
    for pattern in ("runs/*/tensorboard", "runs/*/logs", "cache/corpora"):
        for path in Path().glob(pattern):
            shutil.rmtree(path)
    for path in Path().rglob("*.lock"):
        path.unlink()
    elsewhere = {"host": "elsewhere", "platform": "Linux", "command": ["lyceum", "train"]}
    for name in ("environment.json", "status.json"):
        for path in Path("runs").glob(f"*/{name}"):
            content = json.loads(path.read_text())
            content |= {key: value for key, value in elsewhere.items() if key in content}
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
