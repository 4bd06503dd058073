"""Run a study in parts: on the devices of this machine, or on a SLURM cluster.

    python -m launch.sweep --config=configs/demo.py --workdir=runs/demo [--executor=local] [--config.KEY=VALUE ...]
    python -m launch.sweep --config=configs/demo.py --workdir=/shared/demo --executor=slurm --config.launch.partition=gpu
    python -m launch.sweep status|cancel|retry --workdir=DIR

First the survey (images, probes, similarity, and which trials go together), then workers that take unit after unit of trials, the
longest first, then the report. Everything that is known stands in WORKDIR: a launcher or a worker may be killed at any moment, and
the same command goes on; several launchers on one work directory share the work. The numbers are those of python -m fteng.main.

  --executor=debug  all parts in this process, one after the other: for a debugger
  --executor=local  a process a device (config.launch.workers), started again when one dies
  --executor=slurm  a job for the survey, an array of workers, a job for the report (config.launch: partition, time, gpus, ...)
  --dry_run         print units, predicted seconds and jobs; submit and write nothing
  --detach          slurm: submit and leave; `status` shows how far it is

Exit status: 0 done; 1 it went wrong; 2 the user can mend it, one line says how; 143 stopped or cancelled, everything saved: the
same command goes on.
"""

import argparse
import dataclasses
import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from fteng import command_line, paths
from fteng.config import Config, every_key, to_dict
from fteng.errors import Interrupted, UserError, says_user_errors
from fteng.jobs import claims
from fteng.jobs.files import JobFiles
from fteng.locks import is_held
from fteng.paths import StudyPaths
from fteng.process import DISK_ERRORS, STOPPED, begin_with_huge_pages
from fteng.summary import shown
from fteng.trials import TrialWork
from launch import control, local, slurm
from launch.layout import laying_out, unwritable
from launch.status import standing
from launch.watch import Watch

_COMMANDS = {"status": control.status, "cancel": control.cancel, "retry": control.retry}
# Between two questions to a scheduler that others ask too.
_SECONDS_BETWEEN_POLLS = 10.0
# Questions in a row that it may leave without an answer, as while it is started anew.
_SILENCES = 30
# Chains of jobs that ended without a single trial more, until the launcher gives up.
_ROUNDS = 2
_SLURM_WORKERS = 4


