"""Runs the stages of a build through datatrove: on this machine's cores, or on a SLURM cluster."""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer import errors
from trainer.data.curate.plan import FAILED, Plan
from trainer.data.curate.stages import StageOfBuild, stages
from trainer.data.writing import write_whole
from trainer.errors import ClusterError, DataError

log = logging.getLogger(__name__)

LOGS, JOBS = "logs", "jobs.json"
POLL_SECONDS = 0.5
Advance = Callable[[str, int, int], None]
"""Told a stage's name, how many of its tasks have ended, and how many there are."""


def run_locally(plan: Plan, advance: Advance) -> None:
    """Run every stage with `corpus.workers` processes (none: one a core).

    Raises the DataError or RecipeError that a task raised.
    """
    from trainer.data.curate.executors import LocalExecutor

    workers = plan.section.workers or len(os.sched_getaffinity(0))
    for stage in stages(plan):
        executor = LocalExecutor(
            stage.pipeline,
            tasks=stage.tasks,
            workers=min(workers, stage.tasks),
            logging_dir=str(Path(plan.folder) / LOGS / stage.name),
        )
        with _watched(plan, stage, advance):
            executor.run()


def run_on_slurm(plan: Plan, advance: Advance) -> None:
    """Submit every stage as a job array that waits for the one before, and wait for the last.

    The jobs of an earlier call that was stopped are waited for, not submitted again. Raises
    ClusterError where SLURM refuses or loses a job, and the error that a task raised.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError("no sbatch on this machine: submit from a node of the cluster")
    noted = Path(plan.folder) / JOBS
    jobs = json.loads(noted.read_bytes()) if noted.is_file() else []
    todo = stages(plan)
    if not (jobs and _any_left(jobs)):
        shutil.rmtree(Path(plan.folder) / FAILED, ignore_errors=True)
        jobs = _submit(plan, todo)
        write_whole(noted, json.dumps(jobs).encode())
        log.info("submitted jobs %s", " ".join(jobs))
    for stage in todo:
        while (done := _ended(plan, stage)) < stage.tasks:
            advance(stage.name, done, stage.tasks)
            failure = _failure(Path(plan.folder))
            lost = not _any_left(jobs) and _ended(plan, stage) < stage.tasks
            if failure is not None or lost:
                subprocess.run(["scancel", *jobs], check=False)
                noted.unlink()
                raise failure or ClusterError(
                    f"the jobs of stage {stage.name} ended before their work was done: look into"
                    f" {Path(plan.folder) / LOGS / stage.name / 'slurm'}, then build again to"
                    " continue"
                )
            # SLURM tells nobody that a job has ended; its queue is asked.
            time.sleep(POLL_SECONDS)
        advance(stage.name, stage.tasks, stage.tasks)


def _submit(plan: Plan, todo: list[StageOfBuild]) -> list[str]:
    from trainer.data.curate.executors import SlurmExecutor

    slurm = plan.section.slurm
    assert slurm is not None, "the recipe says what to ask of the cluster"
    before: Any = None
    executors = []
    for stage in todo:
        folder = Path(plan.folder) / LOGS / stage.name
        before = SlurmExecutor(
            stage.pipeline,
            tasks=stage.tasks,
            time=slurm.time,
            partition=slurm.partition,
            cpus_per_task=slurm.cpus,
            mem_per_cpu_gb=-(-slurm.memory_gib // slurm.cpus),
            workers=slurm.tasks_at_once or -1,
            job_name=f"{Path(plan.out).name}-{stage.name}",
            qos=None,
            env_command=slurm.setup or f'export PATH="{Path(sys.executable).parent}:$PATH"',
            sbatch_args=dict(slurm.arguments),
            depends=before,
            logging_dir=str(folder),
            slurm_logs_folder=str(folder / "slurm"),
            requeue_signals=None,
        )
        executors.append(before)
    try:
        before.run()
    except subprocess.CalledProcessError as error:
        raise ClusterError(
            f"sbatch refused the build ({error}): its own words stand above; look at corpus.slurm"
        ) from None
    return [str(executor.job_id) for executor in executors if executor.job_id not in (None, -1)]


def _ended(plan: Plan, stage: StageOfBuild) -> int:
    folder = Path(plan.folder) / LOGS / stage.name / "completions"
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _any_left(jobs: list[str]) -> bool:
    """Whether any of the jobs is queued or running and can still end well."""
    listed = subprocess.run(
        ["squeue", "--noheader", "--format=%r", f"--jobs={','.join(jobs)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return any(reason != "DependencyNeverSatisfied" for reason in listed.stdout.split())


def _failure(folder: Path) -> Exception | None:
    """The error that a task left, as it was raised there."""
    for path in sorted((folder / FAILED).glob("*.json")):
        content = json.loads(path.read_bytes())
        kind = getattr(errors, content["error"], DataError)
        return kind(content["message"])
    return None


@contextmanager
def _watched(plan: Plan, stage: StageOfBuild, advance: Advance) -> Iterator[None]:
    """Tell `advance` how far the stage is, now and then."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            advance(stage.name, _ended(plan, stage), stage.tasks)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    advance(stage.name, stage.tasks, stage.tasks)
