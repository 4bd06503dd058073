"""`python -m fteng.jobs WORKDIR survey|work|report|all`: a part of a study, as python -m launch.sweep and job scripts start it."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fteng import distributed, summary
from fteng.config_check import from_dict
from fteng.errors import Interrupted, says_user_errors
from fteng.jobs.claims import record_death, submitted
from fteng.jobs.files import JobFiles
from fteng.paths import StudyPaths
from fteng.process import BUSY, DISK_ERRORS, STOPPED, begin_with_huge_pages, end_at_once, prepare_process, stop_on_signal

_HELP = """\
One part of a study that python -m launch.sweep has laid out in WORKDIR; job scripts call this.

survey   weights, images, probes, similarity, and the plan: which trials go together
work     trials, unit after unit, until none is left; start as many of these as you like, on any machine that sees WORKDIR
report   the page of whatever there is
all      whatever is to be done next, until all is done; as many of these as you like
died     note that a worker ended without a word (for job scripts: --worker, --why)
foresee  read a config as JSON from standard input, print what its trials will take; writes nothing

Exit status: 0 done; 2 the user can mend it, one line says how; 75 a worker of that name is at work, ask again later; 143 asked to
stop, everything saved: start it again.
"""


def main(arguments: list[str]) -> int:
    """Exit status, see above."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.jobs", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR")
    parser.add_argument("part", choices=("survey", "work", "report", "all", "died", "foresee"))
    parser.add_argument("--worker", default=f"by-hand-{os.getpid()}", help="its name, for the status")
    parser.add_argument("--why", default="", help="of died: what was seen")
    parser.add_argument("--ending", type=Path, help="where the first of several ranks that does not end with 0 writes its status")
    given = parser.parse_args(arguments)
    status = _answered(given)
    if given.ending is not None and status:
        # srun ends the others for it, and may then tell of their end alone.
        with suppress(OSError), given.ending.open("x") as file:
            file.write(f"{status}\n")
    return status


@says_user_errors
def _answered(given: argparse.Namespace) -> int:
    try:
        return _part(given.part, given.workdir, given.worker, given.why)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(f"fteng: {error.strerror} ({error.filename or given.workdir}); finished trials are kept: make room", file=sys.stderr)
        return 2


def _part(part: str, workdir: Path, worker: str, why: str) -> int:
    files = JobFiles(StudyPaths(workdir).launch)
    if part == "died":
        submitted(files)
        for unit in record_death(files, worker, why):
            print(f"{worker} died at unit {unit}: {why}")
        return 0
    if part == "foresee":
        config = from_dict(json.load(sys.stdin))
        prepare_process(config)
        from fteng.jobs import run

        json.dump([one._asdict() for one in run.foresee(config, workdir)], sys.stdout)
        return 0
    # Now, since what is imported below takes seconds.
    should_stop = stop_on_signal()
    from fteng.jobs import run

    prepare_process(submitted(files)[0])
    distributed.start()

    answer: Mapping[str, Any] | None = None
    try:
        if part == "survey":
            run.survey(workdir, worker, should_stop)
        elif part == "work":
            run.work(workdir, worker, should_stop)
        elif part == "all":
            answer = run.everything(workdir, worker, should_stop)
        else:
            answer = run.report(workdir, worker)
    except run.Busy as busy:
        print(f"fteng: {busy}", file=sys.stderr)
        return BUSY
    except Interrupted as stopped:
        print(f"fteng: stopped, saved {stopped}; the next start goes on from there", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("fteng: stopped at once; the next start goes on from the last checkpoint", file=sys.stderr)
        return STOPPED
    if answer is not None:
        print(summary.headline(answer))
        print(f"report: {StudyPaths(workdir).page.resolve()}")
    return 0


if __name__ == "__main__":
    begin_with_huge_pages()
    # One of several processes that cannot go on ends at once: the others would wait for it in vain, and it for them.
    end_at_once(distributed.leave(main(sys.argv[1:])))
