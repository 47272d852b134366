"""For notebooks and scripts: studies as data frames, a best.yaml with its trained networks.

    from search import notebook

    with notebook.open_study(state_dir="runs") as study:
        trials = study.trials()                     # pandas: a row for each trial
        curves = study.epochs()                     # a row for each epoch
    best = notebook.load_best(path="best-recalculated/best.yaml")
    network = best.network(dataset="mnist")         # with its weights
    network.predict(paths=["digit.png"])[0].top

Nothing here trains, and nothing writes to a study.  torch is loaded with the first network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pandas as pd

from nkat_errors import BadInput, nearest
from search.export.best_file import BestFile
from search.export.best_reading import load_best as read_best
from search.export.choice import export_files
from search.export.tables import epoch_frame, trial_frame
from search.file.search_file import SearchFile
from search.study.finalists import winner_first
from search.study.session import Session, database, opened
from search.study.trial_record import TrialRecord

if TYPE_CHECKING:
    from model.network.vit import NKATViT
    from search.retrain.weights import WeightsFacts
    from search.trained.attention import AttentionView
    from search.trained.prediction import Prediction

Name = str | os.PathLike[str]
"""Of a file or folder."""


def open_study(
    *, study: str | None = None, state_dir: Name | None = None, storage: str | None = None
) -> Study:
    """Opens a study for reading; the search may go on meanwhile.

    Close it, or use it in a `with`: the embedded database is stopped with its last user.

    Args:
        study: its name; None is the newest of the database.
        state_dir: state folder of a `nkat-search run`; None is $NKAT_STATE_DIR, else ./runs.
        storage: instead, the URL of a database; None is $NKAT_STORAGE, if it is set.

    Raises:
        BadInput: there is no such database or study.
    """
    with ExitStack() as stack:
        folder = None if state_dir is None else Path(state_dir)
        url = stack.enter_context(database(storage, folder))
        session = stack.enter_context(opened(url, study, role="notebook"))
        return Study(session=session, closing=stack.pop_all())


def load_best(*, path: Name) -> Best:
    """Reads a best.yaml, checked as by every command.

    Raises:
        BadInput: it is missing, or something in it is wrong.
    """
    return Best(path=Path(path), file=read_best(Path(path)))


def load_network(*, weights: Name, device: str = "cpu") -> Network:
    """A network with its weights.

    Args:
        weights: a *.safetensors that `nkat-search recalculate` wrote.
        device: torch's name, or `auto`.

    Raises:
        BadInput: no such device, or no weights file.
    """
    return Network(weights=Path(weights), device=device)


class Study:
    """A stored search, opened by `open_study`.

    Args:
        session: the opened search.
        closing: what is to be closed.
    """

    def __init__(self, *, session: Session, closing: ExitStack) -> None:
        self._session = session
        self._closing = closing

    @property
    def name(self) -> str:
        return self._session.record.study_name

    @property
    def search(self) -> SearchFile:
        """The search file, as it was stored."""
        return self._session.search

    def trials(self) -> pd.DataFrame:
        """A row for each trial that ended: best first, then the stopped by gate score.

        Columns: trial, state, the parameters, lambda, mean_accuracy, accuracy_<set>,
        tpe_<set>, global_tpe_score, consistency, robustness, generalization, gate_score,
        gate_margin, seconds_stage1, seconds_stage2, outcome.
        """
        return trial_frame(self._records(), self.search)

    def epochs(self) -> pd.DataFrame:
        """A row for each value that a trial reported, also those under way.

        Columns: trial, state, the parameters, global_tpe_score, stage, dataset, epoch,
        tpe_score, accuracy.  In stage 2 a trial reports at the end of each set, the score of
        all sets so far.
        """
        return epoch_frame(self._records(), self.search)

    def best(self) -> BestFile:
        """The best trial, as `nkat-search export` would write it.

        Raises:
            BadInput: no trial is complete.
        """
        trials = self._records()
        ranked = winner_first(trials, self.search)
        if not ranked:
            raise BadInput(f"study {self.name} has no complete trial yet")
        return export_files(ranked[:1], trials, self.search, study=self.name)[0]

    def close(self) -> None:
        """Closes the database; may be called again."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Study {self.name}>"

    def _records(self) -> list[TrialRecord]:
        return [TrialRecord.of(row) for row in self._session.board.trials()]


class Best:
    """A best.yaml, read by `load_best`.

    Args:
        path: where it is; its weights are looked for beside it.
        file: its content.
    """

    def __init__(self, *, path: Path, file: BestFile) -> None:
        self.path = path
        self.file = file

    def weights(self, *, dataset: str) -> Path:
        """The weights of one set's network.

        Raises:
            BadInput: the file has no recalculation (which makes weights), or not of that set.
        """
        result = self.file.recalculation.result
        if result is None:
            raise BadInput(
                f"{self.path} has no weights: `nkat-search recalculate {self.path}` trains them "
                "and writes a copy of the file beside them"
            )
        if dataset not in result.sets:
            raise BadInput(
                f"dataset {dataset!r}: not in {self.path}{nearest(dataset, result.sets)}"
            )
        name = result.sets[dataset].weights_file
        if name is None:
            raise BadInput(f"{self.path} has no weights for {dataset}: its training broke down")
        return self.path.with_name(name)

    def network(self, *, dataset: str, device: str = "cpu") -> Network:
        """The network of one set, with its weights (of the recalculation's first seed).

        Raises:
            BadInput: as `weights` says, or the weights file is missing or damaged.
        """
        return load_network(weights=self.weights(dataset=dataset), device=device)

    def __repr__(self) -> str:
        return f"<Best {self.path}: {self.file.headline()}>"


class Network:
    """A trained network, loaded by `load_network` or `Best.network`.

    Args:
        weights: a *.safetensors.
        device: torch's name, or `auto`.
    """

    def __init__(self, *, weights: Path, device: str) -> None:
        from search.trained.prediction import Trained

        self._trained = Trained.load(weights, device=device)

    @property
    def module(self) -> NKATViT:
        """The torch module, in evaluation mode; it takes normalised images [B, C, H, W]."""
        return self._trained.network

    @property
    def facts(self) -> WeightsFacts:
        """What the weights file says: data set, class names, normalisation, seed."""
        return self._trained.facts

    def predict(self, *, paths: Sequence[Name]) -> list[Prediction]:
        """Labels of image files of any size and colour.

        Raises:
            BadInput: one of them is no image.
        """
        from search.trained.prediction import predict

        return predict(self._trained, self._trained.read([Path(path) for path in paths]))

    def attention(self, *, paths: Sequence[Name]) -> list[AttentionView]:
        """Which tokens survive top-k and top-p on image files, and the NKAT scalars.

        Raises:
            BadInput: one of them is no image.
        """
        from search.trained.attention import look

        return look(self._trained, self._trained.read([Path(path) for path in paths]))

    def __repr__(self) -> str:
        return f"<Network trained on {self.facts.dataset}>"
