"""The whole service on a real engine, from build to `down -v`, broken on the way.

    python3 tests/compose/scenario.py [--image NAME] [--keep-image] [--json FILE]

Standard library only: it runs on a host that has Docker and nothing of ours.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from beside import (
    ALERTS,
    SPOOFED,
    Grafana,
    Prometheus,
    TlsSite,
    can_be_had,
    image_of,
    proxy_root,
    wrong_logins,
)
from stack import (
    REPOSITORY,
    Failed,
    Json,
    Stack,
    free_port,
    host_of,
    inspect,
    kill_from_outside,
    sh,
    trials_of,
    wait_for,
    write_secret,
)

BUDGET = 16  # n_trials of search.yaml
PROJECT = "nkat-compose-test"
FAR_PROJECT = "nkat-compose-test-far"
IMAGE = "nkat-search:compose-test"
REVISION = "0123abc"
DASHBOARD_HOST = "search.compose.test"  # a name that only the proxy's certificate knows
RECOVERY_S = 240.0  # lease, restart and the other workers' trials together; more is a hang


class Scenario:
    """The steps in their order; each adds rows to the table.

    Args:
        scratch: folder for secrets, settings and results.
        image: one that is on the engine already; None builds it.
        keep_image: leave the built image on the engine.
    """

    def __init__(self, *, scratch: Path, image: str | None, keep_image: bool) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.figures: dict[str, float] = {}
        self._scratch = scratch
        self._given, self._image = image is not None, image or IMAGE
        self._keep_image = keep_image or self._given
        self._out = scratch / "out"
        self._out.mkdir()
        self._out.chmod(0o777)
        configs = scratch / "configs"
        configs.mkdir()
        shutil.copy(REPOSITORY / "tests/compose/search.yaml", configs)
        (scratch / "data").mkdir()
        self._password = write_secret(scratch / "dashboard_password")
        write_secret(scratch / "postgres_password")
        write_secret(scratch / "worker_password")
        # The address under which containers reach this host: what another host would use.
        gateway = "{{(index .IPAM.Config 0).Gateway}}"
        self._address = sh("docker", "network", "inspect", "bridge", "--format", gateway).strip()
        self._port = free_port()
        common = {
            "NKAT_IMAGE": self._image,
            "POSTGRES_PASSWORD_FILE": str(scratch / "postgres_password"),
            "WORKER_PASSWORD_FILE": str(scratch / "worker_password"),
            "NKAT_REVISION": REVISION,
            "TLS_DIR": str(scratch / "tls"),
            "POSTGRES_PORT": str(free_port()),
            "NKAT_DATA": str(scratch / "data"),
            "NKAT_GRACE_S": "20",
            "NKAT_STOP_GRACE": "30s",
        }
        self._ports = {name: free_port() for name in ("prometheus", "grafana", "proxy")}
        service = common | {
            "DASHBOARD_PASSWORD_FILE": str(scratch / "dashboard_password"),
            "DASHBOARD_USER": "tester",
            "DASHBOARD_PORT": str(self._port),
            "POSTGRES_BIND": self._address,
            "NKAT_SEARCH_FILE": "search.yaml",
            "NKAT_CONFIGS": str(configs),
            "NKAT_OUT": str(self._out),
            "PROMETHEUS_PORT": str(self._ports["prometheus"]),
            "GRAFANA_PORT": str(self._ports["grafana"]),
            "DASHBOARD_HOST": DASHBOARD_HOST,
            "PROXY_BIND": "127.0.0.1",
            "PROXY_PORT": str(self._ports["proxy"]),
        }
        files = ("docker-compose.yml", "docker-compose.tls.yml")
        self.stack = Stack(project=PROJECT, files=files, settings=service, scratch=scratch)
        # The same project: what a user adds to COMPOSE_FILE for a dashboard behind TLS.
        self.proxied = Stack(
            project=PROJECT,
            files=(*files, "docker-compose.proxy.yml"),
            settings=service,
            scratch=scratch,
        )
        self.far = Stack(
            project=FAR_PROJECT,
            files=("docker-compose.worker.yml",),
            settings=common | {"NKAT_DB_HOST": self._address},
            scratch=scratch,
        )

    # --- the table ---------------------------------------------------------------

    def row(self, what: str, figure: str = "") -> None:
        self.rows.append((what, "held", figure))
        print(f"  ok  {what}  {figure}", flush=True)

    def expect(self, condition: object, what: str, figure: str = "") -> None:
        if not condition:
            raise Failed(f"{what} ({figure})" if figure else what)
        self.row(what, figure)

    def seconds(self, name: str, since: float) -> str:
        self.figures[name] = round(time.monotonic() - since, 1)
        return f"{self.figures[name]:.1f} s"

    # --- the steps ---------------------------------------------------------------

    def build(self) -> None:
        start = time.monotonic()
        if not self._given:
            self.stack("build", "--quiet")
        took = self.seconds("build_s", start)
        size = int(inspect(self._image, "{{.Size}}"))
        self.figures["image_gb"] = round(size / 1e9, 2)
        self.row(
            f"{self._image} is there" if self._given else "the image builds",
            f"{took}, {size / 1e9:.2f} GB",
        )
        tools = sh(
            *("docker", "run", "--rm", "--entrypoint", "sh", self._image, "-c"),
            "for t in gcc cc make g++ ld; do command -v $t; done; id -u",
        ).split()
        self.expect(tools == ["10001"], "no build tools in it, and not root", " ".join(tools))
        label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
        if not self._given:
            self.expect(inspect(IMAGE, label) == REVISION, "it is labelled with its revision")

    def up(self) -> None:
        tls = self._scratch / "tls"
        sh(
            *("sh", str(REPOSITORY / "deploy/make-certs.sh"), self._address),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "TLS_DIR": str(tls)},
        )
        start = time.monotonic()
        self.stack("up", "--detach")
        self.row("up -d returns", self.seconds("up_s", start))
        self._await("a first trial runs", lambda s: s["attempts"] >= 1, 180)
        self.row("from up to the first trial", self.seconds("up_to_first_trial_s", start))
        for name in ("postgres", "orchestrator", "dashboard", "worker"):
            (container,) = self.stack.containers(name)
            wait_for(
                f"{name} healthy",
                lambda c=container: inspect(c, "{{.State.Health.Status}}") == "healthy",
                within_s=120,
            )
        self.row("all four services are healthy", self.seconds("up_to_healthy_s", start))
        self.expect(
            inspect(self.stack.containers("migrate", running=False)[0], "{{.State.ExitCode}}")
            == "0",
            "migrate ended well before them",
        )
        (worker,) = self.stack.containers("worker")
        limits = inspect(worker, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}").split()
        self.expect(all(int(n) > 0 for n in limits), "a worker's limits hold", " ".join(limits))
        users = self._sql(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'nkat-worker'"
        )
        self.expect(users == "nkat_worker", "workers come as a user who can delete nothing")

    def metrics(self) -> None:
        text = self.stack(
            *("exec", "-T", "orchestrator", "python", "-c"),
            "import urllib.request as r; "
            "print(r.urlopen('http://orchestrator:9464/metrics', timeout=9).read().decode())",
        )
        values = dict(
            line.rsplit(" ", 1) for line in text.splitlines() if line[:1] not in ("#", "")
        )
        self.expect(
            float(values["nkat_trials_budget"]) == BUDGET
            and float(values["nkat_checkpoint_disk_size_bytes"]) > 0
            and any(name.startswith("nkat_worker_last_heartbeat") for name in values),
            "metrics are scraped from the orchestrator",
            f"{len(values)} samples",
        )

    def dashboard(self) -> None:
        self.expect(self._get("/dashboard", None) == 401, "dashboard without a login: 401")
        self.expect(self._get("/api/studies", "wrong") == 401, "with a wrong password: 401")
        self.expect(self._get("/dashboard", self._password) == 200, "with the right one: 200")
        self.expect(
            self._get("/api/studies/1", self._password, method="DELETE") == 403,
            "deleting the study through it: 403 (read-only)",
        )
        self.expect(self._get("/healthz", None) == 200, "its health page needs no login: 200")

    def observe(self) -> None:
        """The profile `observe`: as much of it as there are images for."""
        there = [name for name in ("prometheus", "grafana") if self._image_is_here(name)]
        if not there:
            return
        start = time.monotonic()
        self.stack("--profile", "observe", "up", "--detach", "--no-deps", *there)
        if "prometheus" in there:
            prometheus = Prometheus(self._ports["prometheus"])
            wait_for("Prometheus sees its target", prometheus.target_is_up, within_s=90)
            self.row("Prometheus: its target is up", self.seconds("target_up_s", start))
            alerts = wait_for("alerts are evaluated", prometheus.alerts, within_s=60)
            self.expect(alerts == ALERTS, "its three alerts are evaluated", " ".join(alerts))
            self.expect(
                prometheus.value("max(nkat_trials_budget)") == BUDGET
                and prometheus.value('ALERTS{alertstate="firing"}') is None,
                "it has the search's metrics, and no alert fires",
            )
        if "grafana" in there:
            grafana = Grafana(self._ports["grafana"], login=f"tester:{self._password}")
            panels = wait_for("Grafana's dashboard", grafana.panels, within_s=120)
            self.row("Grafana: its dashboard is there, with our login", f"{panels} panels")
            self.expect(grafana.refuses_strangers(), "and for nobody without")
            if "prometheus" in there:
                self.expect(grafana.sees("nkat_trials_budget"), "it reads Prometheus")

    def observed(self) -> None:
        """What was broken on the way stands in Prometheus; then the observers go."""
        if self.stack.containers("prometheus"):
            lost = Prometheus(self._ports["prometheus"]).value(
                "max(max_over_time(nkat_attempts_lost_total[1h]))"
            )
            self.expect(lost, "Prometheus has recorded the lost attempt", f"{lost or 0:.0f} lost")
        self.stack("--profile", "observe", "rm", "--stop", "--force", "prometheus", "grafana")

    def proxy(self) -> None:
        """The dashboard behind TLS, asked by the name in the certificate."""
        if not self._image_is_here("proxy"):
            return
        start = time.monotonic()
        self.proxied("up", "--detach", "dashboard", "proxy")
        root = proxy_root(self.proxied)
        site = TlsSite(host=DASHBOARD_HOST, port=self._ports["proxy"], root=root)
        wait_for("the proxy answers over TLS", site.is_up, within_s=60, every_s=0.2)
        login = f"tester:{self._password}"
        status, headers = site.get("/dashboard", login=login)
        self.expect(
            status == 200 and "strict-transport-security" in headers,
            "proxy: the dashboard over TLS, by the proxy's own CA",
            self.seconds("proxy_s", start),
        )
        self.expect(site.get("/dashboard")[0] == 401, "over TLS without a login: 401")
        self.expect(
            site.get("/dashboard", login="tester:wrong")[0] == 401,
            "over TLS with a wrong password: 401",
        )
        heard = wrong_logins(self.proxied)
        inside = self.proxied("ps", "--format", "{{.Name}}", "proxy").strip()
        own = inspect(inside, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
        self.expect(
            heard and not {SPOOFED, own} & set(heard),
            "whose sender is the client, not the proxy, nor whom the client names",
            " ".join(heard),
        )

    def _image_is_here(self, service: str) -> bool:
        image = image_of(self.proxied, service)
        if can_be_had(image):
            return True
        self.rows.append((service, "not seen", f"no image {image} here, nor a registry"))
        print(f"  --  {service}: not seen, no image {image}", flush=True)
        return False

    def scale(self) -> None:
        start = time.monotonic()
        self.stack.set(NKAT_WORKERS="3")
        self.stack("up", "--detach")
        self._await("three workers hold trials", lambda s: _holding(s) >= 3, RECOVERY_S)
        self.row("NKAT_WORKERS=3: each on a trial", self.seconds("scale_to_3_s", start))
        start = time.monotonic()
        self.stack("up", "--detach")
        self.expect(
            len(self.stack.containers("worker")) == 3,
            "a plain up -d keeps all three",
            self.seconds("up_while_running_s", start),
        )

    def kill_one(self) -> None:
        """kill -9 by the host: the lease runs out, another attempt begins."""
        container, trial, _ = self._busy_worker()
        before = self._trial(self.stack.status(), trial)["attempts"]
        start = time.monotonic()
        kill_from_outside(container)
        self._await(
            f"trial {trial} runs again",
            lambda s: self._trial(s, trial)["attempts"] > before,
            RECOVERY_S,
        )
        self.row(
            f"kill -9 of a worker: trial {trial} runs again",
            self.seconds("recover_kill_9_s", start),
        )
        self._await("three workers again", lambda s: _alive(s) >= 3, RECOVERY_S)
        self.expect(
            int(inspect(container, "{{.RestartCount}}")) >= 1,
            "its container was started again",
            self.seconds("restart_after_kill_9_s", start),
        )

    def stop_one(self) -> None:
        """docker stop: hands its trial back within the grace time, nothing counted as lost."""
        container, trial, done = self._busy_worker()
        status = self.stack.status()
        before, lost = self._trial(status, trial)["attempts"], status["lost"]
        start = time.monotonic()
        sh("docker", "stop", "--time", "30", container)
        stopped = self.seconds("docker_stop_s", start)
        code = inspect(container, "{{.State.ExitCode}}")
        self.expect(code in ("0", "143"), "docker stop: ends by itself in time", stopped)
        after = self.stack.status()
        self.expect(
            after["lost"] == lost and after["handed_back"] >= 1,
            f"trial {trial} was handed back, not lost",
            f"{after['handed_back']} handed back",
        )
        start = time.monotonic()
        sh("docker", "start", container)
        stage, epoch = wait_for(
            f"trial {trial} goes on",
            lambda: self._first_epoch(trial, after_attempt=before),
            within_s=RECOVERY_S,
            every_s=0.1,
        )
        took = self.seconds("resume_after_docker_stop_s", start)
        self.expect(
            (stage, epoch) > (1, done),
            "and goes on after its checkpoint, not from the start",
            f"{took}, at stage {stage}, epoch {epoch}; stopped after epoch {done} of stage 1",
        )

    def restart_postgres(self) -> None:
        before = self.stack.status()
        self.expect(before["done"] < BUDGET and before["running"], "the search is under way")
        names = self.stack.containers("worker")
        restarts = {c: inspect(c, "{{.RestartCount}}") for c in names}
        start = time.monotonic()
        self.stack("restart", "postgres")
        down = self.seconds("postgres_away_s", start)
        alive = _alive(before)
        self._await(
            "all workers beat again",
            lambda s: _alive(s, younger_than_s=time.monotonic() - start) >= alive,
            RECOVERY_S,
        )
        self.row(
            f"Postgres restarted mid-search ({down}): all workers beat again",
            self.seconds("recover_postgres_restart_s", start),
        )
        self.expect(
            {c: inspect(c, "{{.RestartCount}}") for c in names} == restarts,
            "no worker ended over it",
        )

    def another_host(self) -> None:
        """A worker of another project, which reaches Postgres over TLS only."""
        self.far("up", "--detach", "--no-build")
        (container,) = self.far.containers("worker")
        host = host_of(container)
        self._await("the far worker holds a trial", lambda s: trials_of(s, host), RECOVERY_S)
        self.row("a worker of another host joins over TLS (verify-full)")

    def finish(self) -> Json:
        start = time.monotonic()
        self._await("the search ends", lambda s: s["done"] >= BUDGET, 900)
        self.row("the search ends", self.seconds("rest_of_search_s", start))
        status = self.stack.status()
        counted = status["complete"] + status["pruned"]
        self.expect(
            status["done"] == status["budget"] == counted == BUDGET,
            "exact budget: COMPLETE + PRUNED",
            f"{counted} of {BUDGET}",
        )
        left = {key: status[key] for key in ("running", "waiting", "failed", "leased", "open")}
        self.expect(not any(left.values()), "no trial left over", str(left))
        numbers = sorted(row["number"] for row in status["trials"])
        self.expect(numbers == list(range(BUDGET)), "no trial lost, none twice", f"{numbers}")
        self.expect(status["lost"] >= 1, "the killed worker's attempt is on record")

        def ended() -> bool:
            return not self.stack.containers("worker") and not self.far.containers("worker")

        wait_for("workers end", ended, within_s=60)
        codes = [
            inspect(c, "{{.State.ExitCode}}")
            for s in (self.stack, self.far)
            for c in s.containers("worker", running=False)
        ]
        self.expect(
            sorted(codes)[: len(codes) - 1] == ["0"] * (len(codes) - 1)
            and set(codes) <= {"0", "143"},
            "workers ended by themselves (143: the stopped one)",
            " ".join(codes),
        )
        return status

    def tools(self, *command: str) -> str:
        return self.stack("run", "--rm", "--no-TTY", "tools", *command)

    def export(self) -> str:
        migrated = inspect(
            self.stack.containers("migrate", running=False)[0], "{{.State.StartedAt}}"
        )
        start = time.monotonic()
        self.tools("export", "--out", "/out/best.yaml", "--force")
        self.row("tools export", self.seconds("export_s", start))
        again = inspect(self.stack.containers("migrate", running=False)[0], "{{.State.StartedAt}}")
        self.expect(again == migrated, "for which migrate did not run again")
        text = (self._out / "best.yaml").read_text(encoding="utf-8")
        self.expect("model:" in text and "train:" in text, "best.yaml exported", f"{len(text)} B")
        return text

    def other_tools(self) -> None:
        """Each needs another of the folders: results, data, cache, checkpoints."""
        self.tools("report", "--out", "/out/report.html")
        self.tools(
            *("train", "--config", "/out/best.yaml", "--dataset", "mnist"),
            *("--out", "/out/again.json"),
        )
        # No prepared file is here: it says so, with exit code 1.
        missing = self.stack("run", "--rm", "--no-TTY", "tools", "data", "check", check=False)
        self.tools("backup", "/out/search.backup")
        written = {path.name for path in self._out.iterdir()}
        self.expect(
            written >= {"best.yaml", "report.html", "again.json", "search.backup"}
            and "not here" in missing,
            "tools: report, train, data check, backup",
            " ".join(sorted(written)),
        )

    def restore(self, before: Json) -> None:
        """Everything deleted, the backup put into a fresh stack."""
        self.stack("down", "--volumes")
        start = time.monotonic()
        self.tools("restore", "/out/search.backup")
        self.stack("up", "--detach")
        self._await("the search is there", lambda s: s["budget"] == BUDGET, 120)
        after = self.stack.status()
        keys = ("study", "budget", "done", "complete", "pruned", "attempts", "lost", "best")
        self.expect(
            all(before[key] == after[key] for key in keys),
            "a backup restored into a fresh stack: the search is as it was",
            self.seconds("restore_s", start),
        )

    def down_and_up(self, before: Json, exported: str) -> None:
        self.far("down", "--volumes")
        start = time.monotonic()
        self.stack("down")
        self.row("down", self.seconds("down_s", start))
        start = time.monotonic()
        self.stack("up", "--detach")
        self._await("the study is there again", lambda s: s["budget"] == BUDGET, 120)
        again = self.seconds("up_again_s", start)
        after = self.stack.status()
        keys = ("study", "budget", "done", "complete", "pruned", "attempts", "lost", "best")
        same = all(before[key] == after[key] for key in keys)
        trials = [[_lasting(row) for row in status["trials"]] for status in (before, after)]
        self.expect(same and trials[0] == trials[1], "up again: the study is as it was", again)
        workers = self.stack.containers("worker", running=False)
        self.expect(len(workers) == 3, "up again with all three workers")
        wait_for(
            "the workers end",
            lambda: (
                {inspect(w, "{{.State.Status}} {{.State.ExitCode}}") for w in workers}
                == {"exited 0"}
            ),
            within_s=90,
        )
        self.row("workers of a finished search end at once, code 0")
        self.export()
        text = (self._out / "best.yaml").read_text(encoding="utf-8")
        self.expect(_model_part(text) == _model_part(exported), "and exports the same network")

    def clean_up(self) -> None:
        """Everything that was made, whatever happened before."""
        down = ("down", "--volumes", "--remove-orphans", "--timeout", "10")
        for stack in (self.far, self.proxied):
            stack("--profile", "observe", *down, check=False)
        if not self._keep_image:
            sh("docker", "image", "rm", "--force", IMAGE, check=False)

    def nothing_left(self) -> None:
        label = "label=com.docker.compose.project="
        left = "".join(
            sh("docker", *kind, "--filter", f"{label}{project}", "--quiet")
            for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
            for project in (PROJECT, FAR_PROJECT)
        )
        self.expect(not left.split(), "down -v leaves nothing behind")

    # --- helpers -----------------------------------------------------------------

    def _await(self, what: str, holds: Callable[[Json], object], within_s: float) -> Json:
        def probe() -> Json | None:
            status = self.stack.status()
            return status if status and holds(status) else None

        found: Json = wait_for(what, probe, within_s=within_s, every_s=0.3)
        return found

    def _busy_worker(self) -> tuple[str, int, int]:
        """A container that holds a trial with most of its way still before it, the trial's
        number, and the epochs that it has behind it (at least 2)."""

        def probe() -> tuple[str, int, int] | None:
            status = self.stack.status()
            for container in self.stack.containers("worker"):
                host = host_of(container)
                for worker in status.get("workers", []):
                    early = worker["stage"] == "1" and 2 <= (worker["epoch"] or 0) <= 5
                    if worker["host"] == host and worker["trial"] is not None and early:
                        return container, worker["trial"], worker["epoch"]
            return None

        found: tuple[str, int, int] = wait_for(
            "a worker early in its trial", probe, within_s=120, every_s=0.2
        )
        return found

    def _first_epoch(self, trial: int, *, after_attempt: int) -> tuple[int, int] | None:
        """Stage and epoch of a trial's newest attempt, once there is a later one that has
        any.  Straight from the database: `status` takes longer than an epoch here."""
        row = self._sql(
            f"SELECT stage, epoch FROM nkat_attempt WHERE trial_number = {trial} "
            f"AND attempt > {after_attempt} AND epoch IS NOT NULL ORDER BY attempt LIMIT 1"
        )
        if not row:
            return None
        stage, epoch = row.split("|")
        return int(stage), int(epoch)

    def _sql(self, query: str) -> str:
        psql = ("exec", "-T", "postgres", "psql", "-U", "nkat", "-d", "nkat", "-tA", "-c", query)
        return self.stack(*psql).strip()

    @staticmethod
    def _trial(status: Json, number: int) -> Json:
        row: Json = next(row for row in status["trials"] if row["number"] == number)
        return row

    def _get(self, path: str, password: str | None, *, method: str = "GET") -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", method=method)
        if password is not None:
            token = base64.b64encode(f"tester:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code


def _alive(status: Json, *, younger_than_s: float | None = None) -> int:
    """Workers (not the orchestrator) whose beat is known and young."""
    return sum(
        worker["state"] == "alive"
        and worker["note"] != "orchestrator"
        and (younger_than_s is None or worker["beat_age_s"] < younger_than_s)
        for worker in status["workers"]
    )


def _holding(status: Json) -> int:
    return sum(worker["trial"] is not None for worker in status["workers"])


def _open(status: Json, number: int) -> bool:
    return any(
        row["number"] == number and row["state"].lower() in ("running", "waiting")
        for row in status["trials"]
    )


def _lasting(row: Json) -> Json:
    """A trial's row without its ages, which go on."""
    return {key: value for key, value in row.items() if not key.endswith("age_s")}


