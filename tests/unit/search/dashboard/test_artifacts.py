"""Exports as artifacts, through optuna-dashboard's own pages."""

from __future__ import annotations

import io
import json
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna_dashboard import wsgi

from nkat_errors import NkatError
from search.dashboard.artifacts import ExportedTrials, announce_export, announce_report


def export(study_id: int, number: int) -> str:
    if number != 1:
        raise NkatError(f"no trial {number}")
    return f"# study {study_id}, trial {number}\n"


def files() -> ExportedTrials:
    return ExportedTrials(export=export, report=lambda study_id: f"<p>report of {study_id}")


@pytest.fixture
def study() -> optuna.Study:
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    return study


def get(study: optuna.Study, path: str) -> tuple[str, bytes]:
    app = wsgi(study._storage, artifact_store=files())
    environ: dict[str, Any] = {"PATH_INFO": path, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    status: list[str] = []
    parts = app(environ, lambda line, _headers, *_: status.append(line))
    return status[0], b"".join(parts)


def test_the_dashboard_lists_and_serves_an_announced_export(study: optuna.Study) -> None:
    trial = study.trials[1]
    assert announce_export(study, trial_id=trial._trial_id, number=1)
    assert not announce_export(study, trial_id=trial._trial_id, number=1), "listed once"

    status, body = get(study, f"/api/studies/{study._study_id}")
    assert status == "200 OK"
    without, listed = (row["artifacts"] for row in json.loads(body)["trials"])
    assert without == []
    assert [item["filename"] for item in listed] == ["trial-1.yaml"]

    path = f"/artifacts/{study._study_id}/{trial._trial_id}/{listed[0]['artifact_id']}"
    assert get(study, path) == ("200 OK", f"# study {study._study_id}, trial 1\n".encode())


def test_the_dashboard_lists_and_serves_the_report_at_its_study(study: optuna.Study) -> None:
    assert announce_report(study)
    assert not announce_report(study), "listed once"
    _, body = get(study, f"/api/studies/{study._study_id}")
    (listed,) = json.loads(body)["artifacts"]
    assert listed["filename"] == "report.html"
    path = f"/artifacts/{study._study_id}/{listed['artifact_id']}"
    assert get(study, path) == ("200 OK", f"<p>report of {study._study_id}".encode())


@pytest.mark.parametrize("artifact_id", ["0-0", "x", "1-2-3", ""])
def test_what_is_no_export_is_not_found(artifact_id: str) -> None:
    with pytest.raises(ArtifactNotFound):
        files().open_reader(artifact_id)


def test_nothing_can_be_uploaded_and_nothing_is_left_behind() -> None:
    store = files()
    with pytest.raises(NkatError, match="uploads are refused"):
        store.write("1-1", io.BytesIO(b"x"))
    store.remove("1-1")
    assert store.open_reader("0-1").read(), "removing an export only unlists it"
