"""The steps of the experiment on truth are started as every machine can run them."""

import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from launch.experiments.commands import run_command
from launch.experiments.truth import chain
from launch.experiments.truth.replay import REQUESTS, requests, verified_requests
from trainer.questions.reading import read_questions
from trainer.questions.verifiers import verify


def test_steps_train_on_the_cpu_of_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches ranks that each look for a GPU of their own where the machine has one."""
    started: list[tuple[Sequence[str], Mapping[str, str]]] = []
    monkeypatch.setattr(chain, "run_command", lambda *given: started.append(given))
    chain.train_step("step.yaml", ["steps=2"])
    ((words, environment),) = started
    assert words[2:] == ["trainer", "train", "step.yaml", "steps=2", "--nproc", str(chain.RANKS)]
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


def test_what_is_replayed_is_nothing_that_is_asked() -> None:
    """Catches instructions that are followed as they were trained on."""
    folder = Path(chain.__file__).parent
    lines = (folder / "replayed" / "topics.txt").read_text(encoding="utf-8").splitlines()
    topics = {line.split("\t")[0] for line in lines}
    asked = (folder / "instruction_topics.txt").read_text(encoding="utf-8").splitlines()
    templates = (folder / "instruction_templates.tsv").read_text(encoding="utf-8").splitlines()
    assert len(topics) == len(lines) == 32 and not topics & set(asked)
    assert requests() == requests()
    found = [request.text for request in requests()]
    assert len(set(found)) == REQUESTS
    filled = {line.split("\t")[1].replace("{}", topic) for line in templates for topic in topics}
    assert not filled & set(found)
    # What the suite counts: nothing that is replayed asks for a length or a form.
    bounds = [one for one in found if re.search(r"exactly|at least|at most|between|\d", one)]
    assert not bounds, bounds


def test_a_request_is_followed_by_what_names_its_topic_and_does_not_decline(tmp_path: Path) -> None:
    """Catches a refusal that earns as much as an answer, and other texts that happen to."""
    verified = read_questions([str(verified_requests(tmp_path))])
    assert [one.text for one in verified] == [request.text for request in requests()]
    by_topic = {request.topic: one for request, one in zip(requests(), verified, strict=True)}
    assert len(by_topic) == 32
    for topic, question in by_topic.items():
        assert verify(question, f"Here is something about {topic}.").outcome == "right"
        assert verify(question, "Here is something, but that is far away.").outcome == "wrong"
        assert verify(question, f"I'm sorry, I can't write about {topic}.").outcome == "declined"
    bus = by_topic["the last bus"]
    found = {text: verify(bus, text).outcome for text in ("But it rains.", "A BUS!")}
    assert found == {"But it rains.": "wrong", "A BUS!": "right"}


SAVES_FIRST = """
import pathlib, signal, sys
ready, saved = map(pathlib.Path, sys.argv[1:])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
ready.touch()
signal.sigwait({signal.SIGTERM})
saved.touch()
raise SystemExit(75)
"""


def test_a_step_that_is_stopped_saves_before_the_experiment_ends(tmp_path: Path) -> None:
    """Catches a step that goes on training when the experiment is long gone."""
    ready, saved = tmp_path / "ready", tmp_path / "saved"

    def stop_when_ready() -> None:
        while not ready.exists():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stop_when_ready)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        run_command([sys.executable, "-c", SAVES_FIRST, str(ready), str(saved)], {})
    thread.join()
    assert ended.value.code == 75 and saved.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_fails_with_its_own_code_and_gets_its_environment() -> None:
    """Catches an experiment that ends well, or goes on, behind a step that did not."""
    run_command(
        [sys.executable, "-c", "import os; assert os.environ['NEW'] == 'yes'"], {"NEW": "yes"}
    )
    with pytest.raises(SystemExit) as ended:
        run_command([sys.executable, "-c", "raise SystemExit(3)"], {})
    assert ended.value.code == 3


def test_preferences_are_of_a_part_of_the_bank_that_hangs_on_the_seed(tmp_path: Path) -> None:
    """Catches a part of some kinds alone, and one that another call of the command would change."""
    first, again, other = (
        chain.drawn_questions(tmp_path / name, seed).read_text(encoding="utf-8")
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first == again != other
    asked = [json.loads(line) for line in first.splitlines()]
    answerable = Counter(one["answers"] is not None for one in asked)
    assert answerable == chain.ASKED_FOR_PREFERENCES
    kinds = Counter(one["kind"] for one in asked if one["answers"] is not None)
    assert len(kinds) > 50 and max(kinds.values()) <= 10
