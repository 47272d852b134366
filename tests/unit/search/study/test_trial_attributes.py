"""A verdict and its facts as flat attributes and back, every way a trial can end."""

from __future__ import annotations

import json
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from nkat_errors import BadInput
from search.file.load import parse_search_text
from search.file.sections import RungsSection
from search.objective.judge import Judge, infeasible
from search.provenance import DataSource
from search.score.tpe_score import Lambdas, weight
from search.study.gains import Gains
from search.study.past import Past
from search.study.trial_attributes import MissingAttribute, TrialAttributes, TrialFacts
from search.study.trial_record import TrialRecord
from search.study.verdict import LONGEST_TEXT, Effort, Ending, SetResult, Verdict

SEARCH = parse_search_text("""\
study: small
n_trials: 4
gate: {dataset: cifar10, threshold: 0.5}
datasets:
  - {name: cifar10}
  - {name: my.letters-2, stand_in_for: emnist_letters}
  - {name: mnist}
space: {depth: {low: 5, high: 9}}
""")
LAMBDAS = Lambdas(theory=20.0, counted=28.0, parameters=8.4)
EFFORT = Effort().epoch(stage=1, seconds=1.25).epoch(stage=2, seconds=2.5)
ACCURACIES = {"cifar10": 0.8, "my.letters-2": 0.9, "mnist": 0.99}
FACTS = TrialFacts(
    parameters=8_400_000,
    tokens=16,
    device="a card",
    data=tuple(
        DataSource(name=name, source="prepared", train_size=50_000, checksum="ab" * 32,
                   stand_in_for="emnist_letters" if "." in name else None)
        for name in ACCURACIES
    ),
    code_version="0.1.0+g0123456789ab",
    versions={"python": "3.11.9", "torch": "2.11.0+cu128"},
)  # fmt: skip
JUDGE = Judge(search=SEARCH, lambdas=LAMBDAS)


def results(*names: str, **changed: float) -> dict[str, SetResult]:
    return {
        name: SetResult(accuracy=changed.get(name, ACCURACIES[name]), weights="ema")
        for name in names
    }


def ended(verdict: Verdict | None) -> Verdict:
    assert verdict is not None
    return verdict


VERDICTS = {
    Ending.COMPLETE: ended(JUDGE.after_set(results(*ACCURACIES), EFFORT, Past())),
    Ending.GATE: ended(JUDGE.after_set(results("cifar10", cifar10=0.4), EFFORT, Past())),
    Ending.BOUND: ended(
        JUDGE.after_set(results("cifar10", "my.letters-2"), EFFORT, Past(best_global=0.75))
    ),
    Ending.RUNG: ended(
        Judge(search=replace(SEARCH, rungs=RungsSection()), lambdas=LAMBDAS).after_epoch(
            epoch=6,
            epochs=12,
            accuracy=0.4,
            effort=EFFORT,
            past=Past(gains={12: Gains(trials=10, mean=(0.1,) * 12, deviation=(0.01,) * 12)}),
        )
    ),
    Ending.OUT_OF_MEMORY: JUDGE.cannot_train(
        {}, Effort(), ending=Ending.OUT_OF_MEMORY, reason="CUDA [out of] memory\n" + "x" * 500
    ),
    Ending.DIVERGED: JUDGE.cannot_train(
        results("cifar10"), EFFORT, ending=Ending.DIVERGED, reason="NaN in epoch 3"
    ),
    Ending.INFEASIBLE: infeasible(SEARCH, "1024 tokens are more than limits.tokens = 256"),
}


def attributes(ending: Ending) -> TrialAttributes:
    facts = None if ending is Ending.INFEASIBLE else FACTS
    return TrialAttributes(verdict=VERDICTS[ending], facts=facts, attempt=2, worker="w")


@pytest.mark.parametrize("ending", VERDICTS)
def test_what_the_database_gives_back_is_the_same_value(ending: Ending) -> None:
    made = attributes(ending)
    assert made.verdict.ending is ending
    stored = json.loads(json.dumps(made.to_flat()))
    # Rows of a database have no order.
    again = TrialAttributes.from_flat(dict(sorted(stored.items())))
    assert again.facts == made.facts
    assert again.to_flat() == made.to_flat()
    assert replace(again.verdict, scores=None) == replace(made.verdict, scores=None)
    assert (again.attempt, again.worker) == (2, "w")


@pytest.mark.parametrize("ending", VERDICTS)
def test_every_attribute_is_short_and_every_number_a_number(ending: Ending) -> None:
    flat = attributes(ending).to_flat()
    for name, value in flat.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        assert len(shown) <= LONGEST_TEXT, name
    texts = {name for name, value in flat.items() if isinstance(value, str)}
    spoken = ("outcome", "ending", "reason", "lambda_reading", "device", "code_version", "worker")
    assert {n for n in texts if not n.startswith(("weights_", "version_"))} <= set(spoken)
    assert "\n" not in flat["outcome"]


