"""`lyceum report`: a run from its data to its answers, on one page."""

import html
import json
import re
from pathlib import Path

import pytest

from tests.report.recorded import (
    MARKUP,
    examined,
    examined_by_command,
    older_chain,
    record_run,
    step_record,
    write_json,
)
from trainer.cli import main


def page_of(*runs: Path, out: Path | None = None) -> str:
    """The page of these runs, as the command writes it."""
    target = out or (runs[0] / "report.html")
    assert main(["report", *map(str, runs), *(["--out", str(out)] if out else [])]) == 0
    return target.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a reader sees, in a line: elements, style and script taken out."""
    bare = re.sub(r"<(style|script|title|desc)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def test_a_real_chain_is_told_from_its_first_stage_to_its_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a stage that is left out, told twice, or out of its order."""
    run = older_chain(tmp_path) / "preference"
    text = text_of(page_of(run))
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    places = [
        text.index(said)
        for said in (
            "pretrain: pre-training Reads raw text",
            "sft: fine-tuning Learns to answer",
            "It began from pretrain, step 4",
            "preference: preferences Learns which of two answers",
            "It began from sft, step 4",
        )
    ]
    assert places == sorted(places)
    assert text.count("pretrain: pre-training") == 1
    assert "Rewards of the better and the worse answer" in text
    assert "lyceum train" in text


def test_an_ancestor_that_is_gone_is_said(tmp_path: Path) -> None:
    """Would catch a report that fails, or is silent, where a run's base was deleted."""
    run = record_run(tmp_path / "run", stage="sft", init_from=str(tmp_path / "gone"))
    text = text_of(page_of(run))
    assert f"Is not there any more ({tmp_path / 'gone'})" in text
    assert "fine-tuning" in text


def test_a_run_that_began_from_itself_is_told_once(tmp_path: Path) -> None:
    """Would catch a circle of runs that a report follows for ever."""
    first, second = tmp_path / "first", tmp_path / "second"
    record_run(first, init_from=str(second / "checkpoints" / "step-00000012"))
    record_run(second, init_from=str(first / "checkpoints" / "step-00000012"))
    text = text_of(page_of(first))
    assert text.count("second: pre-training") == 1 and text.count("first: pre-training") >= 1


def test_a_merge_tells_what_it_is_made_of(tmp_path: Path) -> None:
    """Would catch a blend whose parents, or their shares, nobody can read from its page."""
    parents = []
    for name, weight in (("a", 0.75), ("b", 0.25)):
        run = record_run(tmp_path / name)
        checkpoint = str(run / "checkpoints" / "step-00000012")
        parents.append(
            {"named": name, "checkpoint": checkpoint, "step": 12, "seal": "", "weight": weight}
        )
    merged = tmp_path / "merged" / "checkpoints" / "step-00000000"
    merged.mkdir(parents=True)
    (merged / "recipe.yaml").write_text((tmp_path / "a" / "recipe.yaml").read_text())
    write_json(merged / "checkpoint.json", {"format": "lyceum-checkpoint/1", "step": 0})
    command = "lyceum checkpoint merge a b"
    write_json(merged / "merge.json", {"command": command, "parents": parents})
    text = text_of(page_of(merged, out=tmp_path / "page.html"))
    assert "0.75 \u00d7 a, step 12 + 0.25 \u00d7 b, step 12" in text
    assert command in text


