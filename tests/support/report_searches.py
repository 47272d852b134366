"""Searches in a real database for tests of the report: trials told through the board."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from sqlalchemy import Engine

from search.file.load import parse_search_text
from search.file.search_file import SearchFile
from search.file.sections import RungsSection
from search.objective.judge import Judge, infeasible
from search.provenance import DataSource
from search.score.tpe_score import Lambdas
from search.service.observation import Observer
from search.service.orchestrator import Orchestrator
from search.study.epochs import STAGE_2_STEP
from search.study.gains import Gains
from search.study.past import Past
from search.study.trial_attributes import TrialAttributes, TrialFacts
from search.study.verdict import Effort, Ending, SetResult
from storage.board import Board
from storage.records import Claim
from storage.searches import create_search, load_search

SETS = ("cifar10", "mnist", "fashion_mnist", "sd19_letters")
SEARCH = """\
study: {study}
title: {title}
n_trials: {trials}
gate: {{dataset: cifar10, threshold: 0.60}}
datasets:
  - {{name: cifar10, epochs: {epochs}}}
  - {{name: mnist}}
  - {{name: fashion_mnist}}
  - {{name: sd19_letters, stand_in_for: emnist_letters}}
space:
  patch_size: [2, 4]
  conv_stem: [off, tiny, small]
  depth: {{low: 5, high: 9}}
  temperature: {{low: 0.6, high: 1.0}}
