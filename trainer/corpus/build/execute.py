"""Runs the stages of a build through datatrove: on this machine's cores, or on a SLURM cluster."""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import multiprocess
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from loguru import logger

from trainer.addresses import redacted
from trainer.corpus.build.chain import BuildStage, stages
from trainer.corpus.build.losses import LossWatch
from trainer.corpus.build.plan import FAILED, BuildPlan
from trainer.errors import ClusterError, LyceumError, TrainingError, error_of
from trainer.files import umask, write_whole


class LocalExecutor(LocalPipelineExecutor):
    """Runs tasks in a pool of processes on this machine; logs go to files only.

    datatrove's own `run` starts a manager process, which lives on for ever when its parent is
    killed, and holds the parent's output open. A pool's processes end with their parent.
    """

    def run(self) -> None:
        """Run the tasks that have not ended yet."""
        ranks = self.get_incomplete_ranks(range(self.tasks))
        if not ranks:
            return
        if self.workers == 1:
            for rank in ranks:
                deepcopy(self).run_task(rank)
            return
        others = set(multiprocess.active_children())
        with (
            _without_script(),
            # A server forks them, which has the umask of when it was started.
            multiprocess.get_context(self.start_method).Pool(
                self.workers, os.umask, (umask(),)
            ) as pool,
        ):
            workers = set(multiprocess.active_children()) - others
            results = pool.imap_unordered(self.run_task, ranks)
            for _ in ranks:
                _await_one(results, workers)

    def run_task(self, rank: int) -> None:
        """Run one task; in a pool, this is another process."""
        with _quietly():
            self._run_for_rank(rank)


@contextmanager
def _without_script() -> Iterator[None]:
    """Workers that start in this block do not run the program's script again, as new ones would.

    One that trains below no `if __name__ == "__main__":` would begin anew in each of them. Nothing
    that a task is made of is defined there.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _await_one(results: Any, workers: Iterable[Any]) -> None:
    """Wait for a result of a pool whose processes are `workers`; raises what a task raised.

    Raises TrainingError where one of them died: the pool starts another, but forgets its task.
    """
    while True:
        try:
            results.next(timeout=POLL_SECONDS)
            return
        except multiprocess.TimeoutError:
            codes = [worker.exitcode for worker in workers if not worker.is_alive()]
        if codes:
            raise TrainingError(
                f"a process of the corpus's build died (exit code {codes[0]}): look for the"
                " out-of-memory killer in the system log, and lower corpus.workers; what is built"
                " already is kept"
            )


class SlurmExecutor(SlurmPipelineExecutor):
    """Runs tasks as a SLURM job array, without datatrove's extra job that merges statistics."""

    def launch_job(self) -> None:
        """Submit the stages that this one depends on, then the array."""
        with _quietly():
            super().launch_job()

    def launch_merge_stats(self) -> None:
        """Submits nothing: TaskRecord has the counts."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Nothing that libraries say while a task runs is shown; datatrove's log files say the same.

    It logs to whatever sys.stderr is when a task begins. Our own lines are shown as before.
    """
    before = sys.stderr
    logger.remove()
    logger.configure(patcher=_without_secrets)
    handlers = list(logging.root.handlers)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        warnings.catch_warnings(action="ignore"),
    ):
        sys.stderr = nowhere
        for handler in handlers:
            handler.addFilter(_is_ours)
        try:
            yield
        finally:
            sys.stderr = before
            logger.remove()
            for handler in handlers:
                handler.removeFilter(_is_ours)


def _without_secrets(record: Any) -> None:
    """Have loguru write messages and stack traces without the secrets of addresses, and without the
    values of variables.
    """
    said = [record["message"]]
    if record["exception"] is not None:
        said += ["\n", *traceback.format_exception(record["exception"].value)]
    record["exception"] = None
    record["message"] = redacted("".join(said))


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in ("trainer", "kernels", "launch")


log = logging.getLogger(__name__)

LOGS, JOBS = "logs", "jobs.json"
POLL_SECONDS = 0.5
Advance = Callable[[str, int, int], None]
"""Called with a stage's name, the number of its tasks that have ended, and the number in all."""


def run_locally(plan: BuildPlan, advance: Advance) -> None:
    """Run every stage with `corpus.workers` processes (None: one a core).

    Raises the DataError or RecipeError that a task raised.
    """
    from trainer.corpus.build.execute import LocalExecutor

    workers = plan.section.workers or len(os.sched_getaffinity(0))
    watch = LossWatch(Path(plan.folder), plan.section)
    for stage in stages(plan):
        executor = LocalExecutor(
            stage.pipeline,
            tasks=stage.tasks,
            workers=min(workers, stage.tasks),
            logging_dir=str(Path(plan.folder) / LOGS / stage.name),
        )
        with _watched(plan, stage, advance, watch):
            executor.run()


def run_on_slurm(plan: BuildPlan, advance: Advance) -> None:
    """Submit every stage as a job array that waits for the one before, and wait for the last.

    Jobs that an interrupted call submitted are waited for, not resubmitted. Raises ClusterError
    where SLURM refuses or loses a job, and the error that a task raised.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError("no sbatch on this machine: submit from a node of the cluster")
    jobs_file = Path(plan.folder) / JOBS
    jobs = json.loads(jobs_file.read_bytes()) if jobs_file.is_file() else []
    todo = stages(plan)
    watch = LossWatch(Path(plan.folder), plan.section)
    if not (jobs and _any_left(jobs)):
        shutil.rmtree(Path(plan.folder) / FAILED, ignore_errors=True)
        jobs = _submit(plan, todo)
        write_whole(jobs_file, json.dumps(jobs).encode())
        log.info("submitted jobs %s", " ".join(jobs))
    for stage in todo:
        while (done := _ended(plan, stage)) < stage.tasks:
            advance(stage.name, done, stage.tasks)
            watch.look(stage.name)
            failure = _failure(Path(plan.folder))
            lost = not _any_left(jobs) and _ended(plan, stage) < stage.tasks
            if failure is not None or lost:
                subprocess.run(["scancel", *jobs], check=False)
                jobs_file.unlink()
                raise failure or ClusterError(
                    f"the jobs of stage {stage.name} ended before their work was done: look into"
                    f" {Path(plan.folder) / LOGS / stage.name / 'slurm'}, then build again to"
                    " continue"
                )
            # SLURM reports no end of a job: its queue is polled.
            time.sleep(POLL_SECONDS)
        watch.look(stage.name)
        advance(stage.name, stage.tasks, stage.tasks)


def _submit(plan: BuildPlan, todo: list[BuildStage]) -> list[str]:
    from trainer.corpus.build.execute import SlurmExecutor

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


def _ended(plan: BuildPlan, stage: BuildStage) -> int:
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


def _failure(folder: Path) -> LyceumError | None:
    """The first error that a task wrote to `failed/`, rebuilt with its type; None without one."""
    for path in sorted((folder / FAILED).glob("*.json")):
        return error_of(json.loads(path.read_bytes()))
    return None


@contextmanager
def _watched(
    plan: BuildPlan, stage: BuildStage, advance: Advance, watch: LossWatch
) -> Iterator[None]:
    """Report the stage's progress to `advance` every POLL_SECONDS and at its end, and its losses
    as its tasks end.
    """
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(POLL_SECONDS):
            advance(stage.name, _ended(plan, stage), stage.tasks)
            watch.look(stage.name)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        watch.look(stage.name)
    advance(stage.name, stage.tasks, stage.tasks)
