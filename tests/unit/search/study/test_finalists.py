"""Who is a finalist, which runs are missing, and who wins."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from nkat_errors import BadInput
from search.export.best_file import BestFile
from search.export.best_reading import load_best
from search.export.tables import report_dict, summary_lines
from search.file.load import parse_search_text
from search.file.sections import FinalistsSection
from search.file.yaml_text import dump_yaml
from search.objective.judge import Judge
from search.score.tpe_score import Lambdas
from search.study.finalists import Finalists, missing_runs, winner_first
from search.study.nearest import nearest
from search.study.past import Past, PastReader
from search.study.saved import saved_hours
from search.study.trial_attributes import Repeat, TrialAttributes, TrialFacts
from search.study.trial_record import TrialRecord, best_first
from search.study.verdict import Effort, SetResult

TEXT = """\
study: small
n_trials: 4
gate: {dataset: cifar10, threshold: 0.5}
datasets: [cifar10, mnist]
space: {depth: {low: 5, high: 9}}
"""
SEARCH = parse_search_text(TEXT + "finalists: {count: 2, runs: 2}\n")
SECTION = FinalistsSection(count=2, runs=2)
LAMBDAS = Lambdas(theory=20.0, counted=28.0, parameters=8.4)
FACTS = TrialFacts(parameters=8_400_000, tokens=16, device="a card")
DEPTH = optuna.distributions.IntDistribution(5, 9)


def told(number: int, accuracy: float, repeat: Repeat | None = None) -> FrozenTrial:
    """A trial with this accuracy on both sets; below 0.66 it fails the gate."""
    names = [entry.name for entry in SEARCH.datasets]
    effort = Effort(epochs=9, seconds_stage1=10.0, seconds_stage2=20.0)
    judge = Judge(search=SEARCH, lambdas=LAMBDAS)
    results = {name: SetResult(accuracy=accuracy, weights="ema") for name in names}
    verdict = judge.after_set(results, effort, Past())
    assert verdict is not None
    flat = TrialAttributes(verdict=verdict, facts=FACTS, worker="w", repeat=repeat).to_flat()
    return trial(number, "COMPLETE" if verdict.complete else "PRUNED", flat, verdict.value)


def trial(
    number: int, state: str, attrs: dict[str, Any], value: float | None = None
) -> FrozenTrial:
    made = optuna.trial.create_trial(
        state=TrialState[state],
        value=value,
        params={"depth": 7},
        distributions={"depth": DEPTH},
        user_attrs=attrs,
    )
    made.number = number
    return made


SEARCHED = [told(0, 0.4), told(1, 0.80), told(2, 0.82), told(3, 0.81)]


def runs(*rows: tuple[int, int, float]) -> list[FrozenTrial]:
    """(finalist, run, accuracy)."""
    return [told(10 + i, a, Repeat(trial=t, run=r)) for i, (t, r, a) in enumerate(rows)]


def records(trials: Sequence[FrozenTrial]) -> list[TrialRecord]:
    return [TrialRecord.of_frozen(trial) for trial in trials]


RUNS = runs((2, 1, 0.80), (3, 1, 0.81), (2, 2, 0.802), (3, 2, 0.808))
ENDED = records([*SEARCHED, *RUNS])


def test_the_best_are_run_again_and_what_was_entered_is_not_missing() -> None:
    missing = missing_runs(SEARCHED, SECTION)
    found = [Repeat.of_flat(trial.user_attrs) for trial in missing]
    assert [(repeat.trial, repeat.run) for repeat in found if repeat] == [
        (2, 1), (3, 1), (2, 2), (3, 2)
    ]  # fmt: skip
    assert all(trial.state == TrialState.WAITING for trial in missing)
    assert all(trial.params == {"depth": 7} for trial in missing)
    given_up = trial(12, "FAIL", Repeat(trial=3, run=2).to_flat())
    waiting = trial(13, "WAITING", Repeat(trial=2, run=2).to_flat())
    assert not missing_runs([*SEARCHED, *RUNS[:2], given_up, waiting], SECTION)


def test_they_are_run_anew_only_if_the_best_changed() -> None:
    later = [*SEARCHED, *RUNS, told(20, 0.79)]
    assert not missing_runs(later, SECTION)
    later.append(told(21, 0.9))
    missing = [Repeat.of_flat(trial.user_attrs) for trial in missing_runs(later, SECTION)]
    assert missing == [Repeat(trial=21, run=1), Repeat(trial=21, run=2)]
    found = Finalists.of(records(later), SECTION)
    assert found is not None
    assert (found.winner, found.open) == (None, 2)


def test_a_trial_told_by_others_is_no_finalist() -> None:
    foreign = trial(30, "COMPLETE", {}, 0.99)
    found = {
        trial.user_attrs["repeat_of"] for trial in missing_runs([*SEARCHED, foreign], SECTION)
    }
    assert found == {2, 3}


def test_the_winner_is_by_the_mean_of_the_new_runs_alone() -> None:
    found = Finalists.of(ENDED, SECTION)
    assert found is not None
    assert found.winner is not None
    assert (found.winner.trial, best_first(ENDED)[0].number) == (3, 2)
    assert found.winner.mean == pytest.approx(0.809 / 1.32222, rel=1e-4)
    assert found.seconds == 120.0
    assert found.winner.probability is not None
    assert 0.9 < found.winner.probability < 1.0
    assert "of 2 finalists, each run 2 more times, trial 3 wins: mean Global TPE sco" in (
        found.sentence()
    )
    assert [trial.number for trial in winner_first(ENDED, SEARCH)] == [3, 2, 1]
    off = parse_search_text(TEXT)
    assert Finalists.of(ENDED, off.finalists) is None
    assert [trial.number for trial in winner_first(ENDED, off)] == [2, 3, 1]


def test_one_that_fails_the_gate_is_counted_out() -> None:
    failed = records([*SEARCHED, *RUNS[:3], *runs((3, 2, 0.5))])
    found = Finalists.of(failed, SECTION)
    assert found is not None
    assert [one.trial for one in found.ranked] == [2]
    assert "trial 3 is counted out (run 2 of finalist 3: failed the gate" in found.sentence()
    both = records([*SEARCHED, *runs((2, 1, 0.5), (2, 2, 0.8), (3, 1, 0.8), (3, 2, 0.5))])
    found = Finalists.of(both, SECTION)
    assert found is not None
    assert (found.winner, found.open) == (None, 0)
    assert "none of 2 is left" in found.sentence()
    assert winner_first(both, SEARCH)[0].number == 2


def test_while_runs_are_open_nobody_wins() -> None:
    waiting = trial(14, "WAITING", Repeat(trial=3, run=2).to_flat())
    found = Finalists.of(records([*SEARCHED, *RUNS[:3], waiting]), SECTION)
    assert found is not None
    assert found.winner is None
    assert found.sentence() == "finalists: 3 of 4 new runs have ended"
    assert Finalists.of(records(SEARCHED), SECTION) is None


def test_new_runs_are_no_points_of_the_search() -> None:
    plain = records(SEARCHED)
    better = records([*SEARCHED, *runs((2, 1, 0.95), (2, 2, 0.95))])
    assert best_first(better) == best_first(plain)
    assert nearest(better) == nearest(plain)
    assert saved_hours(better) == saved_hours(plain)
    assert report_dict(better, SEARCH)["trials"] == report_dict(plain, SEARCH)["trials"]
    reader = PastReader(parse_search_text(TEXT))
    assert reader.read([*SEARCHED, *RUNS]) == PastReader(SEARCH).read(SEARCHED)
    assert any("trial 3 wins" in line for line in summary_lines(ENDED, SEARCH))


NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


def exported(number: int = 3) -> BestFile:
    return BestFile.of_trial(
        next(trial for trial in ENDED if trial.number == number),
        SEARCH,
        finalists=Finalists.of(ENDED, SECTION),
        now=NOW,
    )


def test_best_yaml_says_what_the_new_runs_gave(tmp_path: Path) -> None:
    best = exported()
    best.save(tmp_path / "best.yaml")
    assert load_best(tmp_path / "best.yaml") == best
    assert best.scores.global_tpe_score == ENDED[3].value  # its own run's
    text = best.to_yaml()
    assert "# Run 2 more times: mean Global TPE score 0.6119, place 1 of 2 finalists" in text
    assert "place 2 of 2" in exported(2).to_yaml()
    assert "more times" not in exported(1).to_yaml()
    with pytest.raises(BadInput, match=r"trial 11 is run 1 of finalist 3.*: export trial 3"):
        exported(11)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("ranked", 0, "mean"), 0.7, "finalists.ranked[0].mean = 0.7: the file's own numbers"),
        (("ranked", 0, "scores"), [0.61, 0.62], "deviation"),
        (("ranked", 0, "scores"), [0.61], "has 1 scores, but finalists.runs = 2"),
        (("ranked", 1, "probability"), 0.5, "finalists.ranked[1].probability = 0.5"),
        (("ranked", 0, "score"), 0.7, "finalists.ranked[0].score = 0.7"),
        (("deviation",), None, "finalists.deviation = null"),
        (("open",), 1, "finalists.open = 1"),
        (("ranked",), "reversed", "the best mean must come first"),
    ],
)
def test_an_edited_block_is_refused(
    tmp_path: Path, path: tuple[Any, ...], value: Any, words: str
) -> None:
    plain = exported().model_dump(by_alias=True)
    here = plain["finalists"]
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = here[path[-1]][::-1] if value == "reversed" else value
    (tmp_path / "best.yaml").write_text(dump_yaml(plain))
    with pytest.raises(BadInput) as caught:
        load_best(tmp_path / "best.yaml")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("more", ["", "finalists: false\n", "finalists: {}\n"])
def test_the_section_may_be_left_out_and_change_between_runs(more: str) -> None:
    found = parse_search_text(TEXT + more)
    assert (found.finalists is None) == ("{}" not in more)
    assert parse_search_text(found.to_yaml()) == found
    assert found.hash() == SEARCH.hash()
    assert replace(found, finalists=SECTION) == SEARCH
    with pytest.raises(BadInput, match=r"finalists\.runs = 1"):
        parse_search_text(TEXT + "finalists: {runs: 1}\n")