def test_nothing_of_the_data_is_markup(tmp_path: Path) -> None:
    """Would catch a document, a name or an answer that runs in the browser of whoever reads it."""
    run = record_run(tmp_path / "<img src=x onerror=alert(1)>", tokenizer=MARKUP)
    write_json(run / "environment.json", {"command": ["lyceum", "train", MARKUP], "git": MARKUP})
    sample = {"step": 4, "prompt": MARKUP, "text": MARKUP}
    (run / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    source = {"name": MARKUP, "folder": MARKUP, "kind": MARKUP, "examples": {"read": 2, "used": 1}}
    write_json(run / "sources.json", {"sources": [source]})
    (run / "logs").mkdir()
    warning = f"2026-01-01 00:00:00,000 WARNING trainer.x: {MARKUP}\n"
    (run / "logs" / "rank-0.log").write_text(warning)
    examined(run, "base", 0.9, 0.5, {"known/1": "right"})
    examined(run, "step-00000012", 0.1, 0.5, {"known/1": "wrong"})
    page = page_of(run)
    assert "<script>alert" not in page and "<img" not in page
    assert page.count("&lt;script&gt;alert") > 8


def test_skipped_and_resumed_steps_are_marked(tmp_path: Path) -> None:
    """Would catch a curve over a gap that nobody is told of, or a resume that leaves no trace."""
    steps = [
        step_record(step) | ({"loss": None, "skipped": True} if step == 5 else {})
        for step in range(1, 13)
    ]
    run = record_run(tmp_path / "run", steps)
    (run / "logs").mkdir()
    (run / "logs" / "rank-0.log").write_text(
        "2026-01-01 00:00:00,000 INFO trainer: begins at step 1 of 12, on 1 rank\n"
        "2026-01-01 00:00:01,000 INFO trainer: stopped: by SIGTERM\n"
        "2026-01-01 00:00:02,000 INFO trainer: begins at step 9 of 12, on 2 ranks\n"
    )
    page = page_of(run)
    text = text_of(page)
    assert "1 step skipped" in text and "Resumed at step 9" in text
    assert ">skipped<" in page and ">resumed<" in page
    plain = page_of(record_run(tmp_path / "plain"))
    assert ">skipped<" not in plain and ">resumed<" not in plain


def test_figures_are_shown_model_by_model_with_gates(tmp_path: Path) -> None:
    """Would catch a figure under the wrong model, or a failed gate that reads as passed."""
    run = record_run(
        tmp_path / "run",
        evaluate__suites=["known-unknown"],
        evaluate__gates=["known-unknown/hallucination < 0.2", "known-unknown/accuracy > 0.9"],
        checkpoint__every=0,
    )
    examined(run, "base", 0.75, 0.625)
    examined(run, "step-00000012", 0.125, 0.5)
    text = text_of(page_of(run))
    assert "Gates: 1 of 2 passed" in text
    assert re.search(r"hallucination 12\.5 ?% of known-unknown; before 75%", text)
    row = re.search(r"known-unknown/hallucination ([\d.]+) \[.*?\] ([\d.]+) \[", text)
    assert row is not None and row.groups() == ("0.75", "0.125")


def test_changed_answers_are_counted_and_chosen_by_hash(tmp_path: Path) -> None:
    """Would catch a page that shows cures alone, or counts only what it shows."""
    before = {f"known/{number}": "right" for number in range(10)}
    before |= {f"unknown/{number}": "wrong" for number in range(10)}
    after = before | {f"known/{number}": "wrong" for number in range(4)}
    after |= {f"unknown/{number}": "abstained" for number in range(7)}
    run = record_run(tmp_path / "run")
    examined(run, "base", 1.0, 1.0, before)
    examined(run, "step-00000012", 0.3, 0.6, after)
    text = text_of(page_of(run))
    assert "of what can be known, right before 6 0 4 10" in text
    assert "of what nobody can know, wrong before 0 7 3 10" in text
    shown = re.findall(r"Question (known|unknown)/(\d)\?", text)
    assert "First wrong, then declined, of what nobody can know: 7 questions." in text
    broken = [number for kind, number in shown if kind == "known" and int(number) < 4]
    assert len(broken) == 3, "right to wrong is shown as much as wrong to declined"
    assert text_of(page_of(run)) == text


def test_evaluations_by_command_are_read_beside_a_run(tmp_path: Path) -> None:
    """Would catch a base's figures under the run's name, or an evaluation that nobody finds."""
    run = record_run(tmp_path / "run", init_from=str(tmp_path / "base"), stage="sft")
    checkpoint = run / "checkpoints" / "step-00000012"
    folder = run / "evaluations"
    examined_by_command(folder / "first.json", tmp_path / "base", 0.75, a="wrong", b="wrong")
    examined_by_command(folder / "then.json", checkpoint, 0.25, a="declined", b="wrong")
    text = text_of(page_of(run))
    row = re.search(r"held-out/hallucination ([\d.]+) \[.*?\] ([\d.]+) \[", text)
    assert row is not None and row.groups() == ("0.75", "0.25")
    assert "base held-out/hallucination < 0.5 failed" in text
    assert "run held-out/hallucination < 0.5 passed" in text
    assert "of what nobody can know, wrong before 0 1 1 2" in text


def test_a_set_of_the_runs_own_samples_is_told(tmp_path: Path) -> None:
    """Would catch examples of which nobody can see what the model said, or what was left out."""
    run = record_run(tmp_path / "run")
    (run / "refusals").mkdir()
    counts = {"questions": 20, "known": 5, "unasked": 0, "over_share": {"unknowable": 4}}
    write_json(run / "refusals" / "set.json", {"summary": "refusals: 5 known", "counts": counts})
    samples = [{"text": f"{MARKUP} Lima", "outcome": "right"}, {"text": "Oslo", "outcome": "wrong"}]
    record = {"id": "a", "question": "Which city?", "samples": samples}
    (run / "refusals" / "samples.jsonl").write_text(json.dumps(record) + "\n")
    page = page_of(run)
    text = text_of(page)
    assert "The set refusals of run is made of what its base says: 5 known." in text
    assert "over share, unknowable 4" in text and "unasked" not in text
    assert re.search(r"Which city\? .*draw 1 right .*Lima.* draw 2 wrong .*Oslo", text)
    assert "<script>alert" not in page


def test_a_reinforced_run_shows_early_and_late_answers(tmp_path: Path) -> None:
    """Would catch rewards without the answers that earned them, or the same ones twice."""
    steps = [step_record(step, **{"reinforce/reward": step / 12}) for step in range(1, 13)]
    questions = tmp_path / "asked.jsonl"
    run = record_run(
        tmp_path / "run",
        steps,
        stage="reinforce",
        init_from=str(tmp_path / "base"),
        reinforce__questions=[str(questions)],
        reinforce__verifier="answer",
        reinforce__group=2,
        reinforce__tokens=8,
        data__mixture=[],
    )
    (run / "samples").mkdir()
    for step, outcome in ((1, "wrong"), (12, "declined")):
        one = {"asked": "Who?", "text": f"answer {step}", "outcome": outcome, "reward": step / 12}
        (run / "samples" / f"step-{step:08d}.jsonl").write_text(json.dumps(one) + "\n")
    text = text_of(page_of(run))
    assert "asked the questions of asked.jsonl, in groups of 2" in text
    assert "Reward of an answer" in text
    assert re.search(r"Who\? .*step 1 wrong.* answer 1 .*step 12 declined.* answer 12", text)


def test_what_is_minimised_stands_beside_the_loss(tmp_path: Path) -> None:
    """Would catch a run with weighed tokens told by its plain loss alone."""
    steps = [step_record(step, **{"sft/objective": 4.0 - step / 12}) for step in range(1, 13)]
    weighed = record_run(
        tmp_path / "weighed", steps, stage="sft", loss__first_token_weight=20.0, tokenizer="t"
    )
    assert "What is minimised" in page_of(weighed)
    assert "What is minimised" not in page_of(record_run(tmp_path / "plain"))


def test_the_page_says_where_the_time_went(tmp_path: Path) -> None:
    """Would catch a month of cluster time of which nobody sees that a third was spent waiting."""
    run = record_run(tmp_path / "mine")
    assert "Where the time went" not in text_of(page_of(run)), "a run of an earlier version"
    spent = {"wall_seconds": 7200.0, "useful_seconds": 5400.0, "at": 0.0}
    spent["lost_seconds"] = {"down": 1440.0, "save_stall": 360.0, "replay": 0.0}  # type: ignore[assignment]
    write_json(run / "status.json", {"state": "stopped", "step": 12, "goodput": spent})
    text = text_of(page_of(run))
    assert "75.0% of 2 h were useful" in text
    assert text.index("useful steps") < text.index("down, between two starts")
    assert "saving" in text and "steps made again" not in text


def test_layout_and_schedule_are_those_of_the_run(tmp_path: Path) -> None:
    """Would catch a layout of other ranks, or a schedule of another number of micro-batches."""
    ranks = {"ranks": 4, "ranks_a_node": 2}
    run = record_run(tmp_path / "run", environment=ranks, parallel__pipeline=2, batch__micro=1)
    page = page_of(run)
    assert "Layout of 4 ranks" in page and "data 2: 2 replicas" in page
    assert "Pipeline schedule: 1F1B, 4 micro-batches" in page


def test_a_recipe_of_another_version_is_shown_all_the_same(tmp_path: Path) -> None:
    """Would catch an old run that no page can be made of once a key has gone."""
    run = record_run(tmp_path / "run")
    with (run / "recipe.yaml").open("a") as file:
        file.write("key_of_later: 7\n")
    text = text_of(page_of(run))
    assert "cannot read" in text and "key_of_later: 7" in text and "12 steps" in text


def test_a_page_goes_to_standard_output_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a path in the middle of a page that is piped on, or a file called -."""
    run = record_run(tmp_path / "run")
    assert main(["report", str(run), "--out", "-"]) == 0
    assert re.fullmatch(r"\s*<!doctype html>.*</html>\s*", capsys.readouterr().out, re.S | re.I)
    assert not (run / "report.html").exists() and not Path("-").exists()


def test_two_runs_stand_side_by_side(tmp_path: Path) -> None:
    """Would catch runs of one name that cannot be told apart, or keys that differ unseen."""
    first = record_run(tmp_path / "one" / "run", optimizer__lr=1e-2)
    second = record_run(tmp_path / "two" / "run", optimizer__lr=1e-3)
    examined(first, "step-00000012", 0.75, 0.5)
    examined(second, "step-00000012", 0.125, 0.5)
    text = text_of(page_of(first, second, out=tmp_path / "page.html"))
    assert re.search(r"optimizer\.lr 0\.01 0\.001 ", text)
    assert "sequence_length" not in text.split("How they learned")[0]
    assert text.count("Loss: pre-training") == 2, "one plot, for a wide place and a narrow one"
    assert re.search(r"known-unknown/hallucination 0\.75 \[.*?\] 0\.125 \[", text)


def test_a_running_run_is_shown_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Would catch a half-written last line that ends the report, or passes for the run's end."""
    run = record_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "lo')
    write_json(run / "status.json", {"state": "running", "step": 12, "host": "elsewhere"})
    text = text_of(page_of(run))
    assert "The run goes on" in text and "12 steps" in text
    assert [f"{run} goes on: the page shows what it had written by now"] == caplog.messages
