import json
from pathlib import Path

from tests.observe.starting import start
from trainer.observe import SampleWriter


def written(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_samples_are_kept_as_they_were_written(tmp_path: Path) -> None:
    """Would catch a text that loses its line ends, its letters, or half of a broken one."""
    writer = SampleWriter()
    writer.on_start(start(tmp_path))
    writer.on_sample(2, "a\nb", "é <b> \ud800")
    assert written(tmp_path) == [{"step": 2, "prompt": "a\nb", "text": "é <b> ?"}]


def test_a_resumed_run_forgets_the_samples_of_steps_to_come(tmp_path: Path) -> None:
    """Would catch a page that shows what another course of the run wrote, beside this one's."""
    first = SampleWriter()
    first.on_start(start(tmp_path))
    for step in (2, 4, 6):
        first.on_sample(step, "p", "first")
    resumed = SampleWriter()
    resumed.on_start(start(tmp_path, 5))
    resumed.on_sample(6, "p", "second")
    shown = [(one["step"], one["text"]) for one in written(tmp_path)]
    assert shown == [(2, "first"), (4, "first"), (6, "second")]


def test_a_run_without_samples_has_no_file(tmp_path: Path) -> None:
    """Would catch an empty file that looks as if samples had been lost."""
    writer = SampleWriter()
    writer.on_start(start(tmp_path))
    assert not list(tmp_path.iterdir())
