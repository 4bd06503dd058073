"""The parts of a study, as processes run them: the survey, trials unit by unit, the report."""

import io
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from fteng import distributed, paths, study
from fteng.config import Config
from fteng.errors import Interrupted, UserError
from fteng.jobs.beat import Beating
from fteng.jobs.claims import is_surveyed, pull, read_plan, submitted, turns, unfinished, write_plan
from fteng.jobs.files import JobFiles
from fteng.locks import take
from fteng.page import make_page
from fteng.paths import StudyPaths
from fteng.process import DISK_ERRORS
from fteng.progress import PlainReporter, Reporter, make_reporter
from fteng.trials import TrialWork

# At the file that says that the study is cancelled.
_SECONDS_BETWEEN_LOOKS = 2.0


class Busy(UserError):  # noqa: N818 - a state of things, which passes
    """Another process of the same name is at work."""


def survey(workdir: Path, worker: str, should_stop: Callable[[], bool], *, watched: bool = True) -> None:
    """All before the trials; written last: the plan. watched: it ends where nothing advances. Raises UserError, Interrupted."""
    files = JobFiles(StudyPaths(workdir).launch)
    config, command = submitted(files)
    if is_surveyed(files, config):
        return
    should_stop = _or_cancelled(should_stop, files)
    with (
        _slot(files, worker),
        paths.work_directory(workdir, wait=True) as here,
        _reporting(files, worker, config, watched=watched) as reporter,
    ):
        if is_surveyed(files, config):
            return
        reporter.at("survey")
        work = study.run_survey(config, here, command, reporter, should_stop)
        write_plan(files, work, config)


def work(workdir: Path, worker: str, should_stop: Callable[[], bool], *, watched: bool = True) -> None:
    """Unit after unit, until none is left; what breaks in one is written down, and the next begins. Raises what `survey` does.

    Of several processes that are one worker the first decides, and writes.
    """
    files, main = JobFiles(StudyPaths(workdir).launch), distributed.is_main()
    config, _ = submitted(files)
    should_stop = distributed.agreed(_or_cancelled(should_stop, files))
    with ExitStack() as held:
        here, reporter = StudyPaths(workdir), cast("Reporter", PlainReporter(io.StringIO()))
        if main:
            held.enter_context(_slot(files, worker))
            here = held.enter_context(paths.work_directory(workdir, shared=True, wait=True))
            reporter = held.enter_context(_reporting(files, worker, config, watched=watched))
        run_part: Callable[[Sequence[str]], None] | None = None
        while True:
            claim = pull(files, here, worker) if main else None
            trials = distributed.agree(None if claim is None else claim.trials)
            if trials is None:
                return
            if claim is not None and isinstance(reporter, Beating):
                reporter.at(claim.unit.name)
                reporter.say(f"unit {claim.unit.name}: {len(trials)} trials, try {claim.attempt}")
            try:
                if should_stop():
                    raise Interrupted("nothing new")
                run_part = run_part or study.make_parts(config, here, reporter, should_stop)
                run_part(trials)
            except BaseException as error:
                event, why = _verdict(error)
                if claim is not None:
                    claim.end(event, why)
                # What one of several processes has met, the others wait for in vain.
                if event == "stopped" or not distributed.is_alone():
                    raise
                traceback.print_exc()
                run_part = None
            else:
                if claim is not None:
                    claim.end("done")


def _verdict(error: BaseException) -> tuple[str, str]:
    """(event, why): a signal, settings and a full disk are not the unit's fault; who comes next goes on from the checkpoints."""
    line = " ".join(str(error).split())[:500]
    if not isinstance(error, Exception) or isinstance(error, (Interrupted, UserError)):
        return "stopped", line
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return "stopped", line
    return "failed", f"{type(error).__name__}: {line}"


def everything(workdir: Path, worker: str, should_stop: Callable[[], bool], *, watched: bool = True) -> Mapping[str, Any] | None:
    """Whatever is to be done next, until all is done: the survey, units, and the report by whoever ends last, who gets its
    summary."""
    survey(workdir, worker, should_stop, watched=watched)
    work(workdir, worker, should_stop, watched=watched)
    files, here = JobFiles(StudyPaths(workdir).launch), StudyPaths(workdir)
    handle = None if files.cancelled.exists() or left(files, here) else take(files.root / "report.lock")
    if handle is None:
        return None
    collected = report(workdir, worker, watched=watched)
    os.close(handle)
    return collected


def report(workdir: Path, worker: str, *, watched: bool = True) -> Mapping[str, Any]:
    """The page, of whatever there is; its summary. Raises UserError."""
    files = JobFiles(StudyPaths(workdir).launch)
    config, _ = submitted(files)
    with (
        _slot(files, worker),
        paths.work_directory(workdir, shared=True, wait=True) as here,
        _reporting(files, worker, config, watched=watched) as reporter,
    ):
        if not left(files, here):
            shutil.rmtree(here.prefix, ignore_errors=True)
        reporter.at("report")
        return make_page(here, reporter)


def left(files: JobFiles, here: StudyPaths) -> list[str]:
    """Trials without a result that may still get one."""
    plan, now = read_plan(files), turns(files)
    waiting = [unit for unit in plan.units if now.get(unit.name) not in ("done", "failed")]
    return [trial for unit in waiting for trial in unfinished(files, here, plan, unit)]


def foresee(config: Config, workdir: Path) -> list[TrialWork]:
    """What each trial will take, with nothing written. Raises UserError."""
    reporter = make_reporter()
    try:
        return study.foresee_all(config, StudyPaths(workdir), reporter)
    finally:
        reporter.close()


@contextmanager
def _reporting(files: JobFiles, worker: str, config: Config, *, watched: bool) -> Iterator[Beating]:
    reporter = Beating(make_reporter(), files, worker, 60 * config.launch.stall_minutes if watched else None)
    try:
        yield reporter
    except BaseException:
        reporter.stop()
        raise
    reporter.close()


@contextmanager
def _slot(files: JobFiles, worker: str) -> Iterator[None]:
    """The worker's name, for one process at a time. Raises Busy where another has it."""
    handle = take(files.slot(worker))
    if handle is None:
        raise Busy(f"a worker {worker} is running on {files.root.parent} already; python -m launch.sweep status shows it")
    try:
        yield
    finally:
        os.close(handle)


def _or_cancelled(should_stop: Callable[[], bool], files: JobFiles) -> Callable[[], bool]:
    """Also when somebody cancels the study, from whatever machine; the disk is asked once in a while."""
    asked, cancelled = 0.0, False

    def stop() -> bool:
        nonlocal asked, cancelled
        now = time.monotonic()
        if now - asked >= _SECONDS_BETWEEN_LOOKS:
            asked, cancelled = now, files.cancelled.exists()
        return cancelled or should_stop()

    return stop
