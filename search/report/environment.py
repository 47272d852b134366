"""Where the results came from: code, packages, devices, data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from model.known_sets import title_of
from search.provenance import DataSource
from search.report import words
from search.report.collected import Collected


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRow:
    """One data set as workers found it; `trials` used these images."""

    source: DataSource
    title: str
    stand_in: str
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the trials say of themselves; more than one of a kind is said, not hidden.

    Args:
        sentences: the same in words, and what is doubtful.
        devices, code: with the number of trials, most frequent first.
        versions: package -> its versions.
        made_up: no trial names the images it saw.
    """

    sentences: tuple[str, ...]
    devices: tuple[tuple[str, int], ...]
    code: tuple[tuple[str, int], ...]
    versions: Mapping[str, str]
    data: tuple[DataRow, ...]
    made_up: bool


def environment(data: Collected) -> Environment:
    """From every trial that built a network; versions of the study where there is none."""
    facts = [t.attributes.facts for t in data.trials if t.attributes and t.attributes.facts]
    devices = Counter(fact.device for fact in facts)
    code = Counter(fact.code_version for fact in facts if fact.code_version)
    sources: Counter[DataSource] = Counter(source for fact in facts for source in fact.data)
    versions: dict[str, set[str]] = {name: {v} for name, v in data.versions.items()}
    for fact in facts:
        for name, version in fact.versions.items():
            versions.setdefault(name, set()).add(version)
    mixed = sorted(name for name, found in versions.items() if len(found) > 1)
    sentences = [_trained_on(devices)] if facts else ["No trial has trained a network yet."]
    changed = sorted(name for name, n in Counter(s.name for s in sources).items() if n > 1)
    if changed:
        sentences.append(f"Trials saw different images under one name: {words.listed(changed)}.")
    if mixed:
        sentences.append(f"More than one version was in use of {words.listed(mixed)}.")
    return Environment(
        sentences=tuple(sentences),
        devices=tuple(devices.most_common()),
        code=tuple(code.most_common()),
        versions={name: ", ".join(sorted(found)) for name, found in sorted(versions.items())},
        made_up=bool(facts) and not sources,
        data=tuple(
            DataRow(
                source=source,
                title=title_of(source.name),
                stand_in="" if source.stand_in_for is None else title_of(source.stand_in_for),
                trials=number,
            )
            for source, number in sorted(sources.items(), key=lambda item: item[0].name)
        ),
    )


def _trained_on(devices: Counter[str]) -> str:
    return f"Trained on {words.listed([f'{d} ({n:,})' for d, n in devices.most_common()])}."
