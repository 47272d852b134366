"""One compose project of its own for a test: settings, commands, and looking inside."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]

Json = dict[str, Any]


class Failed(Exception):
    """A check did not hold; the message says which."""


def sh(*command: str, check: bool = True, env: dict[str, str] | None = None) -> str:
    """Runs a command and returns its stdout; its stderr goes into the error."""
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if check and done.returncode != 0:
        tail = (done.stderr or done.stdout).strip()[-2000:]
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{tail}")
    return done.stdout


def wait_for(what: str, probe: Callable[[], Any], *, within_s: float, every_s: float = 1.0) -> Any:
    """Calls `probe` until it returns something true, and returns that."""
    deadline = time.monotonic() + within_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"not within {within_s:.0f} s: {what}")
        time.sleep(every_s)


class Stack:
    """docker compose with this project's files and nobody else's settings.

    Args:
        project: compose project name.
        files: compose files, relative to the repository.
        settings: what a user would write into .env.
        scratch: folder for the env file.
    """

    def __init__(
        self, *, project: str, files: tuple[str, ...], settings: dict[str, str], scratch: Path
    ) -> None:
        env_file = scratch / f"{project}.env"
        self._env_file, self._settings = env_file, dict(settings)
        self.set()
        self._command = ["docker", "compose", "--project-directory", str(REPOSITORY)]
        self._command += ["--env-file", str(env_file), "-p", project]
        for file in files:
            self._command += ["-f", str(REPOSITORY / file)]
        keep = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")
        self._env = {key: os.environ[key] for key in keep if key in os.environ}

    def set(self, **settings: str) -> None:
        """Changes lines of .env, as a user would with an editor."""
        self._settings |= settings
        lines = (f"{key}={value}\n" for key, value in self._settings.items())
        self._env_file.write_text("".join(lines))

    def __call__(self, *arguments: str, check: bool = True) -> str:
        return sh(*self._command, *arguments, check=check, env=self._env)

    def nkat(self, *arguments: str, check: bool = True) -> str:
        """`nkat-search ...` in the orchestrator's container."""
        return self("exec", "-T", "orchestrator", "nkat-search", *arguments, check=check)

    def status(self) -> Json:
        """`status --json`, every trial included; {} while there is no answer."""
        text = self.nkat("status", "--json", "--all", check=False)
        try:
            found = json.loads(text)
        except json.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}

    def containers(self, service: str, *, running: bool = True) -> list[str]:
        """Full ids of a service's containers."""
        state = [] if running else ["--all"]
        return self("ps", "--quiet", *state, service).split()


def inspect(container: str, template: str) -> str:
    return sh("docker", "inspect", "--format", template, container).strip()


def host_of(container: str) -> str:
    """The name under which a worker in this container registers."""
    return inspect(container, "{{.Config.Hostname}}")


def main_process(container: str) -> int:
    """Host pid of the command under the container's init."""
    init = int(inspect(container, "{{.State.Pid}}"))
    children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    if not children:
        raise Failed(f"container {container[:12]}: init {init} has no child")
    return int(children[0])


def kill_from_outside(container: str) -> None:
    """kill -9 of the worker's own process, by the host: the container learns it afterwards."""
    os.kill(main_process(container), signal.SIGKILL)


def trials_of(status: Json, host: str) -> list[int]:
    """Numbers of the trials that a host's workers hold."""
    rows = status.get("workers", [])
    return [r["trial"] for r in rows if r["host"] == host and r["trial"] is not None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_secret(path: Path) -> str:
    """A random password in a file that the containers' users can read."""
    password = secrets.token_hex(16)
    path.write_text(password)
    path.chmod(0o444)
    return password
