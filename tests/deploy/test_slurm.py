"""The Slurm jobs in a made-up environment of Slurm's; on a real one: tests/deploy/slurm.

`nkat-search worker` is replaced by a script that behaves as the real one does on signals:
what is tested here is what the job makes of its ends.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from process_helpers import wait_for

SLURM = Path(__file__).resolve().parents[2] / "deploy" / "slurm"
JOBS = sorted(SLURM.glob("*.sbatch"))
WORKER = """#!/bin/bash
echo "$NKAT_STORAGE $*" >>"$LOG"
trap 'sleep 0.2; echo saved >>"$LOG"; exit 143' TERM
code=$(cat "$CODE" 2>/dev/null || true)
[ -z "$code" ] || exit "$code"
while :; do sleep 0.05; done
"""


def options(job: Path) -> dict[str, str]:
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", job.read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_jobs_parse_and_ask_for_a_warning_and_a_requeue(job: Path) -> None:
    done = subprocess.run(["bash", "-n", str(job)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    asked = options(job)
    assert asked["signal"] == "B:TERM@90"
    assert "requeue" in asked
    assert asked["open-mode"] == "append", "a requeued job must not wipe out its log"
    lines = job.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:]), "Slurm stops reading"


def test_the_worker_saves_within_the_warning() -> None:
    text = (SLURM / "workers.sbatch").read_text()
    assert "array" in options(SLURM / "workers.sbatch")
    (grace,) = re.findall(r"--grace (\d+)", text)
    assert float(grace) < 90


class Cluster:
    """Programs of Slurm's that write down how they were called, and a folder to share."""

    def __init__(
        self, folder: Path, *, time_left: str, state: str = "RUNNING", preempted: str = "None"
    ) -> None:
        self.shared = folder / "shared"
        self.log, self.code, self.calls = folder / "log", folder / "code", folder / "calls"
        self.shared.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        for name, body in (
            ("squeue", f"echo {time_left}"),
            (
                "scontrol",
                f'if [ "$1" = requeue ]; then echo "scontrol $*" >>{self.calls}; exit; fi\n'
                f'echo "JobId=42 JobState={state} Reason=None PreemptTime={preempted} Nodes=vm"',
            ),
        ):
            (programs / name).write_text(f"#!/bin/bash\n{body}\n")
            (programs / name).chmod(0o755)
        self.worker = folder / "nkat-search"
        self.worker.write_text(WORKER)
        self.worker.chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "NKAT_SHARED": str(self.shared),
            "NKAT_SEARCH": str(self.worker),
            "LOG": str(self.log),
            "CODE": str(self.code),
            "SLURM_JOB_ID": "42",
            "SLURM_ARRAY_TASK_ID": "0",
            "SLURM_CPUS_PER_TASK": "3",
        }

    @contextmanager
    def job(self) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            ["bash", str(SLURM / "workers.sbatch")],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as job:
            try:
                yield job
            finally:
                if job.poll() is None:
                    os.killpg(job.pid, signal.SIGKILL)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.mark.parametrize(
    ("time_left", "state", "preempted", "requeued"),
    [
        ("1:12", "RUNNING", "None", True),
        ("0:07", "RUNNING", "None", True),
        ("2:29", "RUNNING", "None", True),  # the warning may come 60 s early
        ("3:00", "RUNNING", "None", False),
        ("3:20:00", "RUNNING", "None", False),
        ("INVALID", "RUNNING", "None", False),
        ("3:20:00", "RUNNING", "2026-11-24T19:01:53", True),
        ("3:20:00", "COMPLETING", "2026-11-24T19:01:53", False),  # Slurm requeues it itself
        ("1:12", "COMPLETING", "None", False),  # scancel
    ],
)
def test_a_warned_job_waits_for_its_worker_and_is_queued_again(
    tmp_path: Path, time_left: str, state: str, preempted: str, requeued: bool
) -> None:
    cluster = Cluster(tmp_path, time_left=time_left, state=state, preempted=preempted)
    (cluster.shared / "storage_url").write_text("postgresql://one\n")
    with cluster.job() as job:
        wait_for("the worker", lambda: len(cluster.lines()) == 1, 10)
        job.terminate()  # to the batch shell alone, as --signal=B: does
        assert job.wait(10) == 143
    first, last = cluster.lines()
    assert first.startswith("postgresql://one worker ")
    assert "--threads 3" in first
    assert last == "saved"
    called = cluster.calls.read_text() if cluster.calls.exists() else ""
    assert called == ("scontrol requeue 42\n" if requeued else "")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_its_own_end_is_the_jobs_end(tmp_path: Path, code: int) -> None:
    cluster = Cluster(tmp_path, time_left="1:00")
    (cluster.shared / "storage_url").write_text("postgresql://one\n")
    cluster.code.write_text(str(code))
    with cluster.job() as job:
        assert job.wait(10) == code
    assert not cluster.calls.exists()


def test_it_follows_a_service_that_moved(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, time_left="1:00:00")
    url = cluster.shared / "storage_url"
    cluster.worker.write_text(
        WORKER.replace("code=$(cat", f'[ "$(wc -l <"$LOG")" = 2 ] && exit 0\nrm {url}\ncode=$(cat')
    )
    url.write_text("postgresql://one\n")
    cluster.code.write_text("1")
    with cluster.job() as job:
        wait_for("the first worker", lambda: len(cluster.lines()) == 1, 10)
        url.write_text("postgresql://two\n")
        assert job.wait(10) == 0
    assert [line.split()[0] for line in cluster.lines()] == [
        "postgresql://one",
        "postgresql://two",
    ]


def test_without_the_shared_folder_it_says_so(tmp_path: Path) -> None:
    for job in JOBS:
        done = subprocess.run(
            ["bash", str(job)], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert "NKAT_SHARED: is not set" in done.stderr
