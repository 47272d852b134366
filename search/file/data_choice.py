"""Which images a search really gets, settled once, when its study is made.

The settled entries go into the stored search file, so that every worker on every
machine trains on the same sets.  Nothing is replaced silently: a stand-in or a
rendered set is told in a loud line and carries its own name in every result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from model.data import KNOWN_SETS, DatasetInfo, DataUnavailable, load_dataset
from model.data.load import cached_file, find_prepared, resolve_data_dir
from nkat_errors import BadInput
from search.file.search_file import SearchFile
from search.file.sections import DatasetSection

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A search file whose every data set was found and read.

    Args:
        search_file: with the entries as they will be used.
        infos: facts of each set, by its name.
        notes: sentences that must be shown (stand-ins, rendered sets).
    """

    search_file: SearchFile
    infos: dict[str, DatasetInfo]
    notes: tuple[str, ...]


def settle(
    search_file: SearchFile,
    *,
    data_dir: Path | None,
    cache_dir: Path | None = None,
    tell: Tell | None = None,
) -> Settled:
    """Finds (downloads, if need be) and reads every data set of a search.

    For each entry in turn: the set itself, from the data folder or by download; else
    the first of its `alternatives` that can be had; else, if the file says
    `synthetic_fallback: true`, rendered images in its shape.

    Args:
        search_file: the user's.
        data_dir: prepared sets; None means $NKAT_DATA_DIR.
        cache_dir: where downloads are kept; None means the user's cache folder.
        tell: told what takes long.

    Raises:
        BadInput: a set that can be had in no way, or a damaged file; with the ways out.
    """
    entries: list[DatasetSection] = []
    infos: dict[str, DatasetInfo] = {}
    notes: list[str] = []
    for entry in search_file.datasets:
        chosen, note = _settle_entry(
            entry,
            data_dir=data_dir,
            cache_dir=cache_dir,
            synthetic_fallback=search_file.synthetic_fallback,
            tell=tell,
        )
        dataset = load_dataset(
            chosen.name,
            data_dir=data_dir,
            cache_dir=cache_dir,
            synthetic=chosen.synthetic,
            progress=tell,
        )
        entries.append(chosen)
        infos[chosen.name] = dataset.info
        if note:
            notes.append(note)
    settled = replace(search_file.with_datasets(tuple(entries)), synthetic_fallback=False)
    return Settled(search_file=settled, infos=infos, notes=tuple(notes))


def settled_before(search_file: SearchFile, stored: SearchFile) -> Settled | None:
    """What was settled when the study of `stored` was made, if this file asks for the same.

    Nothing is looked for, read or downloaded: the study has these sets, whatever can be had
    now.

    Args:
        search_file: the user's.
        stored: settled, of the same study.

    Returns:
        None when the data sets have to be settled anew; `infos` is empty.
    """
    if len(search_file.datasets) != len(stored.datasets):
        return None
    pairs = list(zip(search_file.datasets, stored.datasets, strict=True))
    if not all(_could_become(asked, had, search_file) for asked, had in pairs):
        return None
    entries = tuple(
        asked.model_copy(
            update={
                "name": had.name,
                "alternatives": (),
                "synthetic": had.synthetic,
                "stand_in_for": had.stand_in_for,
            }
        )
        for asked, had in pairs
    )
    notes = tuple(
        f"{had.name}: as when the study was made, "
        + ("SYNTHETIC images (rendered)" if had.synthetic else f"standing in for {asked.name}")
        for asked, had in pairs
        if had.synthetic or had.stand_in_for
    )
    settled = replace(search_file.with_datasets(entries), synthetic_fallback=False)
    return Settled(search_file=settled, infos={}, notes=notes)


def _could_become(asked: DatasetSection, had: DatasetSection, search_file: SearchFile) -> bool:
    if had.name != asked.name:
        return had.stand_in_for == asked.name and had.name in asked.alternatives
    return had.synthetic == asked.synthetic or (had.synthetic and search_file.synthetic_fallback)


def _settle_entry(
    entry: DatasetSection,
    *,
    data_dir: Path | None,
    cache_dir: Path | None,
    synthetic_fallback: bool,
    tell: Tell | None,
) -> tuple[DatasetSection, str | None]:
    if entry.synthetic:
        return entry, f"{entry.name}: SYNTHETIC images (rendered, no real data), as the file says"
    reasons: list[str] = []
    for name in (entry.name, *entry.alternatives):
        try:
            if find_prepared(name, data_dir=data_dir) is None:
                cached_file(name, data_dir=data_dir, cache_dir=cache_dir, progress=tell)
        except DataUnavailable as error:
            reasons.append(str(error))
            continue
        settled = entry.model_copy(update={"name": name, "alternatives": ()})
        if name == entry.name:
            return settled, None
        return (
            settled.model_copy(update={"stand_in_for": entry.name}),
            f"{name} STANDS IN for {entry.name}, which could not be had; its scores are not "
            f"{entry.name}'s and carry its own name",
        )
    if synthetic_fallback and entry.name in KNOWN_SETS:
        return (
            entry.model_copy(update={"alternatives": (), "synthetic": True}),
            f"{entry.name}: SYNTHETIC images (rendered), because the real ones could not be had; "
            "no score of this set says anything about real data",
        )
    raise BadInput(reasons[0] + _other_ways(entry, data_dir))


def _other_ways(entry: DatasetSection, data_dir: Path | None) -> str:
    """Names prepared sets that could stand in, if the folder has some."""
    folder = resolve_data_dir(data_dir)
    known = KNOWN_SETS.get(entry.name)
    if folder is None or known is None:
        return ""
    for other in KNOWN_SETS.values():
        alike = (other.class_names, other.channels) == (known.class_names, known.channels)
        if other.name != entry.name and alike and (folder / f"{other.name}.npz").exists():
            return (
                f"; or let {other.name}, which is there, stand in under its own name: write "
                f"`{{name: {entry.name}, alternatives: [{other.name}]}}` in the search file"
            )
    return ""
