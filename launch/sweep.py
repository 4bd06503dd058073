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
"""

import argparse
import dataclasses
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fteng import main as study_main
from fteng import paths, record
from fteng.config import Config, from_dict, to_dict
from fteng.errors import UserError
from fteng.jobs import claims
from fteng.jobs.files import JobFiles, check_file_system, is_held
from fteng.jobs.plan import make_units
from fteng.paths import StudyPaths
from fteng.process import STOPPED
from fteng.trials import TrialWork
from launch import control, local, slurm
from launch.status import standing
from launch.watch import Watch

_COMMANDS = {"status": control.status, "cancel": control.cancel, "retry": control.retry}
# Between two questions to a scheduler that others ask too.
_SECONDS_BETWEEN_POLLS = 10.0
# Chains of jobs that ended without a single trial more, until the launcher gives up.
_ROUNDS = 2
_SLURM_WORKERS = 4


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 done, 1 it went wrong, 2 the user can mend it (one line says what), 143 stopped with everything saved."""
    if not arguments or {"--help", "-h"} & set(arguments):
        print(__doc__)
        return 0
    parser = argparse.ArgumentParser(prog="python -m launch.sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--executor", choices=("debug", "local", "slurm"), default="local")
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--detach", action="store_true")
    asked = arguments[0] if arguments[0] in _COMMANDS else ""
    given, rest = parser.parse_known_args(arguments[bool(asked) :])
    try:
        if given.workdir is None:
            raise UserError("--workdir is missing; give the folder of the study, for example --workdir=runs/demo")
        workdir = given.workdir.expanduser()
        if asked:
            if rest:
                raise UserError(f"unexpected argument {rest[0]!r}; {asked} takes --workdir alone")
            return _COMMANDS[asked](workdir)
        config = study_main.parse(["launch.sweep", *rest])
        if given.detach and given.executor != "slurm":
            raise UserError(f"--detach: got --executor={given.executor}, allowed: slurm")
        if given.dry_run:
            return _dry_run(config, workdir, given.executor)
        command = shlex.join(["python", "-m", "launch.sweep", *arguments])
        return _run(config, workdir, given.executor, command, detach=given.detach)
    except UserError as error:
        print(f"fteng: {error}", file=sys.stderr)
        return 2
    except local.Ended as ended:
        print(ended, file=sys.stderr)
        return ended.status
    except KeyboardInterrupt:
        print("fteng: the launcher has ended; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGINT


def _run(config: Config, workdir: Path, executor: str, command: str, *, detach: bool) -> int:
    files = JobFiles(StudyPaths(workdir).launch)
    gpus = local.devices() if executor == "local" else 0
    workers = config.launch.workers or {"slurm": _SLURM_WORKERS, "local": max(1, gpus), "debug": 1}[executor]
    config = dataclasses.replace(config, launch=dataclasses.replace(config.launch, workers=workers))
    cluster = slurm.Slurm(workdir, config.launch) if executor == "slurm" else None
    _lay_out(files, config, command, busy=cluster is not None and bool(cluster.alive()))
    if cluster is not None:
        return _on_cluster(cluster, workdir, workers, detach=detach)
    if executor == "debug":
        _here(config, workdir)
    else:
        _on_this_machine(files, config, gpus)
    return _end(workdir)


def _lay_out(files: JobFiles, config: Config, command: str, *, busy: bool) -> None:
    """The config for whoever works. Raises UserError where it is not that of the work directory, or changes under running jobs."""
    try:
        files.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = files.root.parent
        raise UserError(f"cannot write to the work directory {where} ({error.strerror}); choose another with --workdir") from None
    check_file_system(files)
    live = busy or any(is_held(lock) for lock in files.root.glob("workers/*.lock"))
    if not live and is_held(files.root.parent / "lock"):
        raise UserError(f"a study of one process is running in {files.root.parent}; wait for it, or choose another --workdir")
    now = to_dict(config)
    if files.config.exists():
        before = to_dict(from_dict(paths.read_json(files.config)["config"]))
        other = record.differing(before, now)
        if other:
            raise UserError(
                f"{files.root.parent} holds a study with other settings: {', '.join(other)}; choose another --workdir, or delete"
                " this one"
            )
        changed = [name for name in before if before[name] != now[name] and name != "launch"]
        if live and changed:
            raise UserError(
                f"the config has changed since the jobs of {files.root.parent} were submitted ({', '.join(changed)}); let them end,"
                f" or run python -m launch.sweep cancel --workdir={files.root.parent} first"
            )
    if not live:
        files.cancelled.unlink(missing_ok=True)
        # Nobody works: results may have been deleted by hand, so everything is looked at again.
        files.ledger.unlink(missing_ok=True)
        paths.write_json(files.config, {"config": now, "command": command})


def _here(config: Config, workdir: Path) -> None:
    """Every part in this process: the one executor for which the launcher needs the networks itself."""
    from fteng.jobs import run
    from fteng.process import prepare_process

    prepare_process(config)
    run.everything(workdir, "debug", lambda: False)


def _on_this_machine(files: JobFiles, config: Config, gpus: int) -> None:
    with Watch(files.root.parent) as watch:
        machine = local.Local(files.root.parent, watch.look)
        previous = signal.signal(signal.SIGTERM, _raise_stopped)
        try:
            machine.run(config.launch.workers, gpus, lambda: claims.is_surveyed(files, config))
        except KeyboardInterrupt:
            machine.stop()
            raise local.Ended("fteng: stopped, everything saved; the same command goes on from there", STOPPED) from None
        finally:
            signal.signal(signal.SIGTERM, previous)


def _raise_stopped(number: int, frame: object) -> None:  # noqa: ARG001 - the signal module passes both
    raise KeyboardInterrupt


def _on_cluster(cluster: slurm.Slurm, workdir: Path, workers: int, *, detach: bool) -> int:
    """Submit what is left, watch, submit again what was lost; a launcher that is killed has only stopped watching."""
    idle, before = 0, None
    with Watch(workdir) as watch:
        while True:
            now = standing(workdir)
            if now.surveyed and now.reported and not now.left and not cluster.alive():
                break
            left = now.left if now.surveyed else None
            idle = idle + 1 if before == (now.surveyed, left) else 0
            if idle >= _ROUNDS:
                why = cluster.last_words() or f"see the logs in {JobFiles(StudyPaths(workdir).launch).logs}"
                raise local.Ended(f"fteng: {_ROUNDS + 1} chains of jobs ended without a trial more: {why}", 1)
            before = (now.surveyed, left)
            numbers = cluster.submit(workers, surveyed=now.surveyed)
            watch.say(f"submitted: {', '.join(numbers)}" if numbers else "jobs of this work directory are alive: watching them")
            if detach:
                watch.say(f"python -m launch.sweep status --workdir={workdir}")
                return 0
            while cluster.alive():
                time.sleep(_SECONDS_BETWEEN_POLLS)
                watch.look()
            if JobFiles(StudyPaths(workdir).launch).cancelled.exists():
                raise local.Ended("fteng: cancelled; the same command goes on from there", STOPPED)
    return _end(workdir)


def _end(workdir: Path) -> int:
    """The answer, and what there is none of."""
    from fteng import summary

    study = StudyPaths(workdir)
    now = standing(workdir)
    if not now.reported:
        raise local.Ended(f"fteng: {now.line}; no report: python -m launch.sweep status --workdir={workdir} tells more", 1)
    print(summary.headline(paths.read_json(study.report / "summary.json")))
    print(f"report: {(study.report / 'index.html').resolve()}")
    for row in now.rows:
        if row.state == "failed":
            print(f"fteng: given up: {row.note}; python -m launch.sweep retry --workdir={workdir} tries again", file=sys.stderr)
    return 0 if not now.left else 1


def _dry_run(config: Config, workdir: Path, executor: str) -> int:
    """Units, seconds, jobs. The networks are looked at in a process of their own."""
    files = JobFiles(StudyPaths(workdir).launch)
    workers = config.launch.workers or {"slurm": _SLURM_WORKERS, "local": max(1, local.devices()), "debug": 1}[executor]
    command = [sys.executable, "-m", "fteng.jobs", str(workdir), "foresee"]
    asked = subprocess.run(command, input=json.dumps(to_dict(config)), stdout=subprocess.PIPE, text=True, check=False)
    if asked.returncode:
        return asked.returncode
    work = [TrialWork(**one) for one in json.loads(asked.stdout)]
    study, race = StudyPaths(workdir), config.sweep.search == "race"
    todo = [one for one in work if not claims.is_finished(study, one.trial)]
    units = make_units(todo, 1 if race else workers)
    console = Console(width=200)
    total = sum(unit.seconds for unit in units)
    for unit in units:
        console.print(f"{unit.name:<32} {len(unit.trials):>4} trials {unit.seconds:>10,.0f} s", highlight=False)
    longest = max((unit.seconds for unit in units), default=0.0)
    print(f"{len(todo)} of {len(work)} trials left, in {len(units)} units; {total:,.0f} s at the pace of a forward pass here")
    print(f"at least {max(longest, total / workers):,.0f} s with {workers} workers{'; a race runs in one of them' * race}")
    if executor == "slurm":
        cluster = slurm.Slurm(workdir, config.launch)
        for part, options in cluster.chain(workers, surveyed=files.plan.exists()):
            print(shlex.join(["sbatch", *options, *cluster.script(part)]))
        print((Path(slurm.__file__).parent / "job.sbatch").read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
