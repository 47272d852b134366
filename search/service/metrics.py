"""The search as metrics: what Prometheus scrapes from `orchestrate` and `run`.

All values come from the database, so they go on where they stood when the process is
started again.  They are made when the orchestrator looks at the search: a scrape costs the
database nothing.  Units are base units; a trial's number is no label.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from search.service.observation import STATES, Observation
from search.study.trial_attributes import NO_GPU
from search.study.trial_record import TrialRecord
from search.study.verdict import Ending
from storage.records import Counts, WorkerRow

GIVEN_UP = "given_up"
"""The outcome of a trial whose every attempt failed."""
OUTCOMES = (*(ending.value for ending in Ending if ending is not Ending.OPEN), GIVEN_UP)
DURATIONS_S = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
"""Upper bounds of the histogram of stages."""


class SearchMetrics(Collector):
    """An observer of a search, and what a registry collects.

    Args:
        versions: package -> version, of this process.
        checkpoint_dir: whose disk is watched; None for none.
    """

    def __init__(self, *, versions: Mapping[str, str], checkpoint_dir: Path | None = None) -> None:
        self._checkpoint_dir = checkpoint_dir
        self._build = InfoMetricFamily(
            "nkat_build", "Versions of nkat-search and of its packages.", dict(versions)
        )
        self._families: tuple[Metric, ...] = (self._build,)

    def collect(self) -> Iterable[Metric]:
        """As of the last observation; another thread asks."""
        return self._families

    def observe(self, seen: Observation) -> None:
        self._families = (
            self._build,
            StateSetMetricFamily(
                "nkat_search_state",
                "What the search does.",
                {state: state == seen.state for state in STATES},
            ),
            *_of_counts(seen.counts),
            *_of_trials(list(seen.ended.values())),
            *_of_workers(seen.workers),
            *_of_scores(seen),
            *_of_disk(self._checkpoint_dir),
        )


def _of_counts(counts: Counts) -> Iterator[Metric]:
    states = GaugeMetricFamily("nkat_trials", "Trials by their state.", labels=["state"])
    for state in ("waiting", "running", "complete", "pruned", "failed"):
        states.add_metric([state], getattr(counts, state))
    yield states
    yield GaugeMetricFamily(
        "nkat_trials_budget",
        "Complete and pruned trials that it is to have.",
        counts.budget,
    )
    for name, text, value in (
        ("started", "Attempts at trials that were begun.", counts.attempts),
        ("lost", "Attempts whose worker fell silent.", counts.lost),
        ("failed", "Attempts that ended in an error.", counts.failed_attempts),
    ):
        yield CounterMetricFamily(f"nkat_attempts_{name}", text, value)


def _of_trials(ended: Sequence[TrialRecord]) -> Iterator[Metric]:
    finished: Counter[str] = Counter()
    gpu_s: defaultdict[tuple[str, str], float] = defaultdict(float)
    lengths: dict[str, list[float]] = {"1": [], "2": []}
    for trial in ended:
        outcome = GIVEN_UP if trial.verdict is None else trial.verdict.ending.value
        finished[outcome] += 1
        if trial.verdict is None:
            continue
        effort = trial.verdict.effort
        facts = None if trial.attributes is None else trial.attributes.facts
        for stage, seconds in (("1", effort.seconds_stage1), ("2", effort.seconds_stage2)):
            if seconds > 0:
                lengths[stage].append(seconds)
                if facts is not None and facts.device not in NO_GPU:
                    gpu_s[stage, outcome] += seconds
    by_outcome = CounterMetricFamily(
        "nkat_trials_finished", "Ended trials by how they ended.", labels=["outcome"]
    )
    for outcome in OUTCOMES:
        by_outcome.add_metric([outcome], finished[outcome])
    yield by_outcome
    stages = HistogramMetricFamily(
        "nkat_stage_duration_seconds",
        "Training of ended trials by stage, all attempts of a trial together.",
        labels=["stage"],
    )
    for stage, seconds_each in lengths.items():
        stages.add_metric([stage], _buckets(seconds_each), sum(seconds_each))
    yield stages
    spent = CounterMetricFamily(
        "nkat_gpu_seconds", "GPU time of ended trials.", labels=["stage", "outcome"]
    )
    for (stage, outcome), seconds in sorted(gpu_s.items()):
        spent.add_metric([stage, outcome], seconds)
    yield spent


def _buckets(seconds: Sequence[float]) -> list[tuple[str, float]]:
    """(upper bound, values up to it), ascending; the last bound is infinity."""
    bounds = [*map(float, DURATIONS_S), float("inf")]
    first = Counter(next(i for i, bound in enumerate(bounds) if s <= bound) for s in seconds)
    sums = accumulate(first[i] for i in range(len(bounds)))
    names = [str(bound) for bound in bounds[:-1]] + ["+Inf"]
    return list(zip(names, map(float, sums), strict=True))


def _of_workers(workers: Sequence[WorkerRow]) -> Iterator[Metric]:
    beats = GaugeMetricFamily(
        "nkat_worker_last_heartbeat_timestamp_seconds",
        "Last beat of each worker that did not sign off, by the database's clock.",
        labels=["host", "device", "pid"],
    )
    speed = GaugeMetricFamily(
        "nkat_images_per_second",
        "Training images a second in the last epoch of the trials under way.",
        labels=["host", "device"],
    )
    speeds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for row in workers:
        beats.add_metric([row.host, row.device, str(row.pid)], row.beat_at)
        if row.images_per_s is not None:
            speeds[row.host, row.device] += row.images_per_s
    for labels, value in sorted(speeds.items()):
        speed.add_metric(list(labels), value)
    yield beats
    yield speed


def _of_disk(folder: Path | None) -> Iterator[Metric]:
    """Nothing where there is no folder (yet): checkpoints may be kept elsewhere."""
    try:
        usage = None if folder is None else shutil.disk_usage(folder)
    except OSError:
        return
    if usage is not None:
        yield GaugeMetricFamily(
            "nkat_checkpoint_disk_free_bytes", "Free space where checkpoints are.", usage.free
        )
        yield GaugeMetricFamily(
            "nkat_checkpoint_disk_size_bytes", "Size of the disk of checkpoints.", usage.total
        )


def _of_scores(seen: Observation) -> Iterator[Metric]:
    """Nothing while there is no score: a 0 would be one."""
    if seen.best is not None and seen.best.value is not None:
        yield GaugeMetricFamily("nkat_best_score", "Best Global TPE score.", seen.best.value)
    if seen.gate is not None:
        yield GaugeMetricFamily(
            "nkat_best_gate_margin",
            "Best local TPE score at the gate, less the gate's threshold.",
            seen.gate.margin,
        )
