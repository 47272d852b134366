"""docs/other-engines.md: what stands there runs, or at least is called by its right names."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from nkat_command import TINY_TRAINING

from search.cli import main
from search.worker.remote import WorkerFailed, work
from storage.board import Board
from storage.engine import make_engine

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "other-engines.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SEARCH = f"""
study: elsewhere
cut_down: true
n_trials: 2
lambda: counted
gate: {{dataset: mnist, threshold: 0.01}}
datasets: [{{name: mnist, synthetic: true, limit: 60, validation: 40}}]
{TINY_TRAINING}
space: {{lr: [0.001, 0.002]}}
"""
OF_THE_ENGINE = {"pure", "resources", "num_gpus", "max_retries", "retry_exceptions"}


@pytest.mark.postgres
@pytest.mark.process
@pytest.mark.slow
def test_the_pool_of_the_page_works_a_study_off(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (pool,) = (text for text in SNIPPETS if "ThreadPoolExecutor" in text)
    (tmp_path / "search.yaml").write_text(SEARCH)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NKAT_STORAGE", database_url)
    monkeypatch.setenv("NKAT_WORKERS", "2")
    assert main(["create", "--config", "search.yaml"]) == 0
    capsys.readouterr()
    exec(compile(pool, "docs/other-engines.md", "exec"), {})
    assert capsys.readouterr().out.strip() == "['the search is over', 'the search is over']"
    engine = make_engine(database_url)
    board = Board(engine=engine, study_name="elsewhere")
    counts = board.counts()
    assert counts.complete + counts.pruned == counts.done == 2
    board.close()
    engine.dispose()


def test_a_failed_worker_is_an_error_that_an_engine_retries() -> None:
    url = "mysql://nkat:secret-word@127.0.0.1:1/nkat"  # refused at once
    with pytest.raises(WorkerFailed, match="exit code 2") as error:
        work(url, device="cpu", environment={"PYTHONPATH": str(ROOT)})
    assert "secret-word" not in str(error.value)


@pytest.mark.parametrize("text", SNIPPETS, ids=["pool", "ray", "dask"])
def test_every_snippet_parses_and_calls_the_entry_rightly(text: str) -> None:
    known = set(inspect.signature(work).parameters)
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    named = {word.arg for call in calls for word in call.keywords} - OF_THE_ENGINE
    assert named <= known
    assert "from search.worker.remote import work" in text


def test_the_skypilot_file_runs_a_worker() -> None:
    task = yaml.safe_load((ROOT / "deploy/skypilot/workers.yaml").read_text())
    assert "NKAT_STORAGE" in task["envs"]
    for part in ("setup", "run"):
        checked = subprocess.run(
            ["bash", "-n"], input=task[part], capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")
    assert "nkat-search worker" in task["run"]
