"""The Kubernetes manifests: against the API's schemas, and against each other."""

from __future__ import annotations

import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import optuna
import pytest
import yaml
from optuna.trial import TrialState
from sqlalchemy import Engine

from storage.board import Board
from storage.records import Claim
from storage.searches import create_search

K8S = Path(__file__).resolve().parents[2] / "deploy" / "k8s"
BASE = K8S / "base"
OVERLAYS = ("cpu", "external-postgres", "kueue", "keda")
VERSION = kubernetes_validate.latest_version()

Manifest = dict[str, Any]


def load(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def kustomization(folder: Path) -> Manifest:
    (document,) = load(folder / "kustomization.yaml")
    return document


def manifests(folder: Path = BASE) -> list[Manifest]:
    """What a kustomization names, files and folders, and the settings that it generates."""
    document = kustomization(folder)
    found: list[Manifest] = []
    for name in document["resources"]:
        path = (folder / name).resolve()
        found += manifests(path) if path.is_dir() else load(path)
    for made in document.get("configMapGenerator", ()):
        lines = [line for name in made["envs"] for line in (folder / name).read_text().split()]
        data = dict(line.split("=", 1) for line in lines)
        found.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": made["name"]},
                "data": data,
            }
        )
    return found


@cache
def rendered(name: str) -> list[Manifest]:
    """As `kubectl apply -k` would send it."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    done = subprocess.run(
        ["kubectl", "kustomize", str(K8S / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def one(name: str, kind: str, of: str = "worker") -> Manifest:
    (found,) = (m for m in rendered(name) if (m["kind"], m["metadata"]["name"]) == (kind, of))
    return found


def pods() -> dict[str, Manifest]:
    """Pod template of everything that makes pods, by name."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for manifest in manifests()
        if "template" in manifest.get("spec", {})
    }


