"""Trackers: what TensorBoard, MLflow and W&B read back, and that a search does not care."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from report_searches import GOOD, Told, mixed_search, orchestrator_of, report_search, told
from sqlalchemy import Engine
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto.wandb_internal_pb2 import Record

from nkat_errors import BadInput
from search.cli import main
from search.file.load import parse_search_text
from search.service.orchestrator import Orchestrator
from search.service.tracking import asked_for, tracked
from storage.searches import load_search

# MLflow's own code warns of its SQLAlchemy, its pydantic and its log files.
pytestmark = [pytest.mark.postgres, pytest.mark.filterwarnings("ignore:::mlflow|sqlalchemy|wandb")]


def track(one: Told, engine: Engine, *addresses: str) -> None:
    """What `orchestrate` does with them, once."""
    record = load_search(engine)
    with tracked(asked_for(addresses, one.search), record=record, search=one.search) as observers:
        orchestrator_of(one, engine, [observer.observe for observer in observers]).tick()


def runs_of(folder: Path) -> dict[str, EventAccumulator]:
    """TensorBoard's own reading of a study's folder."""
    (study,) = folder.iterdir()
    found = {path.name: EventAccumulator(str(path)) for path in study.iterdir()}
    for one in found.values():
        one.Reload()
    return found


def values(run: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in run.Scalars(tag)]


def test_tensorboard_reads_back_every_ended_trial(engine: Engine, tmp_path: Path) -> None:
    with told(engine, report_search(trials=60, epochs=3)) as one:
        mixed_search(one)
        track(one, engine, f"tensorboard:{tmp_path}")
        ended = {trial.number: trial for trial in one.board.ended_trials()}
        runs = runs_of(tmp_path)
        assert sorted(runs) == [f"trial-{number:04d}" for number in sorted(ended)]
        best = runs["trial-0000"]
        assert values(best, "global_tpe_score") == [(0, pytest.approx(ended[0].value))]
        assert values(best, "accuracy/mnist") == [(0, pytest.approx(0.99))]
        curve = values(best, "epoch_tpe_score/cifar10")
        assert curve == [
            (step, pytest.approx(ended[0].intermediate_values[step])) for step in (1, 2, 3)
        ]
        assert [step for step, _ in values(best, "global_tpe_score_so_far")] == [2, 3, 4]
        start = HParamsPluginData.FromString(
            best.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        ).session_start_info
        assert start.hparams["depth"].number_value == ended[0].params["depth"]
        assert start.hparams["conv_stem"].string_value == ended[0].params["conv_stem"]
        about = best.Tensors("about")[0].tensor_proto.string_val[0].decode()
        assert "| ending | complete |" in about
        assert "stand_in_for.emnist_letters | sd19_letters" in about
        # Again: what is there stays, what a kill left is written anew, what is new is added.
        (study,) = tmp_path.iterdir()
        before = {path: path.stat().st_mtime_ns for path in study.iterdir()}
        (study / "trial-0001").rename(study / "trial-0001.partial")
        number = one.end(GOOD)
        track(one, engine, f"tensorboard:{tmp_path}")
        assert len(runs_of(tmp_path)) == len(before) + 1
        assert (study / f"trial-{number:04d}").is_dir()
        del before[study / "trial-0001"]
        assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())


def test_mlflow_reads_back_every_ended_trial(engine: Engine, tmp_path: Path) -> None:
    with told(engine, report_search(trials=9, epochs=3)) as one:
        first = one.end(GOOD, seconds=(10.0, 30.0))
        one.end({"cifar10": 0.7})
        one.out_of_memory()
        one.claim()
        track(one, engine, f"mlflow:{tmp_path}")
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        experiment = client.get_experiment_by_name("reported")
        assert experiment is not None
        ids = [experiment.experiment_id]
        runs = {run.info.run_name: run for run in client.search_runs(ids)}
        assert sorted(runs) == ["trial-0000", "trial-0001", "trial-0002"]
        best, gate = runs["trial-0000"], runs["trial-0001"]
        trial = one.board.ended_trials()[0]
        assert trial.number == first
        assert best.data.metrics["global_tpe_score"] == trial.value
        assert best.data.metrics["accuracy/fashion_mnist"] == 0.92
        assert best.data.params == {name: str(value) for name, value in trial.params.items()}
        history = client.get_metric_history(best.info.run_id, "epoch_tpe_score/cifar10")
        assert {point.step: point.value for point in history} == {
            step: trial.intermediate_values[step] for step in (1, 2, 3)
        }
        assert best.info.end_time - best.info.start_time == 40_000
        assert best.data.tags["nkat.ending"] == "complete"
        assert gate.data.tags["nkat.ending"] == "gate"
        assert "global_tpe_score" not in gate.data.metrics
        assert gate.data.metrics["gate_margin"] < 0
        # A run that a kill left half is written again; nothing stands there twice.
        half = client.create_run(ids[0], tags=dict(best.data.tags), run_name="trial-0000")
        client.log_batch(half.info.run_id, metrics=[Metric("gate_score", 0.1, 1, 0)])
        client.delete_run(best.info.run_id)
        track(one, engine, f"mlflow:{tmp_path}")
        again = client.search_runs(ids)
        assert sorted(str(run.info.run_name) for run in again) == sorted(runs)
        assert {run.info.status for run in again} == {"FINISHED"}


def wandb_records(folder: Path) -> Iterator[Record]:
    """What `wandb sync` sends: records in blocks, each part with checksum, length, kind."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, at, whole = path.read_bytes(), 7, b""
    while at < len(data):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the whole, or its last part
            yield Record.FromString(whole)
            whole = b""


