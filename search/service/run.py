"""`nkat-search run`, step by step: file, data, database, study, search, table, best.yaml."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nkat_errors import NkatError
from search.exit_codes import EXIT_INTERRUPTED
from search.export.choice import NEAREST_NAME, export_files
from search.export.tables import summary_lines, trial_table
from search.file.data_choice import settle
from search.file.load import load_search_file
from search.file.search_file import SearchFile
from search.file.shipped import default_search_file
from search.logs import LogFormat, set_up_logging
from search.outputs import check_output
from search.report.page import REPORT_NAME
from search.service.ends import Ends, parse_duration
from search.service.live_report import LiveReport, try_report
from search.service.metrics_endpoint import metrics_served
from search.service.next_steps import next_steps
from search.service.notify import Notifier, notified
from search.service.supervision import RunPlan, SearchEnded, cut_down_line, dashboard, run_to_end
from search.service.tracking import asked_for, tracked
from search.service.warm_start import with_first_trials
from search.study.create import create_study, settled_in_study
from search.study.finalists import winner_first
from search.study.nearest import nearest, none_passed
from search.study.session import (
    Session,
    checkpoint_dir,
    database,
    only_run,
    opened,
    state_dir,
    storage_url,
)
from search.study.trial_record import TrialRecord
from search.terminal import plain
from search.worker.devices import gpu_count
from search.worker.signals import StopRequest, stop_on_signals
from storage.engine import make_engine


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The command's options (see `nkat-search run --help`)."""

    config: Path | None
    data_dir: Path | None
    storage: str | None
    state_dir: Path | None
    checkpoint_dir: Path | None
    workers: int | None
    out: Path
    dashboard_port: int
    metrics_port: int | None
    metrics_host: str
    notify: str | None
    trackers: Sequence[str]
    log_format: LogFormat
    force_new: bool
    synthetic: bool
    grace_s: float
    timeout: str | None
    stop_at: float | None
    enqueue: Sequence[Path]
    from_study: Sequence[str]


def run_search(options: RunOptions, *, notes: Console, results: Console) -> int:
    """0 when the search ended with a best.yaml, 130 after Ctrl-C.

    Raises:
        NkatError: nothing passed; nearest.yaml is the trial that came nearest.
    """
    set_up_logging(level="ERROR", log_format=options.log_format)
    stop = StopRequest()
    check_output(options.out)
    timeout_s = None if options.timeout is None else parse_duration(options.timeout)
    path = options.config or default_search_file(gpu=bool(gpu_count()))
    search = load_search_file(path)
    if options.synthetic:
        search = all_synthetic(search)
    for line in (f"search file: {path}", cut_down_line(search), *search.warnings):
        if line:
            notes.print(plain(line), soft_wrap=True)
    trackers = asked_for(options.trackers, search)
    settled = settle(search, data_dir=options.data_dir, tell=lambda line: notes.print(plain(line)))
    port = options.metrics_port
    with (
        metrics_served(
            host=options.metrics_host,
            port=search.service.metrics_port if port is None else port,
            checkpoint_dir=checkpoint_dir(options.checkpoint_dir, options.state_dir),
        ) as metrics,
        notified(options.notify or search.service.notify) as notifier,
        stop_on_signals(stop),
        only_run(state_dir(options.state_dir)),
        database(options.storage, options.state_dir, make=True) as url,
    ):
        engine = make_engine(url, application_name="nkat-run")
        try:
            settled = settled_in_study(engine, search, force_new=options.force_new) or settled
            for note in settled.notes:
                notes.print(plain(f"NOTE: {note}", "bold yellow"), soft_wrap=True)
            begun = with_first_trials(
                settled.search_file,
                files=options.enqueue,
                studies=options.from_study,
                engine=engine,
            )
            record = create_study(engine, begun, force_new=options.force_new)
        finally:
            engine.dispose()
        plan = RunPlan(
            url=url,
            study=record.study_name,
            state_dir=state_dir(options.state_dir),
            checkpoint_dir=checkpoint_dir(options.checkpoint_dir, options.state_dir),
            data_dir=options.data_dir,
            workers=options.workers,
            dashboard_port=options.dashboard_port,
            grace_s=options.grace_s,
            log_format=options.log_format,
            ends=Ends(
                timeout_s=timeout_s,
                stop_at=options.stop_at,
                started_at=time.monotonic(),
                clock=time.monotonic,
            ),
        )
        with opened(url, record.study_name, role="run", give_up=lambda: bool(stop)) as session:
            with dashboard(plan) as page:
                # Typing the command again is how a paused search is set going.
                session.board.set_state("run")
                report = LiveReport(
                    session=session,
                    path=options.out.with_name(REPORT_NAME),
                    clock=time.monotonic,
                )
                with (
                    tracked(trackers, record=session.record, search=session.search) as tracking,
                    _last_words(notifier, report),
                ):
                    why = run_to_end(
                        plan,
                        session,
                        stop=stop,
                        console=notes,
                        page=page,
                        report=report,
                        observers=[
                            one.observe
                            for one in (metrics, notifier, *tracking)
                            if one is not None
                        ],
                    )
            if why:
                notes.print(plain(f"ended early: {why}; the same command goes on"), soft_wrap=True)
            return _conclude(session, options, stopped=bool(stop), results=results)