@pytest.mark.parametrize(
    "manifest", manifests(), ids=lambda m: f"{m['kind']}-{m['metadata']['name']}"
)
def test_every_manifest_fits_the_schema_of_its_kind(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_the_checker_would_see_a_wrong_manifest() -> None:
    worker = next(m for m in manifests() if m["metadata"]["name"] == "worker")
    worker["spec"]["template"]["spec"]["containers"][0]["ressources"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(worker, VERSION, strict=True)


def test_every_file_is_listed() -> None:
    for folder in (path.parent for path in K8S.glob("*/kustomization.yaml")):
        files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        named = {name for name in kustomization(folder)["resources"] if not name.startswith("..")}
        assert files == named | set(kustomization(folder).get("configurations", ())), folder


def test_the_services_of_the_compose_file_are_all_there() -> None:
    assert set(pods()) == {"postgres", "migrate", "orchestrator", "dashboard", "worker"}


def test_selectors_meet_the_pods() -> None:
    labels = [pod["metadata"]["labels"] for pod in pods().values()]
    for manifest in manifests():
        spec = manifest.get("spec", {})
        for selector in (spec.get("selector"), spec.get("podSelector")):
            selector = selector or {}
            for rule in selector.get("matchExpressions", ()):
                names = {have[rule["key"]] for have in labels}
                assert set(rule["values"]) <= names, manifest["metadata"]
            wanted = selector.get(
                "matchLabels", {} if "matchExpressions" in selector else selector
            )
            if wanted:
                assert any(wanted.items() <= have.items() for have in labels), manifest["metadata"]


def test_who_needs_the_database_is_let_in() -> None:
    for name, pod in pods().items():
        client = pod["metadata"]["labels"].get("nkat-search/database-client")
        assert client == (None if name == "postgres" else "true"), name


@pytest.mark.parametrize("name", list(pods()))
def test_every_mount_has_its_volume_and_every_volume_its_source(name: str) -> None:
    known = {m["metadata"]["name"]: m["kind"] for m in manifests()}
    claims = {m["metadata"]["name"] for m in manifests() if m["kind"] == "PersistentVolumeClaim"}
    owner = next(
        m for m in manifests() if m["metadata"]["name"] == name and "template" in m.get("spec", {})
    )
    spec = owner["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    own_claims = {c["metadata"]["name"] for c in owner["spec"].get("volumeClaimTemplates", [])}
    mounted = {m["name"] for c in spec["containers"] for m in c["volumeMounts"]}
    assert mounted == set(volumes) | own_claims
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
    for container in spec["containers"]:
        for source in container.get("envFrom", []):
            assert known[source["configMapRef"]["name"]] == "ConfigMap"


@pytest.mark.parametrize("name", list(pods()))
def test_no_pod_has_more_rights_than_it_needs(name: str) -> None:
    spec = pods()[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "limits" in container["resources"]
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "/tmp" in written, "a read-only root needs a place for scratch files"


def test_no_password_is_in_the_environment() -> None:
    (settings,) = (m["data"] for m in manifests() if m["kind"] == "ConfigMap")
    assert not [key for key in settings if key.endswith("PASSWORD")]
    assert "@" in settings["NKAT_STORAGE"]
    assert ":" not in settings["NKAT_STORAGE"].split("//")[1].split("@")[0], "user only"


def test_workers_have_a_gpu_a_budget_and_time_to_hand_back() -> None:
    worker = pods()["worker"]["spec"]
    (container,) = worker["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    grace_s = float(container["args"][container["args"].index("--grace") + 1])
    assert worker["terminationGracePeriodSeconds"] > grace_s
    job = next(m for m in manifests() if (m["kind"], m["metadata"]["name"]) == ("Job", "worker"))
    assert "completions" not in job["spec"], "the first worker that ends says that all is done"
    assert worker["restartPolicy"] == "Never", "podFailurePolicy asks for it"
    budget = next(m for m in manifests() if m["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == job["spec"]["parallelism"] - 1
    assert budget["spec"]["selector"]["matchLabels"].items() <= (
        pods()["worker"]["metadata"]["labels"].items()
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_patch_what_is_there(overlay: str) -> None:
    document = kustomization(K8S / overlay)
    assert document["resources"][0] == "../base"
    there = [(m["kind"], m["metadata"]["name"]) for m in manifests()]
    for patch in document["patches"]:
        target = patch["target"]
        kinds = target["kind"].strip("()").split("|")
        names = [name for kind, name in there if kind in kinds]
        assert target.get("name", names[0]) in names
        body = yaml.safe_load(patch["patch"])
        assert isinstance(body, list) or body["kind"] in kinds


@pytest.mark.parametrize("name", ["base", *OVERLAYS, "fill-data"])
def test_what_would_be_applied_fits_the_schemas(name: str) -> None:
    for manifest in rendered(name):
        if not manifest["apiVersion"].startswith("keda.sh/"):  # a kind of its own: below
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        assert manifest["metadata"].get("namespace", "nkat") == "nkat"


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_settings_carry_their_hash_so_that_a_change_rolls_the_pods(name: str) -> None:
    (settings,) = (m for m in rendered(name) if m["kind"] == "ConfigMap")
    assert settings["metadata"]["name"].startswith("nkat-")
    for manifest in rendered(name):
        template = manifest.get("spec", {}).get("template", {})
        for container in template.get("spec", {}).get("containers", []):
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] == settings["metadata"]["name"]


def test_probes_ask_the_process_to_live_and_the_beat_to_be_ready() -> None:
    for name in ("worker", "orchestrator"):
        (container,) = pods()[name]["spec"]["containers"]
        for probe in ("livenessProbe", "startupProbe"):
            assert container[probe]["exec"]["command"] == [
                "nkat-search",
                "healthcheck",
                "--process",
            ]
        assert container["readinessProbe"]["exec"]["command"] == ["nkat-search", "healthcheck"]
        wait_s = float(container["args"][container["args"].index("--wait") + 1])
        start = container["startupProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] > wait_s
    (settings,) = (m["data"] for m in manifests() if m["kind"] == "ConfigMap")
    assert settings["NKAT_ALIVE_DIR"].startswith("/tmp/")


def test_nothing_is_allowed_but_what_is_named() -> None:
    policies = {
        m["metadata"]["name"]: m["spec"] for m in manifests() if m["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    opened = [rule for spec in policies.values() for rule in spec.get("ingress", [])]
    assert all(rule.get("from") and rule.get("ports") for rule in opened)
    (namespace,) = (m for m in manifests() if m["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_workers_come_with_a_password_of_their_own() -> None:
    worker = pods()["worker"]["spec"]
    keys = [i["key"] for v in worker["volumes"] if "secret" in v for i in v["secret"]["items"]]
    assert keys == ["worker_password"]
    (settings,) = (m["data"] for m in manifests() if m["kind"] == "ConfigMap")
    assert "//nkat_worker@" in settings["NKAT_WORKER_STORAGE"]
    (migrate,) = pods()["migrate"]["spec"]["containers"]
    assert {"name": "NKAT_WORKER_ROLE", "value": "nkat_worker"} in migrate["env"]


def test_without_gpus_a_worker_has_limits_all_the_same() -> None:
    pod = one("cpu", "Job")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "6Gi"}
    assert "tolerations" not in pod


def test_kueue_starts_the_workers() -> None:
    job = one("kueue", "Job")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_keda_makes_the_jobs_workers() -> None:
    job, scaled = one("keda", "Job"), one("keda", "ScaledJob")
    assert job["spec"]["suspend"] is True
    made = scaled["spec"]["jobTargetRef"]
    assert made["template"] == job["spec"]["template"]
    assert made["podFailurePolicy"] == job["spec"]["podFailurePolicy"]
    assert made["template"]["spec"]["containers"][0]["image"] == "nkat-search:latest"
    assert scaled["spec"]["maxReplicaCount"] >= 1
    assert not [m for m in rendered("keda") if m["kind"] == "PodDisruptionBudget"]


@pytest.mark.postgres
def test_keda_counts_the_trials_that_are_left(engine: Engine) -> None:
    scaled = next(m for m in load(K8S / "keda/scaled-job.yaml") if m["kind"] == "ScaledJob")
    (trigger,) = scaled["spec"]["triggers"]

    def left() -> int:
        with engine.connect() as connection:
            return int(connection.exec_driver_sql(trigger["metadata"]["query"]).scalar_one())

    assert left() == 0, "no study yet"
    for name, budget in (("older", 5), ("newer", 3)):
        create_search(
            engine, study_name=name, search_text="study: x\n", search_hash="x", budget=budget
        )
    board = Board(engine=engine, study_name="newer")
    worker = board.register_worker(host=socket.gethostname(), pid=1, device="cpu", note="")
    claim = board.claim(worker, optuna.samplers.RandomSampler(seed=0))
    assert isinstance(claim, Claim)
    assert left() == 3, "one under way, two open"
    board.finish(claim, state=TrialState.PRUNED, value=None, user_attrs={}, constraints={})
    assert left() == 2
    board.set_state("pause")
    assert left() == 0
    board.close()
