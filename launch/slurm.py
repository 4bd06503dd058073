"""A study in parts on SLURM: launch/job.sbatch, submitted as a chain of survey, workers, report.

Plain sbatch and squeue rather than a library on top: states come from the work directory, so no accounting is needed, nothing is
pickled, and what was submitted can be read and edited.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fteng import paths
from fteng.config import LaunchConfig
from fteng.errors import UserError
from fteng.jobs.files import JobFiles
from fteng.locks import take
from fteng.paths import StudyPaths

PARTS = ("survey", "work", "report")
_SCRIPT = Path(__file__).parent / "job.sbatch"
# Where the scheduler does not say.
_MAX_ARRAY = 1000
# Variables of the job that the launcher itself may run in, and filters that hide jobs from squeue and scancel.
_NOT_PASSED_ON = ("SLURM_", "SLURMD_", "SRUN_", "SQUEUE_", "SCANCEL_")
# How the scheduler is reached; sbatch sets none of them in a job.
_PASSED_ON = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")


class Job(NamedTuple):
    """A job, or a task of an array, that has not ended. state, reason: SLURM's words."""

    number: str
    part: str
    state: str
    reason: str


class _Refused(UserError):  # noqa: N818 - what sbatch does, and then there is no job
    """sbatch has submitted nothing."""


class Slurm:
    """The jobs of one work directory. Raises UserError where there is no SLURM, or where it cannot name the logs of this folder."""

    def __init__(self, workdir: Path, resources: LaunchConfig) -> None:
        if tools := missing():
            raise UserError(f"--executor=slurm: no {tools[0]} on this machine; run it on a login node, or take --executor=local")
        self._workdir, self._resources = workdir.absolute(), resources
        if {"\\", "\n"} & set(str(self._workdir)):
            # A backslash anywhere in a pattern of sbatch is dropped, and all its symbols stay as they are.
            raise UserError(
                f"--workdir: got {str(self._workdir)!r}, allowed with slurm: no backslash, no line break; choose another"
            )
        self._files = JobFiles(StudyPaths(self._workdir).launch)
        # From any login node the same.
        self._name = f"fteng-{paths.digest(str(self._workdir.resolve()))[:10]}"

    def submit(self, workers: int, *, surveyed: bool) -> list[str]:
        """What is still to do, as one chain: all of it or nothing. Returns the jobs' numbers, the survey's first; none where some
        are alive already.

        Raises UserError with what sbatch says.
        """
        # Another launcher may be submitting: it is waited for, and then watched.
        lock = take(self._files.submitting, wait=True)
        assert lock is not None, "waiting takes it"
        try:
            if self.alive():
                return []
            chain = self.chain(workers, surveyed=surveyed)
            for part, options in chain:
                self._sbatch(part, [*options, "--test-only"])
            self._files.logs.mkdir(parents=True, exist_ok=True)
            numbers: dict[str, list[str]] = {part: [] for part in PARTS}
            try:
                for part, options in chain:
                    numbers[part].append(self._submit(part, [*options, *_after(part, numbers)]))
            except BaseException:
                # Ctrl-C too: a survey without its workers would be watched in vain.
                if given := [one for some in numbers.values() for one in some]:
                    _scancel("--quiet", *given)
                raise
            return [one for some in numbers.values() for one in some]
        finally:
            os.close(lock)

    def chain(self, workers: int, *, surveyed: bool) -> list[tuple[str, list[str]]]:
        """(part, options of sbatch) of every job, without what it waits for."""
        size = max_array()
        arrays = [f"--array=0-{min(size, workers - first) - 1}" for first in range(0, workers, size)]
        survey = [] if surveyed else [("survey", self._options("survey"))]
        return [*survey, *(("work", [*self._options("work"), array]) for array in arrays), ("report", self._options("report"))]

    def commands(self, workers: int, *, surveyed: bool) -> list[list[str]]:
        """The chain as one may type it; SURVEY, WORK0, ... stand for the numbers that sbatch answers with."""
        names: dict[str, list[str]] = {part: [] for part in PARTS}
        found = []
        for part, options in self.chain(workers, surveyed=surveyed):
            found.append(["sbatch", *options, *_after(part, names), *self.script(part)])
            names[part].append(f"WORK{len(names[part])}" if part == "work" else part.upper())
        return found

    def script(self, part: str) -> list[str]:
        """What sbatch gets after its options."""
        return [str(_SCRIPT), sys.executable, str(self._workdir), part]

    def _options(self, part: str) -> list[str]:
        want, trains = self._resources, part != "report"
        chosen = {
            "--partition": want.partition,
            "--account": want.account,
            "--constraint": want.constraint,
            "--time": want.time,
            "--cpus-per-task": str(want.cpus),
            "--gpus-per-node": str(want.gpus) if want.gpus and trains else "",
            "--mem": f"{want.memory_gib}G" if want.memory_gib else "",
            # Probes are one pass over the images, and closed forms on the host.
            "--nodes": str(want.nodes) if part == "work" else "1",
            "--job-name": f"{self._name}-{part}",
            # A pattern, where the folder's name must stand for itself.
            "--output": f"{str(self._files.logs).replace('%', '%%')}/%x-%j.log",
        }
        return [f"{name}={value}" for name, value in chosen.items() if value]

    def _submit(self, part: str, options: Sequence[str]) -> str:
        """The job's number. Raises UserError with what sbatch says."""
        try:
            said = self._sbatch(part, options)
            # A site may say more than the number, and several clusters stand behind it.
            if found := re.search(r"^(\d+)(;\S+)?$", said, re.MULTILINE):
                return found[1]
            raise UserError(
                f"sbatch answers {said!r}, not a job number; what it may have submitted is cancelled; see what sbatch is here"
            )
        except _Refused:
            raise
        except BaseException:
            # It may be there already, and only its name is known.
            _scancel("--quiet", f"--name={self._name}-{part}")
            raise

    def _sbatch(self, part: str, options: Sequence[str]) -> str:
        """What sbatch answers. Raises _Refused with what it says."""
        asked = _call("sbatch", "--parsable", *options, *self.script(part), cwd=_SCRIPT.parent.parent)
        if asked.returncode:
            said = [line for line in asked.stderr.splitlines() if "error" in line] or asked.stderr.splitlines() or ["(silent)"]
            reason = re.sub(r"^(sbatch|allocation failure): (error: )?", "", said[-1])
            raise _Refused(f"sbatch refuses: {reason}; nothing is submitted; the resources are those of config.launch")
        return asked.stdout

    def alive(self) -> list[Job]:
        """Jobs of this work directory that have not ended."""
        names = ",".join(f"{self._name}-{part}" for part in PARTS)
        asked = _call("squeue", "--noheader", "--array", f"--name={names}", "--format=%i|%j|%T|%r")
        if asked.returncode:
            said = asked.stderr.strip().splitlines() or [f"status {asked.returncode}"]
            raise UserError(f"squeue fails: {said[0]}; is the scheduler up?")
        rows = (line.split("|", 3) for line in asked.stdout.splitlines() if line.count("|") >= 3)
        return [Job(number, name.rpartition("-")[2], state, reason) for number, name, state, reason in rows]

    def cancel(self) -> list[Job]:
        """All of them; those that there were."""
        jobs = self.alive()
        if jobs:
            _scancel(*(job.number for job in jobs))
        return jobs

    def exit_status(self, number: str) -> int | None:
        """What a job has ended with; None: it has not, or the scheduler has forgotten it, as it does after minutes."""
        asked = _call("scontrol", "-o", "show", "job", number)
        found = re.search(r"JobState=(?:COMPLETED|FAILED)\b.* ExitCode=(\d+):", asked.stdout)
        return int(found[1]) if found else None

    def last_words(self, part: str = "*") -> str:
        """The last line of ours in the newest logs (of a part): why a job ended; empty: none."""
        if part == "*" and not self._files.plan.exists():
            # That there is no plan, which the report says after it, is not why.
            part = "survey"
        for log in sorted(self._files.logs.glob(f"{self._name}-{part}-*.log"), key=lambda log: -log.stat().st_mtime):
            said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("fteng: ")]
            if said:
                return f"{said[-1]} ({log})"
        return ""