@contextmanager
def _last_words(notifier: Notifier | None, report: LiveReport) -> Iterator[None]:
    """Where the search cannot go on: the report is its last one, and the webhook is told."""
    try:
        yield
    except NkatError as error:
        report.close()
        if notifier is not None and isinstance(error, SearchEnded):
            notifier.gave_up(str(error))
        raise


def all_synthetic(search: SearchFile) -> SearchFile:
    """The same search on rendered images."""
    entries = tuple(
        entry.model_copy(update={"synthetic": True, "alternatives": ()})
        for entry in search.datasets
    )
    return replace(search, datasets=entries)


def _conclude(session: Session, options: RunOptions, *, stopped: bool, results: Console) -> int:
    """The table, the sentences, best.yaml or nearest.yaml, what to type next."""
    out = options.out
    trials = [TrialRecord.of(row) for row in session.board.trials()]
    search, study = session.search, session.record.study_name
    results.print(trial_table(trials, search))
    for line in summary_lines(trials, search):
        results.print(plain(line), soft_wrap=True)
    ranked = winner_first(trials, search)
    if ranked:
        _export(ranked[0], trials, session, out)
        results.print(plain(f"best configuration: {out.resolve()}"), soft_wrap=True)
    results.print(_report(session, out.with_name(REPORT_NAME)), soft_wrap=True)
    if stopped:
        if not ranked:
            results.print(plain(f"So far {none_passed(trials)}."), soft_wrap=True)
        results.print(plain("stopped; the same command goes on where it stopped"))
        return EXIT_INTERRUPTED
    if ranked:
        for line in next_steps(
            out,
            study=study,
            data_dir=options.data_dir,
            state_dir=options.state_dir,
            storage=storage_url(options.storage) is not None,
        ):
            results.print(plain(line), soft_wrap=True)
        return 0
    written, found = "", nearest(trials)
    if found is not None:
        path = out.with_name(NEAREST_NAME)
        _export(found, trials, session, path)
        written = f"; its configuration is in {path.resolve()}"
    raise NkatError(
        f"no best.yaml: {none_passed(trials)}{written}.  Train longer, lower the gate, or see "
        "`nkat-search explain` for what the gate needs"
    )


def _export(
    trial: TrialRecord, trials: Sequence[TrialRecord], session: Session, path: Path
) -> None:
    study = session.record.study_name
    for best in export_files([trial], trials, session.search, study=study):
        best.save(path)


def _report(session: Session, path: Path) -> Text:
    """The line that links the search's page, or says why there is none."""
    if why := try_report(session, path):
        return plain(why, "bold yellow")
    return plain(f"report: {path.resolve().as_uri()}")
