"""best.yaml of every complete trial and the search's report, as artifacts of optuna-dashboard.

The dashboard lists what stands in a study's attributes and asks an artifact store for
the bytes.  Ours keeps no bytes: it writes the file anew from the database whenever it
is asked for, so there is no folder to share between hosts, to fill up or to clean.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Engine

from nkat_errors import NkatError
from search.study.session import Session
from storage.optuna_internals import storage_of, study_id_of

PREFIX = "dashboard:artifacts:"
"""Where optuna-dashboard looks for a finished trial's artifacts (study attributes:
a finished trial's own can no longer be written)."""
STUDY_PREFIX = "artifacts:"
"""The same for the study's own."""


def announce_report(study: optuna.Study) -> bool:
    """Lists `report.html` at the study; False when it is listed already."""
    artifact_id = f"{study_id_of(study):x}"
    about = {"filename": "report.html", "mimetype": "text/html"}
    return _announce(study, STUDY_PREFIX, artifact_id, about)


def announce_export(study: optuna.Study, *, trial_id: int, number: int) -> bool:
    """Lists `trial-NUMBER.yaml` at a complete trial; False when it is listed already."""
    artifact_id = f"{study_id_of(study):x}-{number:x}"
    about = {"filename": f"trial-{number}.yaml", "mimetype": "text/plain"}
    return _announce(study, f"{PREFIX}{trial_id}:", artifact_id, about)


def _announce(study: optuna.Study, prefix: str, artifact_id: str, about: dict[str, str]) -> bool:
    storage, key = storage_of(study), prefix + artifact_id
    if key in storage.get_study_system_attrs(study_id_of(study)):
        return False
    entry = {"artifact_id": artifact_id, "encoding": "utf-8", **about}
    storage.set_study_system_attr(study_id_of(study), key, json.dumps(entry))
    return True


class ExportedTrials:
    """An artifact store (Optuna's protocol) whose files are made when they are read.

    Args:
        export: (Optuna's study id, trial number) -> the file's text; raises `NkatError`
            for a trial that has none.
        report: Optuna's study id -> the page; raises `NkatError` likewise.
    """

    def __init__(self, *, export: Callable[[int, int], str], report: Callable[[int], str]) -> None:
        self._export = export
        self._report = report

    def open_reader(self, artifact_id: str) -> BinaryIO:
        try:
            study_id, *rest = (int(part, 16) for part in artifact_id.split("-"))
            if not rest:
                return io.BytesIO(self._report(study_id).encode())
            (number,) = rest
            return io.BytesIO(self._export(study_id, number).encode())
        except (ValueError, NkatError) as error:
            raise ArtifactNotFound(f"{artifact_id}: {error}") from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        raise NkatError("this dashboard keeps no files: uploads are refused")

    def remove(self, artifact_id: str) -> None:
        """Nothing is stored, so nothing stays behind."""


def exporter(engine: Engine) -> Callable[[int, int], str]:
    """What `ExportedTrials` asks: `nkat-search export --trial NUMBER`, from the database."""

    def export(study_id: int, number: int) -> str:
        from search.export.choice import export_files, pick
        from search.study.trial_record import TrialRecord

        with _opened(engine, study_id) as session:
            records = [TrialRecord.of(row) for row in session.board.trials()]
        chosen = pick(records, session.search, number=number, top=1)
        study = session.record.study_name
        (best,) = export_files(chosen, records, session.search, study=study)
        return best.to_yaml()

    return export


def reporter(engine: Engine) -> Callable[[int], str]:
    """What `ExportedTrials` asks: `nkat-search report`, from the database."""

    def report(study_id: int) -> str:
        from search.report.page import Report

        with _opened(engine, study_id) as session:
            return Report.of(session).html

    return report


@contextmanager
def _opened(engine: Engine, study_id: int) -> Iterator[Session]:
    from search.file.load import parse_search_text
    from storage.board import Board
    from storage.searches import list_searches

    for record in list_searches(engine):
        if record.study_id == study_id:
            break
    else:
        raise NkatError(f"there is no search with id {study_id}")
    search = parse_search_text(record.search_text, name=f"study {record.study_name}")
    board = Board(engine=engine, study_name=record.study_name, lease_s=search.service.lease_s)
    try:
        yield Session(engine=engine, record=record, search=search, board=board)
    finally:
        board.close()