def missing() -> list[str]:
    """Commands of SLURM that this machine lacks; none: it is there."""
    return [tool for tool in ("sbatch", "squeue", "scancel", "scontrol") if shutil.which(tool) is None]


def max_array() -> int:
    """The largest array the scheduler takes."""
    asked = _call("scontrol", "show", "config")
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", asked.stdout)
    return int(found[1]) - 1 if found else _MAX_ARRAY


def _call(*command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """What a command of SLURM answers."""
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=_outside())


def _scancel(*words: str) -> None:
    """What it has to say is the user's to read."""
    subprocess.run(["scancel", *words], check=False, env=_outside())


def _outside() -> dict[str, str]:
    """The environment as on a login node, wherever we run; SBATCH_* are the site's or the user's choices for every job."""
    return {name: value for name, value in os.environ.items() if name in _PASSED_ON or not name.startswith(_NOT_PASSED_ON)}


def _after(part: str, numbers: Mapping[str, Sequence[str]]) -> list[str]:
    """Workers need the survey's success; the report is made of whatever there is."""
    before = numbers["survey"] if part == "work" else [*numbers["survey"], *numbers["work"]] if part == "report" else []
    kind = "afterok" if part == "work" else "afterany"
    return [f"--dependency={kind}:{':'.join(before)}", "--kill-on-invalid-dep=yes"] if before else []
