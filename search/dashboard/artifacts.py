"""best.yaml of every complete trial, as an artifact of optuna-dashboard.

The dashboard lists what stands in a study's attributes and asks an artifact store for
the bytes.  Ours keeps no bytes: it writes the file anew from the database whenever it
is asked for, so there is no folder to share between hosts, to fill up or to clean.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import BinaryIO

import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Engine

from nkat_errors import NkatError
from storage.optuna_internals import storage_of, study_id_of

PREFIX = "dashboard:artifacts:"
"""Where optuna-dashboard looks for a finished trial's artifacts (study attributes:
a finished trial's own can no longer be written)."""


def announce_export(study: optuna.Study, *, trial_id: int, number: int) -> bool:
    """Lists `trial-NUMBER.yaml` at a complete trial; False when it is listed already."""
    artifact_id = f"{study_id_of(study):x}-{number:x}"
    key = f"{PREFIX}{trial_id}:{artifact_id}"
    storage = storage_of(study)
    if key in storage.get_study_system_attrs(study_id_of(study)):
        return False
    about = {
        "artifact_id": artifact_id,
        "filename": f"trial-{number}.yaml",
        "mimetype": "text/plain",
        "encoding": "utf-8",
    }
    storage.set_study_system_attr(study_id_of(study), key, json.dumps(about))
    return True


class ExportedTrials:
    """An artifact store (Optuna's protocol) whose files are made when they are read.

    Args:
        export: (Optuna's study id, trial number) -> the file's text; raises `NkatError`
            for a trial that has none.
    """

    def __init__(self, export: Callable[[int, int], str]) -> None:
        self._export = export

    def open_reader(self, artifact_id: str) -> BinaryIO:
        try:
            study_id, number = (int(part, 16) for part in artifact_id.split("-"))
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
        from search.export.best_file import BestFile
        from search.file.load import parse_search_text
        from search.study.finalists import Finalists
        from search.study.saved import saved_hours
        from search.study.trial_record import TrialRecord
        from storage.board import Board
        from storage.searches import list_searches

        for record in list_searches(engine):
            if record.study_id == study_id:
                break
        else:
            raise NkatError(f"there is no search with id {study_id}")
        search = parse_search_text(record.search_text, name=f"study {record.study_name}")
        board = Board(engine=engine, study_name=record.study_name)
        try:
            rows = board.trials()
        finally:
            board.close()
        for row in rows:
            if row.number == number:
                trial = TrialRecord.of(row)
                if not trial.complete:
                    raise NkatError(f"trial {number} is {trial.state}, not complete")
                records = [TrialRecord.of(one) for one in rows]
                best = BestFile.of_trial(
                    trial,
                    search,
                    study=record.study_name,
                    saved=saved_hours(records),
                    finalists=Finalists.of(records, search.finalists),
                )
                return best.to_yaml()
        raise NkatError(f"study {record.study_name} has no trial {number}")

    return export