def _model_part(text: str) -> str:
    """best.yaml's model section: the rest holds dates."""
    lines = text.splitlines()
    start = lines.index("model:")
    end = next(
        (i for i in range(start + 1, len(lines)) if lines[i] and not lines[i].startswith(" ")),
        len(lines),
    )
    return "\n".join(lines[start:end])


@contextmanager
def scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nkat-compose-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def print_table(rows: list[tuple[str, str, str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", help="run with this image instead of building one")
    parser.add_argument("--keep-image", action="store_true", help="leave the image on the engine")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with scratch_folder() as scratch:
        scenario = Scenario(scratch=scratch, image=options.image, keep_image=options.keep_image)
        code = 0
        try:
            scenario.build()
            scenario.up()
            scenario.dashboard()
            scenario.metrics()
            scenario.observe()
            scenario.scale()
            scenario.kill_one()
            scenario.stop_one()
            scenario.another_host()
            scenario.restart_postgres()
            before = scenario.finish()
            scenario.observed()
            exported = scenario.export()
            scenario.other_tools()
            scenario.down_and_up(before, exported)
            scenario.restore(before)
            scenario.proxy()
        except (Failed, OSError, KeyError, StopIteration) as error:
            scenario.rows.append((str(error).splitlines()[0], "BROKEN", type(error).__name__))
            print(f"\nBROKEN: {error}\n", file=sys.stderr)
            print(scenario.stack("logs", "--tail", "60", check=False), file=sys.stderr)
            code = 1
        finally:
            scenario.clean_up()
        if code == 0:
            try:
                scenario.nothing_left()
            except Failed as error:
                scenario.rows.append((str(error), "BROKEN", ""))
                code = 1
        print_table(scenario.rows)
        if options.json:
            options.json.write_text(json.dumps(scenario.figures, indent=2) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
