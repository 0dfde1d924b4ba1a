"""A run goes on with fewer replicas where a node is lost, and the batch stays as it is."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launch.ports import own_port
from launch.torchrun import train_as_rank
from tests.parity.ranks import on_ranks
from tests.training.nodes import ROOT, Node
from tests.training.runs import losses, recipe_of, train_here
from trainer.checkpoint import latest_checkpoint
from trainer.checkpoint.marks import is_settled
from trainer.errors import ClusterError, LyceumError, RecipeError
from trainer.loop import train
from trainer.observe import read_metrics, read_status
from trainer.recipe import Recipe
from trainer.recovery.status_file import write_status

KEYS: dict[str, Any] = {
    "steps": 12,
    "checkpoint__every": 2,
    "checkpoint__keep": 0,
    "batch__sequences": 6,
    "batch__micro": 1,
    "recovery__minimum_replicas": 2,
}


class Job:
    """Three nodes under torchrun that train a run; they make the steps that are allowed."""

    def __init__(self, recipe: Recipe, folder: Path, port: int) -> None:
        self.run, self._folder, self._port = Path(recipe.run), folder, port
        (folder / "recipe.yaml").write_text(recipe.to_yaml())
        self.allow(0)
        self.nodes = [self._node(number) for number in range(3)]
        self.states: set[str] = set()

    def _node(self, number: int) -> Node:
        steps, recipe = str(self._folder / "steps"), str(self._folder / "recipe.yaml")
        words = ["tests.training.paced", steps, "train", recipe]
        return Node(self._port, words, self._folder / f"node-{number}.log", host=number == 0)

    def begin_again(self, number: int) -> None:
        """Start a node that has vanished."""
        self.nodes[number] = self._node(number)

    def allow(self, step: int) -> None:
        """Let the ranks make steps up to this one."""
        half = self._folder / "steps.half"
        half.write_text(str(step))
        half.rename(self._folder / "steps")

    def reach(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, and note the states that status.json has until then."""
        while not condition():
            assert any(node.running() for node in self.nodes), self.told()
            status = read_status(self.run) or {}
            self.states.add(str(status.get("state")))
            time.sleep(0.02)

    def told(self) -> str:
        """What the nodes wrote."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("node-*.log")))

    def replicas(self) -> list[int]:
        """How many replicas made each step."""
        return [record["replicas"] for record in read_metrics(self.run)]


@contextmanager
def job(recipe: Recipe, folder: Path) -> Iterator[Job]:
    """A job, whose nodes are ended with the block."""
    with own_port() as port:
        found = Job(recipe, folder, port)
        try:
            yield found
        finally:
            for node in found.nodes:
                node.vanish()


def stream_of(run: Path) -> object:
    """Where a run's newest checkpoint stands in its data."""
    newest = latest_checkpoint(run)
    assert newest is not None
    return json.loads((newest / "checkpoint.json").read_text())["counters"]["stream"]


def is_good(checkpoint: Path) -> bool:
    """Whether a checkpoint, which is written beside the steps, is there and has settled."""
    return checkpoint.is_dir() and is_settled(checkpoint)


def same_course(run: Recipe, whole: Recipe) -> None:
    """Hold a run against the undisturbed one: losses, and exactly the same data."""
    # As for a run that resumes on another layout: the order in which gradients are added up.
    assert losses(run) == pytest.approx(losses(whole), abs=1e-5, rel=0)
    ours, theirs = (read_metrics(Path(one.run)) for one in (run, whole))
    assert [one["tokens"] for one in ours] == [one["tokens"] for one in theirs]
    assert stream_of(Path(run.run)) == stream_of(Path(whole.run))


def test_a_run_goes_on_without_a_lost_node_and_grows_back(tmp_path: Path, corpus: Path) -> None:
    """Catches a run that ends, waits or begins anew as one node of three goes, or comes again."""
    whole = recipe_of(tmp_path / "whole", corpus, **KEYS)
    assert on_ranks(1, train_here, whole.replaced({"recovery.minimum_replicas": None})) == [None]
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS)
    with job(recipe, tmp_path) as nodes:
        nodes.allow(4)
        nodes.reach(lambda: len(nodes.replicas()) == 4)
        nodes.reach(lambda: is_good(nodes.run / "checkpoints/step-00000002"))
        nodes.nodes[2].vanish()
        nodes.allow(8)
        nodes.reach(lambda: len(nodes.replicas()) == 8)
        assert (read_status(nodes.run) or {})["replicas"] == 2
        nodes.begin_again(2)
        nodes.reach(lambda: (read_status(nodes.run) or {}).get("replicas") == 3)
        nodes.allow(12)
        codes = [node.wait() for node in nodes.nodes]
        told = nodes.told()
    assert codes == [0, 0, 0], told
    # The checkpoint of step 4 had not settled when the node was lost.
    assert nodes.replicas() == [3, 3, *[2] * 6, *[3] * 4]
    same_course(recipe, whole)
    assert "stopped" not in nodes.states
    status = read_status(nodes.run) or {}
    assert (status["state"], status["exit_code"], status["replicas"]) == ("done", 0, 3)
    log = (nodes.run / "logs" / "rank-0.log").read_text()
    assert "replicas that train: 2, 3 before; micro-batches of each a step: 3" in log
    assert "replicas that train: 3, 2 before; micro-batches of each a step: 2" in log


