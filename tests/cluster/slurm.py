"""A real SLURM cluster of two nodes on this machine, for as long as a test lasts."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.ports import own_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
START_SECONDS = 600.0
"""A controller on a busy machine has its nodes after a second or two."""

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def absent_programs() -> list[str]:
    """What a cluster needs and this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Path]:
    """Start munge, the controller and two nodes in `folder`; yields the path of slurm.conf.

    Only processes that were started here are ended.
    """
    with own_port() as controller, own_port() as node1, own_port() as node2:
        configuration = _configure(folder, [controller, node1, node2])
        with _daemons(configuration):
            yield configuration


def _configure(folder: Path, ports: list[int]) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "state").mkdir()
    for node in ("node1", "node2"):
        (folder / f"spool.{node}").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            user=os.environ.get("USER") or _user(),
            folder=folder,
            ports=ports,
        )
    )
    return configuration


@contextmanager
def _daemons(configuration: Path) -> Iterator[None]:
    folder = configuration.parent
    key = folder / "munge.key"
    environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": _path()}
    commands = [
        ["munged", "--foreground", "--force", f"--key-file={key}"]
        + [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
        + [f"--socket={folder}/munge.socket"],
        ["slurmctld", "-D", "-f", str(configuration)],
        ["slurmd", "-D", "-N", "node1", "-f", str(configuration)],
        ["slurmd", "-D", "-N", "node2", "-f", str(configuration)],
    ]
    started: list[subprocess.Popen[bytes]] = []
    with (folder / "output.log").open("wb") as output:
        try:
            for command in commands:
                started.append(
                    subprocess.Popen(command, env=environment, stdout=output, stderr=output)
                )
                if command[0] == "munged":
                    _wait(lambda: (folder / "munge.socket").exists(), folder)
            _wait(lambda: _idle(environment) == 2, folder)
            yield
        finally:
            for process in reversed(started):
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(START_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _idle(environment: dict[str, str]) -> int:
    command = ["sinfo", "--noheader", "--Node", "--format=%T"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return told.stdout.split().count("idle")


def _wait(ready, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            logs = "\n".join(
                f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}"
                for path in sorted(folder.glob("*.log"))
            )
            raise AssertionError(f"the cluster did not start:\n{logs}")
        # Three daemons that say only by answering that they are up.
        time.sleep(0.05)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