@says_user_errors
def main(arguments: Sequence[str]) -> int:
    """Exit status, see above."""
    if not arguments or {"--help", "-h"} & set(arguments):
        print(_help())
        return 0
    parser = _Parser(prog="python -m launch.sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--executor", choices=("debug", "local", "slurm"), default="local")
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--detach", action="store_true")
    asked = arguments[0] if arguments[0] in _COMMANDS else ""
    where = "the work directory"
    try:
        given, rest = parser.parse_known_args(arguments[bool(asked) :])
        if given.workdir is None:
            raise UserError("--workdir is missing; give the folder of the study, for example --workdir=runs/demo")
        workdir = where = given.workdir.expanduser()
        if asked:
            if rest:
                raise UserError(f"unexpected argument {rest[0]!r}; {asked} takes --workdir alone")
            return _COMMANDS[asked](workdir)
        config = command_line.parse(["launch.sweep", *rest])
        if given.detach and given.executor != "slurm":
            raise UserError(f"--detach: got --executor={given.executor}, allowed: slurm")
        if given.dry_run:
            return _dry_run(config, workdir, given.executor)
        command = shlex.join(["python", "-m", "launch.sweep", *arguments])
        return _run(config, workdir, given.executor, command, detach=given.detach)
    except OSError as error:
        if error.errno not in (*DISK_ERRORS, errno.EACCES, errno.EPERM):
            raise
        advice = "what is there is kept: see that this can be written, run the same command again"
        print(f"fteng: {error.strerror} ({error.filename or where}); {advice}", file=sys.stderr)
        return 2
    except local.Ended as ended:
        print(ended, file=sys.stderr)
        return ended.status
    except KeyboardInterrupt:
        print("fteng: the launcher has ended; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGINT


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m launch.sweep --help")


def _help() -> str:
    keys = (key for key in every_key() if key.name.startswith("launch."))
    lines = [f"  {key.name:<22} {key.field.metadata['help']} [default: {key.field.default!r}]" for key in keys]
    return "\n".join(
        [str(__doc__), "Keys of config.launch, as --config.KEY=VALUE (all others: python -m fteng.main --help):", *lines]
    )


def _run(config: Config, workdir: Path, executor: str, command: str, *, detach: bool) -> int:
    files = JobFiles(StudyPaths(workdir).launch)
    gpus = local.devices() if executor == "local" else []
    config = _with_workers(config, executor, gpus)
    cluster = slurm.Slurm(workdir, config.launch) if executor == "slurm" else None
    with laying_out(files, config, command, lambda: cluster is not None and bool(cluster.alive())):
        if cluster is not None:
            return _on_cluster(cluster, workdir, config.launch.workers, detach=detach)
        if executor == "debug":
            _here(config, workdir)
        else:
            _on_this_machine(files, config, gpus)
        return _end(workdir)


def _with_workers(config: Config, executor: str, gpus: Sequence[str]) -> Config:
    """The config with a number of workers, if it leaves that to us."""
    workers = config.launch.workers or {"slurm": _SLURM_WORKERS, "local": max(1, len(gpus)), "debug": 1}[executor]
    return dataclasses.replace(config, launch=dataclasses.replace(config.launch, workers=workers))


def _here(config: Config, workdir: Path) -> None:
    """Every part in this process: the one executor for which the launcher needs the networks itself."""
    from fteng.jobs import run
    from fteng.process import prepare_process

    prepare_process(config)
    try:
        # Not watched: who stands at a breakpoint makes no step.
        run.everything(workdir, "debug", lambda: False, watched=False)
    except Interrupted:
        raise local.cancelled() from None


def _on_this_machine(files: JobFiles, config: Config, gpus: Sequence[str]) -> None:
    workdir = files.root.parent
    with Watch(workdir) as watch:
        machine = local.Local(workdir, watch.look, 60 * config.launch.stall_minutes)
        previous = signal.signal(signal.SIGTERM, _raise_stopped)
        try:
            machine.run(config.launch.workers, gpus, lambda: claims.is_surveyed(files, config))
        except KeyboardInterrupt:
            others = [lock.stem for lock in sorted(files.root.glob("workers/*.lock")) if is_held(lock)]
            rest = f"workers of another launcher go on ({', '.join(others)}): python -m launch.sweep cancel --workdir={workdir}"
            line = (
                f"fteng: stopped; {rest} ends them"
                if others
                else "fteng: stopped, everything saved; the same command goes on from there"
            )
            raise local.Ended(line, STOPPED) from None
        finally:
            signal.signal(signal.SIGTERM, previous)


def _raise_stopped(number: int, frame: object) -> None:  # noqa: ARG001 - the signal module passes both
    raise KeyboardInterrupt


def _on_cluster(cluster: slurm.Slurm, workdir: Path, workers: int, *, detach: bool) -> int:
    """Submit what is left, watch, submit again what was lost; a launcher that is killed has only stopped watching."""
    files, idle, before = JobFiles(StudyPaths(workdir).launch), 0, None
    with Watch(workdir) as watch:
        while True:
            now = standing(workdir)
            if now.surveyed and not now.left and shown(StudyPaths(workdir)) and not _alive(cluster, watch):
                break
            idle = idle + 1 if before == (now.surveyed, now.left) else 0
            if idle >= _ROUNDS:
                why = cluster.last_words() or f"see the logs in {files.logs}"
                raise local.Ended(f"fteng: {_ROUNDS} chains of jobs ended without a trial more: {why}", 1)
            before = (now.surveyed, now.left)
            numbers = cluster.submit(workers, surveyed=now.surveyed)
            watch.say(f"submitted: {', '.join(numbers)}" if numbers else "jobs of this work directory are alive: watching them")
            if detach:
                watch.say(f"python -m launch.sweep status --workdir={workdir}")
                return 0
            while _alive(cluster, watch):
                time.sleep(_SECONDS_BETWEEN_POLLS)
                watch.look()
            if files.cancelled.exists():
                break
            if numbers and not now.surveyed and cluster.exit_status(numbers[0]) == 2:
                # For the user to mend: another chain would end alike.
                raise local.Ended(cluster.last_words("survey") or f"fteng: the survey ended with status 2; see {files.logs}", 2)
    return _end(workdir)


def _alive(cluster: slurm.Slurm, watch: Watch) -> bool:
    """Whether any job has not ended. Raises UserError where the scheduler does not answer for long."""
    for silence in range(_SILENCES):
        try:
            return bool(cluster.alive())
        except UserError as error:
            if not silence:
                watch.say(f"fteng: {error} asking again every {_SECONDS_BETWEEN_POLLS:g} s")
        time.sleep(_SECONDS_BETWEEN_POLLS)
    return bool(cluster.alive())


def _end(workdir: Path) -> int:
    """The answer, and what there is none of."""
    from fteng import summary

    study = StudyPaths(workdir)
    now, whole = standing(workdir), shown(study) is not None
    if JobFiles(study.launch).cancelled.exists() and (now.left or not now.surveyed or not whole):
        raise local.cancelled()
    if not whole:
        raise local.Ended(f"fteng: {now.line}; no report: python -m launch.sweep status --workdir={workdir} tells more", 1)
    print(summary.headline(paths.read_json(study.summary)))
    print(f"report: {study.page.resolve()}")
    for row in now.rows:
        if row.state == "failed":
            print(f"fteng: given up: {row.note}; python -m launch.sweep retry --workdir={workdir} tries again", file=sys.stderr)
    return 0 if now.surveyed and not now.left else 1


def _dry_run(config: Config, workdir: Path, executor: str) -> int:
    """Units, seconds, jobs. The networks are looked at in a process of their own."""
    if workdir.exists() and not workdir.is_dir():
        raise unwritable(workdir, os.strerror(errno.ENOTDIR))
    files = JobFiles(StudyPaths(workdir).launch)
    config = _with_workers(config, executor, local.devices() if executor == "local" else [])
    workers = config.launch.workers
    command = [sys.executable, "-m", "fteng.jobs", str(workdir), "foresee"]
    asked = subprocess.run(command, input=json.dumps(to_dict(config)), stdout=subprocess.PIPE, text=True, check=False)
    if asked.returncode:
        return asked.returncode
    work = [TrialWork(**one) for one in json.loads(asked.stdout)]
    study, race = StudyPaths(workdir), config.sweep.search == "race"
    todo = [one for one in work if not claims.is_finished(study, one.trial)]
    units = claims.units_of(todo, config)
    console = Console(width=200)
    total = sum(unit.seconds for unit in units)
    for unit in units:
        console.print(f"{unit.name:<32} {len(unit.trials):>4} trials {unit.seconds:>10,.0f} s", highlight=False)
    longest = max((unit.seconds for unit in units), default=0.0)
    print(f"{len(todo)} of {len(work)} trials left, in {len(units)} units; {total:,.0f} s at the pace of a forward pass here")
    print(f"at least {max(longest, total / workers):,.0f} s with {workers} workers{'; a race runs in one of them' * race}")
    if executor == "slurm":
        cluster = slurm.Slurm(workdir, config.launch)
        for line in cluster.commands(workers, surveyed=claims.is_surveyed(files, config)):
            print(shlex.join(line))
        print((Path(slurm.__file__).parent / "job.sbatch").read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    begin_with_huge_pages()
    sys.exit(main(sys.argv[1:]))
