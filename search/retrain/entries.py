"""Which data sets a command trains on, and with what of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.data.load import require_name
from nkat_errors import BadInput
from search.export.configuration import Chosen
from search.file.sections import DatasetSection, TrainSection

HELD_OUT = 0.1
"""Share of the training images, where no file says another."""


def entries_of(chosen: Chosen, dataset: str | None) -> list[DatasetSection]:
    """The data sets to train on, as the file knows them.

    Args:
        chosen: the configuration.
        dataset: the one that the user names; None means all sets of a best.yaml, else the
            gate's.

    Raises:
        BadInput: the file does not name it, or it cannot be a name.
    """
    if chosen.best is not None:
        entries = [one.entry() for one in chosen.best.datasets]
        if dataset is None:
            return entries
        for entry in entries:
            if entry.name == dataset:
                return [entry]
        names = ", ".join(entry.name for entry in entries)
        raise BadInput(f"--dataset {dataset}: not in {chosen.name}, which names {names}")
    if chosen.search_file is not None:
        entry = chosen.search_file.dataset(dataset or chosen.gate[0])
        held_out = chosen.search_file.held_out(entry)
        return [entry.model_copy(update={"validation": held_out, "alternatives": ()})]
    name = dataset or chosen.gate[0]
    require_name(name)
    return [DatasetSection(name=name, validation=HELD_OUT)]


def with_options(
    entry: DatasetSection,
    *,
    given: Mapping[str, Any],
    limit: int | None = None,
    validation: float | None = None,
    synthetic: bool = False,
    test: bool = False,
) -> DatasetSection:
    """The entry with what the command line says of it.

    Args:
        entry: as the file has it.
        given: fields of the recipe that the command line names; they go before the set's.
        limit: training images at most.
        validation: share or count of the training images.
        synthetic: rendered images.
        test: the formal recalculation, which has no limit but the command line's.
    """
    own = {name: value for name, value in entry.train.given().items() if name not in given}
    update: dict[str, Any] = {"train": TrainSection(**own)}
    if "epochs" in given:
        update["epochs"] = None
    if limit is not None or test:
        update["limit"] = limit
    if validation is not None:
        update["validation"] = int(validation) if validation >= 1 else validation
    if synthetic:
        update["synthetic"] = True
    return entry.model_copy(update=update)