"""
GOOD = {"cifar10": 0.84, "mnist": 0.99, "fashion_mnist": 0.92, "sd19_letters": 0.94}
"""At lambda 20: local TPE score 0.6353 at the gate, Global TPE score 0.6977."""
LAMBDAS = Lambdas(theory=20.0, counted=28.0, parameters=8.4)
FACTS = TrialFacts(
    parameters=8_400_000,
    tokens=16,
    device="a card",
    data=tuple(
        DataSource(
            name=name,
            source="prepared",
            train_size=50_000,
            checksum="ab" * 32,
            stand_in_for="emnist_letters" if name == "sd19_letters" else None,
        )
        for name in SETS
    ),
    code_version="1.2.3+gabc",
    versions={"torch": "2.11.0"},
)


def report_search(
    *, trials: int = 20, epochs: int = 5, study: str = "reported", title: str = "A report"
) -> SearchFile:
    """The search file; study and title are YAML scalars."""
    return parse_search_text(SEARCH.format(trials=trials, epochs=epochs, study=study, title=title))


@dataclass(kw_only=True)
class Told:
    """A search and a worker that ends its trials as it is told."""

    search: SearchFile
    board: Board
    worker: UUID
    seed: int = field(default=0)

    def claim(self) -> Claim:
        """A trial with its parameters drawn."""
        self.seed += 1
        claimed = self.board.claim(self.worker, RandomSampler(seed=self.seed))
        assert isinstance(claimed, Claim), claimed
        self.board.suggest(claimed, self.search.space.suggest)
        return claimed

    def end(
        self,
        accuracies: Mapping[str, float],
        *,
        seconds: tuple[float, float] = (10.0, 30.0),
        to_beat: float | None = None,
        claimed: Claim | None = None,
    ) -> int:
        """A trial through both stages, or as far as these accuracies and the gate let it.

        Args:
            accuracies: of the sets that are trained, in their order.
            seconds: of stage 1 and stage 2.
            to_beat: the score that the bound compares with.
            claimed: a trial under way.

        Returns:
            Its number.
        """
        claimed = claimed or self.claim()
        judge = Judge(search=self.search, lambdas=LAMBDAS)
        epochs = self.search.datasets[0].epochs or 1
        results: dict[str, SetResult] = {}
        verdict = None
        for index, (name, accuracy) in enumerate(accuracies.items()):
            results[name] = SetResult(accuracy=accuracy, weights="ema")
            if index == 0:
                for epoch in range(1, epochs + 1):
                    share = 1 - 0.5 ** (8 * epoch / epochs)
                    value = judge.local(accuracy if epoch == epochs else accuracy * share)
                    self.board.report(claimed, step=epoch, value=value)
            else:
                step = STAGE_2_STEP + index
                self.board.report(claimed, step=step, value=judge.so_far(results))
            stage2 = seconds[1] * (len(results) - 1) / (len(SETS) - 1)
            effort = Effort(epochs=5, seconds_stage1=seconds[0], seconds_stage2=stage2)
            verdict = judge.after_set(results, effort, Past(best_global=to_beat))
            if verdict is not None:
                break
        assert verdict is not None, "these accuracies leave the trial open"
        self._finish(claimed, TrialAttributes(verdict=verdict, facts=FACTS, worker="w"))
        return claimed.number

    def at_rung(self, *curve: float) -> int:
        """Stopped within stage 1 of twelve epochs, after these accuracies."""
        claimed = self.claim()
        judge = Judge(search=replace(self.search, rungs=RungsSection()), lambdas=LAMBDAS)
        for epoch, accuracy in enumerate(curve, start=1):
            self.board.report(claimed, step=epoch, value=judge.local(accuracy))
        verdict = judge.after_epoch(
            epoch=len(curve),
            epochs=12,
            accuracy=curve[-1],
            effort=Effort(epochs=len(curve), seconds_stage1=6.0),
            past=Past(gains={12: Gains(trials=10, mean=(0.0,) * 12, deviation=(0.0,) * 12)}),
        )
        assert verdict is not None, "these accuracies leave the trial open"
        self._finish(claimed, TrialAttributes(verdict=verdict, facts=FACTS, worker="w"))
        return claimed.number

    def out_of_memory(self) -> int:
        claimed = self.claim()
        verdict = Judge(search=self.search, lambdas=LAMBDAS).cannot_train(
            {}, Effort(), ending=Ending.OUT_OF_MEMORY, reason="81 GB <b>wanted</b>"
        )
        self._finish(claimed, TrialAttributes(verdict=verdict, facts=FACTS, worker="w"))
        return claimed.number

    def infeasible(self) -> int:
        claimed = self.claim()
        verdict = infeasible(self.search, "1024 tokens are more than limits.tokens = 256")
        self._finish(claimed, TrialAttributes(verdict=verdict, facts=None, worker="w"))
        return claimed.number

    def _finish(self, claimed: Claim, attributes: TrialAttributes) -> None:
        verdict = attributes.verdict
        self.board.finish(
            claimed,
            state=TrialState.COMPLETE if verdict.complete else TrialState.PRUNED,
            value=verdict.value,
            user_attrs=attributes.to_flat(),
            constraints=verdict.constraints,
        )


@contextmanager
def told(engine: Engine, search: SearchFile, *, name: str | None = None) -> Iterator[Told]:
    """The search in a database that has the tables, under its own or another name."""
    create_search(
        engine,
        study_name=name or search.study,
        search_text=search.to_yaml(),
        search_hash=search.hash(),
        budget=search.n_trials,
        versions={"torch": "2.11.0"},
    )
    board = Board(engine=engine, study_name=name or search.study)
    worker = board.register_worker(host="here", pid=os.getpid(), device="cpu")
    try:
        yield Told(search=search, board=board, worker=worker)
    finally:
        board.close()


def orchestrator_of(one: Told, engine: Engine, observers: Sequence[Observer]) -> Orchestrator:
    """One that writes no notes: its ticks only tell the observers."""
    return Orchestrator(
        board=one.board,
        search=one.search,
        record=load_search(engine),
        checkpoints=None,
        clock=time.monotonic,
        notes=False,
        observers=observers,
    )


def mixed_search(one: Told) -> None:
    """At least one trial of every kind: 4 complete, the gate, the bound, and the rest."""
    one.end(GOOD, seconds=(10.0, 30.0))
    for step in range(1, 13):
        one.end({"cifar10": 0.70 + 0.005 * step}, seconds=(5.0 + step, 0.0))
    one.end(GOOD | {"mnist": 0.995}, seconds=(12.0, 42.0))
    one.end(GOOD | {"cifar10": 0.80}, seconds=(9.0, 30.0))
    one.end({"cifar10": 0.80, "mnist": 0.30}, to_beat=0.69)
    one.out_of_memory()
    one.infeasible()
    failed = one.claim()
    one.board.fail_attempt(failed, reason="RuntimeError: <i>odd</i>", signature="odd")
    one.end(GOOD | {"fashion_mnist": 0.90}, claimed=one.claim())
    one.claim()


class ParsedPage(HTMLParser):
    """A report as a reader finds it, section by section.

    Attributes:
        text: of each section, by its id; `""` is what stands in none.
        values: of its <data> elements, exact.
        drawings: how many svg elements it has.
        tags: every tag of the page.
        links: every href and src.
        headings: levels, in their order.
        alts: aria-labels of the drawings.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {"": ""}
        self.values: dict[str, list[float]] = {"": []}
        self.drawings: dict[str, int] = {"": 0}
        self.tags: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.alts: list[str] = []
        self._open: list[str] = [""]
        self._silent = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: dict[str, Any] = dict(attrs)
        self.tags.append(tag)
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag == "section":
            self._open.append(given["id"])
            self.text.setdefault(given["id"], "")
            self.values.setdefault(given["id"], [])
            self.drawings.setdefault(given["id"], 0)
        elif tag == "svg":
            self.drawings[self._open[-1]] += 1
            self.alts.append(given["aria-label"])
        elif tag == "data":
            self.values[self._open[-1]].append(float(given["value"]))
        elif tag in ("style", "script"):
            self._silent += 1
        elif len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._open.pop()
        elif tag in ("style", "script"):
            self._silent -= 1

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text[self._open[-1]] += data