def test_the_views_for_people_are_in_it() -> None:
    flat = attributes(Ending.COMPLETE).to_flat()
    mean = (0.8 + 0.9 + 0.99) / 3
    assert flat["global_tpe_score"] == pytest.approx(mean / weight(20))
    assert flat["mean_accuracy"] == pytest.approx(mean)
    assert flat["gate_score"] == flat["tpe_cifar10"] == pytest.approx(0.8 / weight(20))
    assert flat["gate_passed"] is True
    assert (flat["epochs"], flat["seconds_stage1"], flat["seconds_stage2"]) == (2, 1.25, 2.5)
    assert flat["data_my.letters-2"]["stand_in_for"] == "emnist_letters"


def test_the_bound_is_an_attribute_beside_what_was_measured() -> None:
    verdict = VERDICTS[Ending.BOUND]
    flat = attributes(Ending.BOUND).to_flat()
    assert flat["global_bound"] == pytest.approx((0.8 + 0.9 + 1) / 3 / weight(20))
    assert flat["global_to_beat"] == 0.75
    assert verdict.value is None
    assert verdict.report is None
    assert "global_tpe_score" not in flat


def test_a_tighter_bound_is_told_from_the_exact_one() -> None:
    tight = replace(VERDICTS[Ending.BOUND], bound_slack=0.002)
    made = replace(attributes(Ending.BOUND), verdict=tight)
    assert made.to_flat()["global_bound_slack"] == 0.002
    assert TrialAttributes.from_flat(made.to_flat()).verdict.bound_slack == 0.002
    assert "global_bound_slack" not in attributes(Ending.BOUND).to_flat()


def test_a_rung_because_of_the_best_score_keeps_what_it_could_not_reach() -> None:
    beaten = replace(VERDICTS[Ending.RUNG], bound=0.70, bound_slack=0.002, to_beat=0.71)
    made = replace(attributes(Ending.RUNG), verdict=beaten)
    again = TrialAttributes.from_flat(made.to_flat()).verdict
    assert (again.ending, again.rung) == (Ending.RUNG, beaten.rung)
    assert (again.bound, again.bound_slack, again.to_beat) == (0.70, 0.002, 0.71)
    assert again.outcome.endswith("the Global TPE score 0.7000, not above 0.7100")
    assert "global_to_beat" not in attributes(Ending.RUNG).to_flat()


def test_constraints_say_what_was_wrong() -> None:
    gate = {ending: verdict.constraints["gate"] for ending, verdict in VERDICTS.items()}
    assert gate[Ending.GATE] == pytest.approx(0.5 - 0.4 / weight(20))
    assert gate[Ending.DIVERGED] < 0
    # A stop at a rung has the margin it was expected to end with.
    assert gate[Ending.RUNG] == pytest.approx(0.5 - 0.4 / weight(20) - 0.1)
    assert gate[Ending.OUT_OF_MEMORY] == gate[Ending.INFEASIBLE] == 0.5
    for ending in (Ending.OUT_OF_MEMORY, Ending.DIVERGED, Ending.INFEASIBLE):
        assert VERDICTS[ending].constraints[ending.value] > 0
    assert set(VERDICTS[Ending.COMPLETE].constraints) == {"gate"}


@pytest.mark.parametrize(
    ("ending", "name", "value"),
    [
        (Ending.COMPLETE, "accuracy_mnist", None),
        (Ending.COMPLETE, "accuracy_mnist", "0.99"),
        (Ending.COMPLETE, "accuracy_mnist", True),
        (Ending.COMPLETE, "lambda_theory", -1.0),
        (Ending.COMPLETE, "ending", "gate"),  # its accuracies passed it
        (Ending.COMPLETE, "ending", "finished"),
        (Ending.COMPLETE, "datasets", []),
        (Ending.COMPLETE, "data_mnist", {"source": "prepared"}),
        (Ending.COMPLETE, "tokens", 16.5),
        (Ending.GATE, "accuracy_cifar10", None),
        (Ending.BOUND, "global_bound", None),
        (Ending.RUNG, "rung_expected", None),
        (Ending.RUNG, "rung_epoch", 6.5),
        (Ending.INFEASIBLE, "reason", None),
    ],
)
def test_damaged_attributes_are_named(ending: Ending, name: str, value: object) -> None:
    flat = attributes(ending).to_flat() | {name: value}
    if value is None:
        del flat[name]
    with pytest.raises(MissingAttribute) as caught:
        TrialAttributes.from_flat(flat)
    assert caught.value.name == name
    record = TrialRecord(number=7, state="complete", value=0.5, params={}, missing=name)
    with pytest.raises(BadInput, match=f"trial 7 has no attribute '{name}'"):
        record.whole()


def test_optuna_keeps_and_returns_them() -> None:
    study = optuna.create_study(direction="maximize")
    made = attributes(Ending.COMPLETE)
    trial = study.ask()
    for name, value in made.to_flat().items():
        trial.set_user_attr(name, value)
    study.tell(trial, made.verdict.value)
    record = TrialRecord.of_frozen(study.trials[0])
    assert record.attributes == made
    assert record.complete
    assert record.value == record.verdict.value if record.verdict else None


def test_a_trial_that_was_given_up_has_its_sentence_alone() -> None:
    study = optuna.create_study()
    study.add_trial(
        optuna.create_trial(state=TrialState.FAIL, user_attrs={"outcome": "failed twice"})
    )
    record = TrialRecord.of_frozen(study.trials[0])
    assert (record.state, record.outcome, record.verdict) == ("fail", "failed twice", None)