def test_a_run_goes_on_without_a_dead_place_and_takes_it_back(tmp_path: Path, corpus: Path) -> None:
    """Catches a machine of two devices that stands still as one of them is dead."""
    keys = KEYS | {"batch__sequences": 8, "recovery__minimum_replicas": None}
    whole = recipe_of(tmp_path / "whole", corpus, **keys)
    assert on_ranks(1, train_here, whole) == [None]
    allowed = {"recovery__minimum_replicas": 1, "recovery__restarts": 5}
    recipe = recipe_of(tmp_path / "run", corpus, **keys | allowed)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    words = [str(tmp_path / "dead"), "train", str(tmp_path / "recipe.yaml"), "--nproc", "2"]
    answer = subprocess.run(
        [sys.executable, "-m", "tests.training.dead_place", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        text=True,
    )
    assert answer.returncode == 0, answer.stdout
    made = [record["replicas"] for record in read_metrics(tmp_path / "run")]
    # The last good checkpoint is that of step 2, and then that of step 6.
    assert made == [2, 2, *[1] * 4, *[2] * 6], answer.stdout
    same_course(recipe, whole)
    status = read_status(tmp_path / "run") or {}
    assert (status["state"], status["restarts"], status["replicas"]) == ("done", 4, 2)


def train_rank(recipe: Recipe) -> int:
    """What a rank that torchrun started does; its exit code."""

    def train_it(recipe: Recipe) -> int:
        train(recipe)
        return 0

    try:
        return train_as_rank(recipe, train_it)
    except LyceumError as error:
        return error.exit_code


def test_a_rank_that_the_batch_leaves_over_stands_by(tmp_path: Path, corpus: Path) -> None:
    """Catches three ranks that refuse a batch of four, and a spare that waits for ever."""
    keys = KEYS | {"batch__sequences": 4, "zero__stage": 1, "steps": 4}
    whole = recipe_of(tmp_path / "whole", corpus, **keys)
    assert on_ranks(1, train_here, whole.replaced({"recovery.minimum_replicas": None})) == [None]
    recipe = recipe_of(tmp_path / "run", corpus, **keys)
    assert on_ranks(3, train_rank, recipe) == [0, 0, 0]
    same_course(recipe, whole)
    assert [one["replicas"] for one in read_metrics(tmp_path / "run")] == [2] * 4
    log = (tmp_path / "run" / "logs" / "rank-0.log").read_text()
    assert "replicas that train: 2; micro-batches of each a step: 2;" in log
    assert "1 rank stands by" in log


def test_a_rank_that_stands_by_ends_as_the_others_do(tmp_path: Path, corpus: Path) -> None:
    """Catches a spare that says done where the run failed, or stopped."""
    keys = KEYS | {"batch__sequences": 4, "optimizer__lr": 1e30, "recovery__skipped_in_a_row": 2}
    recipe = recipe_of(tmp_path / "run", corpus, **keys)
    assert on_ranks(3, train_rank, recipe) == [4, 4, 4]


def train_in_job(recipe: Recipe, job_name: str) -> tuple[str, str] | None:
    """Train as a rank of torchrun's job of this name."""
    os.environ["TORCHELASTIC_RUN_ID"] = job_name
    return train_here(recipe)


def test_a_job_that_begins_a_run_again_does_not_go_back(tmp_path: Path, corpus: Path) -> None:
    """Catches a run that each lost node throws back to the checkpoint that its recipe names."""
    run = tmp_path / "run"
    keys = KEYS | {"recovery__minimum_replicas": None, "schedule__length": 12}
    first = recipe_of(run, corpus, **keys | {"steps": 4, "resume": "never"})
    assert on_ranks(1, train_in_job, first, "one") == [None]
    back = {"resume": str(run / "checkpoints" / "step-00000002")}
    assert on_ranks(
        1, train_in_job, recipe_of(run, corpus, **keys | back | {"steps": 6}), "two"
    ) == [None]
    assert "gives up step-00000004" in (run / "logs" / "rank-0.log").read_text()
    status = read_status(run) or {}
    write_status(run, status | {"state": "failed"})  # as a node was lost
    again = recipe_of(run, corpus, **keys | back | {"steps": 8})
    assert on_ranks(1, train_in_job, again, "two") == [None]
    log = (run / "logs" / "rank-0.log").read_text()
    assert "has begun the run so" in log and "step-00000006: the newest good" in log
    never = recipe_of(run, corpus, **keys | {"steps": 10, "resume": "never"})
    write_status(run, (read_status(run) or {}) | {"state": "failed"})
    assert on_ranks(1, train_in_job, never, "two") == [None]
    assert on_ranks(1, train_in_job, never, "three")[0][0] == "RecipeError"
    assert len(read_metrics(run)) == 10


def test_too_few_ranks_are_one_line(tmp_path: Path, corpus: Path) -> None:
    """Catches a run that goes on with fewer replicas than its owner allows."""
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS | {"recovery__minimum_replicas": 3})
    with pytest.raises(RecipeError, match="3 replicas x 1 ranks are 3, and there are 2"):
        recipe.fitting_world(2, "cpu")


def test_a_store_that_outlives_the_ranks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches ranks that wait for those of the start before, as torchrun keeps its store."""
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with pytest.raises(ClusterError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        train_as_rank(recipe_of(tmp_path / "run", tmp_path, **KEYS), lambda _recipe: 0)
