"""docs/own-search.md, block by block: sets and a space of one's own, searched."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_blocks import blocks_of, commands
from nkat_command import nkat

from search.cli import main
from search.export.best_reading import load_best

pytestmark = [pytest.mark.process, pytest.mark.postgres, pytest.mark.slow]


def test_every_block_of_the_page_runs(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NKAT_STORAGE", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    said: dict[str, str] = {}
    for language, text in blocks_of("own-search.md"):
        if language == "yaml":
            Path("search.yaml").write_text(text, encoding="utf-8")
        elif language == "python":
            exec(text, {})
        for arguments in commands(text) if language == "sh" else ():
            if arguments[0] == "run":
                ended = nkat(*arguments, folder=tmp_path, storage=database_url)
                assert ended.returncode == 0, ended.stderr
                continue
            code = main(arguments)
            out, err = capsys.readouterr()
            assert code == 0, (arguments, err)
            said[arguments[0]] = out + err
    (shapes,) = [line for line in said["data"].splitlines() if line.split()[:1] == ["shapes"]]
    assert shapes.split()[1:6] == ["prepared", "24x24x3", "3", "300", "60"]
    assert "local TPE score on shapes >= 0.30" in said["explain"]
    best = load_best(tmp_path / "best.yaml")
    assert set(best.scores.sets) == {"shapes", "outlines"}
    assert (tmp_path / "report.html").is_file()
