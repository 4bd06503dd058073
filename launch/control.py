"""status, cancel and retry: from any machine that sees the work directory. Each raises UserError where there is no such study."""

from pathlib import Path

from rich.console import Console

from fteng import paths
from fteng.config import from_dict
from fteng.errors import UserError
from fteng.jobs import claims
from fteng.jobs.files import JobFiles
from fteng.paths import StudyPaths
from launch import slurm
from launch.status import standing, table


def status(workdir: Path) -> int:
    """A table of units and workers, and what the scheduler knows."""
    now = standing(workdir)
    console = Console()
    console.print(table(now))
    for job in _jobs(workdir):
        console.print(f"job {job.number} ({job.part}): {job.state.lower()}, {job.reason}", highlight=False)
    return 0


def _jobs(workdir: Path) -> list[slurm.Job]:
    """What a scheduler knows of it; nothing where there is none."""
    files = JobFiles(StudyPaths(workdir).launch)
    try:
        return slurm.Slurm(workdir, from_dict(paths.read_json(files.config)["config"]).launch).alive()
    except UserError:
        return []


def cancel(workdir: Path) -> int:
    """Everybody saves and stops; the launch command goes on from there."""
    now = standing(workdir)
    files = JobFiles(StudyPaths(workdir).launch)
    paths.write_text(files.cancelled, "")
    jobs = _jobs(workdir)
    if jobs:
        slurm.Slurm(workdir, from_dict(paths.read_json(files.config)["config"]).launch).cancel()
    print(
        f"{len(now.workers)} workers will save and stop at their next step; {len(jobs)} jobs cancelled; the launch command goes on"
    )
    return 0


def retry(workdir: Path) -> int:
    """What was given up is waiting again."""
    standing(workdir)
    study = StudyPaths(workdir)
    again = claims.retry(JobFiles(study.launch), study)
    print(f"{len(again)} to be tried again: {', '.join(again)}; run the launch command" if again else "nothing has failed")
    return 0
