"""The formal recalculation of a best.yaml, from its plan to the files it leaves.

OUT                          the file with its `recalculation.result`
<stem>-cifar10.safetensors   weights of each set, first seed
README.md                    model card
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nkat_errors import BadInput
from search.export.best_file import BestFile
from search.export.best_reading import load_best
from search.file.sections import RecalculationSection
from search.retrain.model_card import CARD, is_model_card, model_card
from search.retrain.plan import Plan, trial_digest
from search.retrain.recalculation_progress import opening, showing
from search.retrain.recalculation_report import recorded
from search.retrain.training_run import choose_device, device_title
from search.retrain.work_dir import WorkDir, only_process, plan_of, write_whole
from search.terminal import plain

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalculationRequest:
    """What `recalculate` was asked for.

    Args:
        path: the best.yaml.
        best: its content.
        settings: the file's, with what the command line says.
        out: the copy to be written.
        work_dir: where progress is kept.
        device: torch's name or `auto`.
        data_dir: prepared sets.
        checkpoint_every_s: least seconds between two checkpoints.
        again: although one is recorded already.
    """

    path: Path
    best: BestFile
    settings: RecalculationSection
    out: Path
    work_dir: Path
    device: str
    data_dir: Path | None
    checkpoint_every_s: float
    again: bool


def default_out(path: Path) -> Path:
    """best-recalculated/best.yaml for best.yaml: a folder of its own, for a README.md comes
    beside it."""
    return path.with_name(f"{path.stem}-recalculated") / path.name


def default_work_dir(out: Path) -> Path:
    """Beside the copy."""
    return out.with_name(f"{out.stem}-work")


def changed_settings(
    section: RecalculationSection, *, runs: int | None, epochs_factor: float | None
) -> RecalculationSection:
    """The file's section with what the command line says."""
    return RecalculationSection(
        runs=section.runs if runs is None else runs,
        epochs_factor=section.epochs_factor if epochs_factor is None else epochs_factor,
        train=section.train,
    )


def recalculate(
    request: RecalculationRequest,
    *,
    notes: Console,
    clock: Callable[[], float] = time.monotonic,
) -> BestFile:
    """Trains what is not trained yet, then writes the files; progress is shown on `notes`.

    Returns:
        The file with its recalculation.

    Raises:
        BadInput: the file or the output's place is not fit for it, or it is done already.
        OutOfMemory: as the runner says.
    """
    from search.retrain.runner import Runner

    _check_out(request)
    device = choose_device(request.device)
    with only_process(request.work_dir):
        under_way = plan_of(request.work_dir).exists()
        if not under_way and not request.again:
            _require_unread(request)
        plan = Plan.of(
            request.best,
            settings=request.settings,
            device=device_title(device),
            data_dir=request.data_dir,
        )
        work = WorkDir(folder=request.work_dir, identity=plan.identity())
        for line in opening(plan):
            notes.print(plain(line), soft_wrap=True)
        with showing(plan, console=notes, clock=clock) as watcher:
            outcomes = Runner(
                plan=plan,
                work=work,
                device=device,
                data_dir=request.data_dir,
                checkpoint_every_s=request.checkpoint_every_s,
                watcher=watcher,
                clock=clock,
            ).run()
        stem = request.out.stem
        weights = {
            one.name: f"{stem}-{one.name}.safetensors"
            for one in plan.sets
            if work.weights(one.name).exists()
        }
        best = recorded(
            plan,
            outcomes,
            weights_files=weights,
            now=datetime.datetime.now(datetime.UTC),
        )
        _write(request.out, best, {work.weights(one): name for one, name in weights.items()})
        work.remove()
    return best


def _check_out(request: RecalculationRequest) -> None:
    """Says what cannot be written before hours are spent."""
    out = request.out
    if out.exists() and out.resolve() != request.path.resolve():
        try:
            there = load_best(out)
        except BadInput as error:
            raise BadInput(f"--out {out} is there and is no best.yaml ({error})") from None
        if trial_digest(there) != trial_digest(request.best):
            raise BadInput(f"--out {out} holds another trial; give another --out")
    card = out.parent / CARD
    if card.exists() and not is_model_card(card.read_text(encoding="utf-8", errors="replace")):
        raise BadInput(
            f"{card} is there and is no model card of this command, which writes one beside "
            "its result; give an --out in a folder of its own"
        )


def _require_unread(request: RecalculationRequest) -> None:
    """Test images are read once: each further look makes their score a little less honest."""
    places = {request.path: request.best}
    if request.out.exists():
        places[request.out] = load_best(request.out)
    for path, best in places.items():
        result = best.recalculation.result
        if result is not None:
            raise BadInput(
                f"{path} records a recalculation already ({result.date_utc}, "
                f"{result.headline()}): its test images have been read.  --again reads them "
                "once more"
            )


def _write(out: Path, best: BestFile, weights: dict[Path, str]) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for source, name in weights.items():
            write_whole(out.parent / name, source.read_bytes())
        card = model_card(best, file_name=out.name)
        write_whole(out.parent / CARD, card.encode())
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written ({error.strerror})") from None
    best.save(out)  # last: it says that all is done


def result_dict(best: BestFile, out: Path) -> dict[str, Any]:
    """The result for `--json`."""
    result = best.recalculation.result
    if result is None:
        raise ValueError("this file records no recalculation")
    return {
        "file": str(out),
        "cut_down": best.cut_down,
        "passed": result.passed,
        **result.model_dump(),
    }
