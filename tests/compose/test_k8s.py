"""The Kubernetes manifests: against the API's schemas, and against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

K8S = Path(__file__).resolve().parents[2] / "deploy" / "k8s"
BASE = K8S / "base"
OVERLAYS = ("cpu", "external-postgres")
VERSION = kubernetes_validate.latest_version()

Manifest = dict[str, Any]


def load(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def kustomization(folder: Path) -> Manifest:
    (document,) = load(folder / "kustomization.yaml")
    return document


def manifests() -> list[Manifest]:
    return [m for name in kustomization(BASE)["resources"] for m in load(BASE / name)]


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
    files = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(kustomization(BASE)["resources"])


def test_the_services_of_the_compose_file_are_all_there() -> None:
    assert set(pods()) == {"postgres", "migrate", "orchestrator", "dashboard", "worker"}


def test_selectors_meet_the_pods() -> None:
    labels = [pod["metadata"]["labels"] for pod in pods().values()]
    for manifest in manifests():
        spec = manifest.get("spec", {})
        for selector in (spec.get("selector"), spec.get("podSelector")):
            wanted = (selector or {}).get("matchLabels", selector)
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
    budget = next(m for m in manifests() if m["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= (
        pods()["worker"]["metadata"]["labels"].items()
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_patch_what_is_there(overlay: str) -> None:
    document = kustomization(K8S / overlay)
    assert document["resources"] == ["../base"]
    there = [(m["kind"], m["metadata"]["name"]) for m in manifests()]
    for patch in document["patches"]:
        target = patch["target"]
        kinds = target["kind"].strip("()").split("|")
        names = [name for kind, name in there if kind in kinds]
        assert target.get("name", names[0]) in names
        body = yaml.safe_load(patch["patch"])
        assert isinstance(body, list) or body["kind"] in kinds