def test_wandb_has_every_ended_trial_for_its_sync(engine: Engine, tmp_path: Path) -> None:
    with told(engine, report_search(trials=9, epochs=3)) as one:
        one.end(GOOD)
        one.end({"cifar10": 0.7})
        track(one, engine, f"wandb:{tmp_path}")
        trial = one.board.ended_trials()[0]
        (study,) = tmp_path.iterdir()
        assert sorted(path.name for path in study.iterdir()) == ["trial-0000", "trial-0001"]
        records = list(wandb_records(study / "trial-0000"))
        (run,) = [record.run for record in records if record.HasField("run")]
        assert (run.project, run.display_name) == ("reported", "trial-0000")
        assert set(run.tags) == {"complete"}
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert {name: config[name] for name in trial.params} == trial.params
        assert config["nkat"]["ending"] == "complete"
        curve = {
            record.history.step.num: json.loads(item.value_json)
            for record in records
            for item in record.history.item
            if list(item.nested_key) == ["epoch_tpe_score/cifar10"]
        }
        assert curve == {step: trial.intermediate_values[step] for step in (1, 2, 3)}
        scores = {
            (item.key or item.nested_key[0]): json.loads(item.value_json)
            for record in records
            for item in record.summary.update
        }
        assert scores["global_tpe_score"] == trial.value
        assert scores["accuracy/mnist"] == GOOD["mnist"]
        # What is there stays, what a kill left is written anew.
        kept = (study / "trial-0000").stat().st_mtime_ns
        (study / "trial-0001").rename(study / "trial-0001.partial")
        track(one, engine, f"wandb:{tmp_path}")
        assert sorted(path.name for path in study.iterdir()) == ["trial-0000", "trial-0001"]
        assert (study / "trial-0000").stat().st_mtime_ns == kept


def test_a_tracker_that_fails_warns_once_and_is_made_up_for(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "place"
    place.write_text("a file where a folder is to be")
    with told(engine, report_search(trials=9)) as one:
        one.end(GOOD)
        record = load_search(engine)
        with (
            caplog.at_level(logging.ERROR),
            tracked(
                asked_for([f"tensorboard:{place}"], one.search), record=record, search=one.search
            ) as observers,
        ):
            told_of = [observer.observe for observer in observers]
            orchestrator = orchestrator_of(one, engine, told_of)
            orchestrator.tick()
            deadline = time.monotonic() + 20
            while not caplog.records and time.monotonic() < deadline:
                time.sleep(0.05)
            one.end(GOOD)
            place.unlink()
            orchestrator.close("the end")
    (said,) = [entry.getMessage() for entry in caplog.records if "tracker" in entry.getMessage()]
    assert said.startswith(f"tracker tensorboard:{place}: ")
    assert said.endswith("; the search goes on")
    assert len(runs_of(place)) == 2


@pytest.mark.parametrize(
    "address", ["aim:here", "tensorboard:", "runs", "tensorboard:http://x/", "wandb:http://x/"]
)
def test_what_is_no_address_is_bad_input(address: str) -> None:
    text = report_search().to_yaml()
    text = text.replace("service:\n", f"service:\n  trackers: ['{address}']\n")
    with pytest.raises(BadInput, match=r"service\.trackers\[0\] = .*: must be tensorboard:FOLDER"):
        parse_search_text(text)
    with pytest.raises(BadInput, match=r"--tracker .*: must be tensorboard:FOLDER"):
        asked_for([address], report_search())


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.trackers.address.find_spec", lambda _name: None)
    with pytest.raises(BadInput, match=r"mlflow is not installed; pip install 'nkat-search\[mlf"):
        asked_for(["mlflow:here"], report_search())


def test_a_folder_named_as_a_package_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aim").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("search.file.addresses.TRACKERS", ("aim",))
    with pytest.raises(BadInput, match="the package aim is not installed"):
        asked_for(["aim:runs"], report_search())


def test_orchestrate_takes_them_from_the_search_file_and_hides_a_login(
    engine: Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = "trackers: ['tensorboard:tb', 'mlflow:http://u:word@127.0.0.1:9/']"
    text = report_search(trials=1).to_yaml()
    text = text.replace("service:\n", f"service:\n  {places}\n")
    with told(engine, parse_search_text(text)) as one:
        one.end(GOOD)
        record = load_search(engine)
        shown = Orchestrator(
            board=one.board,
            search=one.search,
            record=record,
            checkpoints=None,
            clock=time.monotonic,
        )._shown_text()
        command = ["orchestrate", "--storage", database_url, "--until-done"]
        assert main([*command, "--tracker", "tensorboard:other"]) == 0
        assert main([*command, "--tracker", "aim:x"]) == 2
    assert len(runs_of(tmp_path / "other")) == 1
    assert not (tmp_path / "tb").exists()
    assert "word" not in shown
    assert "mlflow:http://(hidden)@127.0.0.1:9/" in shown
