"""status, cancel and retry: from any machine that sees the work directory. Each raises UserError where there is no such study."""

from pathlib import Path

from rich.console import Console

from fteng import paths
from fteng.jobs import claims
from fteng.jobs.files import JobFiles
from fteng.paths import StudyPaths
from launch import slurm
from launch.status import files_of, living, standing, table


def status(workdir: Path) -> int:
    """A table of units and workers, and what the scheduler knows."""
    now = standing(workdir)
    console = Console()
    console.print(table(now))
    cluster = _cluster(workdir)
    for job in cluster.alive() if cluster else ():
        console.print(f"job {job.number} ({job.part}): {job.state.lower()}, {job.reason}", highlight=False)
    return 0


def _cluster(workdir: Path) -> slurm.Slurm | None:
    """None: there is no SLURM on this machine, or it was never asked to run this study."""
    files = JobFiles(StudyPaths(workdir).launch)
    if slurm.missing() or not files.submitting.exists():
        return None
    return slurm.Slurm(workdir, claims.submitted(files)[0].launch)


def cancel(workdir: Path) -> int:
    """Everybody saves and stops; the launch command goes on from there."""
    files = files_of(workdir)
    paths.write_text(files.cancelled, "")
    workers, cluster = living(files), _cluster(workdir)
    jobs = cluster.cancel() if cluster else []
    print(f"{len(workers)} workers will save and stop at their next step; {len(jobs)} jobs cancelled; the launch command goes on")
    return 0


def retry(workdir: Path) -> int:
    """What was given up is waiting again."""
    again = claims.retry(files_of(workdir), StudyPaths(workdir))
    print(f"{len(again)} to be tried again: {', '.join(again)}; run the launch command" if again else "nothing has failed")
    return 0
