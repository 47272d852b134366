"""The Slurm jobs on a real Slurm of one node (Debian: slurmctld slurmd slurm-client munge).

python -m pytest -m slurm tests/deploy         (as root; about a minute)
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from nkat_command import ROOT, TINY_TRAINING
from process_helpers import wait_for

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="no Slurm on this machine"),
]

SEARCH = f"""
study: on-slurm
cut_down: true
n_trials: 1
lambda: counted
gate: {{dataset: cifar10, threshold: 0.01}}
datasets:
  - {{name: cifar10, synthetic: true, epochs: 150, limit: 400, validation: 100}}
{TINY_TRAINING.replace("epochs: 1, ", "")}
space: {{lr: {{low: 0.0001, high: 0.001, log: true}}}}
service: {{lease_s: 15, checkpoint_every_s: 0}}
"""
CONF = """
ClusterName=tested
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 MaxTime=INFINITE GraceTime=60
PartitionName=high Nodes={host} PriorityTier=10 MaxTime=INFINITE PreemptMode=OFF
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Slurm:
    """One node, started for this test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []
        for name in ("state", "spool", "jobs"):
            (folder / name).mkdir()
        ports = {"ctld_port": free_port(), "slurmd_port": free_port()}
        (folder / "slurm.conf").write_text(CONF.format(host=self.host, folder=folder, **ports))

    def start(self) -> None:
        folder = self.folder
        key = folder / "munge.key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        self._start(
            *("munged", "--foreground", "--force", "--key-file", key),
            *("--socket", folder / "munge.socket", "--pid-file", folder / "munge.pid"),
            *("--log-file", folder / "munge.log", "--seed-file", folder / "munge.seed"),
        )
        wait_for("munge", lambda: (folder / "munge.socket").exists(), 10)
        self._start("slurmctld", "-D", "-i")
        self._start("slurmd", "-D", "-N", self.host)
        wait_for("the node", lambda: "idle" in self("sinfo", "-h", "-o", "%t"), 60)

    def _start(self, *words: object) -> None:
        log = (self.folder / f"{words[0]}.out").open("wb")
        with log:
            self._daemons.append(
                subprocess.Popen(
                    [str(word) for word in words], env=self.environment, stdout=log, stderr=log
                )
            )

    def __call__(self, *words: object) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            cwd=self.folder / "jobs",
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    def job(self, *words: object) -> str:
        said = self("sbatch", "--parsable", *words).strip()
        assert said.isdigit(), said
        return said

    def state(self, job: str) -> str:
        return self("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def close(self) -> None:
        if len(self._daemons) > 1:
            self("scancel", "--full", "--user", "root")
            time.sleep(1)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="nkat-slurm-"))
    folder.chmod(0o755)  # the database runs as another user under root
    made = Slurm(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()
        for path in (*folder.glob("*.out"), *folder.glob("*.log"), *folder.glob("jobs/*.log")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}")
        for process in psutil.process_iter():
            try:
                inside = Path(process.cwd()).is_relative_to(folder)
            except (psutil.Error, OSError):
                continue
            if inside:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_search_on_slurm_outlives_preemption(slurm: Slurm) -> None:
    shared = slurm.folder / "shared"
    shared.mkdir()
    config = slurm.folder / "search.yaml"
    config.write_text(SEARCH)
    slurm.environment |= {
        "NKAT_SHARED": str(shared),
        "NKAT_CONFIG": str(config),
        "NKAT_SEARCH": f"{sys.executable} -m search",
        "NKAT_HOST": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    scripts = ROOT / "deploy" / "slurm"
    small = ("--cpus-per-task=1", "--mem=0")
    service = slurm.job(*small, "--partition=high", scripts / "service.sbatch")
    workers = slurm.job(
        *small, "--array=0", "--gres=none", "--time=1:00:00", scripts / "workers.sbatch"
    )

    def log() -> str:
        return "".join(path.read_text() for path in (slurm.folder / "jobs").glob("*.log"))

    def attempts() -> str:
        words = [sys.executable, "-m", "search", "study", "show", "--json"]
        variables = slurm.environment | {
            "NKAT_STORAGE": (shared / "storage_url").read_text().strip(),
            "NKAT_STORAGE_PASSWORD_FILE": str(shared / "password"),
        }
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
        return done.stdout

    wait_for("a checkpoint", lambda: any(shared.glob("checkpoints/*/*")), 120)
    urgent = slurm.job("--partition=high", "--exclusive=user", "-n3", "--wrap", "sleep 3")
    wait_for("the hand-back", lambda: "handed back (SIGTERM)" in log(), 90)
    wait_for("the urgent job", lambda: slurm.state(urgent) in ("COMPLETED", ""), 60)
    wait_for("the worker again", lambda: "attempt 2" in log(), 90)
    assert attempts()
    wait_for("the end", lambda: slurm.state(service) in ("COMPLETED", ""), 180)
    wait_for("the worker's end", lambda: slurm.state(workers) in ("COMPLETED", ""), 60)
    assert (shared / "best.yaml").exists(), log()
    assert (shared / "report.html").exists()
    assert "the search is done" in log()
