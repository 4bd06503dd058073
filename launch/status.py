"""How far a study in parts is, from its files alone: works from any machine that sees the work directory."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from fteng import paths, steer
from fteng.errors import UserError
from fteng.jobs.claims import UnitPlan, history, is_surveyed, read_plan, submitted, turns, unfinished
from fteng.jobs.files import JobFiles, decide
from fteng.jobs.plan import Unit
from fteng.locks import is_held
from fteng.paths import StudyPaths


class Row(NamedTuple):
    """A unit. state: waiting, running, done, failed (some trial was given up) or broken (it broke and will be tried again); left:
    trials without a result; note: what its worker is at, or why it failed."""

    unit: Unit
    state: str
    left: int
    tries: int
    worker: str
    note: str


class Standing(NamedTuple):
    """surveyed: the units of the config as it is are planned; rows: one a unit; workers: beats of those that live."""

    surveyed: bool
    rows: tuple[Row, ...]
    workers: tuple[dict[str, Any], ...]

    @property
    def counts(self) -> Counter[str]:
        """Of units by state."""
        return Counter(row.state for row in self.rows)

    @property
    def left(self) -> int:
        """Trials without a result."""
        return sum(row.left for row in self.rows)

    @property
    def line(self) -> str:
        """All of it in one line."""
        if not self.surveyed:
            now = [f"{beat['worker']}: {beat['phase']} {beat['share']:.0%}" for beat in self.workers]
            return "survey: " + (", ".join(now) or "waiting")
        trials = sum(len(row.unit.trials) for row in self.rows)
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        return f"{trials - self.left} of {trials} trials ended; units: {counts}; {len(self.workers)} workers"


def files_of(workdir: Path) -> JobFiles:
    """Raises UserError where no study in parts is laid out."""
    files = JobFiles(StudyPaths(workdir).launch)
    if not files.config.exists():
        raise UserError(
            f"{workdir} holds no study in parts; start one with python -m launch.sweep --config=... --workdir={workdir}"
        )
    return files


def living(files: JobFiles) -> tuple[dict[str, Any], ...]:
    """The last beat of every worker that lives."""
    held = (file for file in sorted(files.root.glob("workers/*.json")) if is_held(files.slot(file.stem)))
    return tuple(paths.read_record(file, "worker", "unit", "phase", "share", "note") for file in held)


def standing(workdir: Path) -> Standing:
    """Raises UserError where no study in parts is laid out, or a file of it is damaged."""
    study, files = StudyPaths(workdir), files_of(workdir)
    beats = living(files)
    if not is_surveyed(files, submitted(files)[0]) or not study.study.exists():
        return Standing(False, (), beats)
    # Once, since others wait for it; who only looks must not be taken for who holds a unit.
    with decide(files):
        plan, now = read_plan(files), turns(files)
        held = {unit.name for unit in plan.units if now.get(unit.name) == "begun" and is_held(files.held(unit.name))}
    of = {beat["unit"]: beat for beat in beats}
    # What nobody has come near is told by two listings, for thousands of units, not by files of each.
    touched = {path.stem for path in files.root.glob("units/*.jsonl")}
    touched_trials = {path.name for path in study.trials.glob("*")} | set(steer.read(study).stopped)
    rows = []
    for unit in plan.units:
        if unit.name in now or unit.name in touched or not touched_trials.isdisjoint(unit.trials):
            rows.append(_row(files, study, plan, unit, now.get(unit.name, ""), of, held=unit.name in held))
        else:
            rows.append(Row(unit, "waiting", len(unit.trials), 0, "", ""))
    return Standing(True, tuple(rows), beats)


def _row(
    files: JobFiles, study: StudyPaths, plan: UnitPlan, unit: Unit, turn: str, beats: dict[str, dict[str, Any]], *, held: bool
) -> Row:
    if turn == "done":
        return Row(unit, "done", 0, 0, "", "")
    events = history(files, unit.name)
    tries = sum(event["event"] == "start" for event in events)
    last = events[-1] if events else {"event": "", "worker": "", "why": ""}
    if turn == "failed":
        return Row(unit, "failed", len(unit.trials) * plan.race, tries, last["worker"], f"{unit.trials[0]}: {last['why']}")
    left = len(unfinished(files, study, plan, unit))
    if held:
        beat = beats.get(unit.name)
        where = f"{beat['phase']} {beat['share']:.0%} {beat['note']}" if beat else "starting"
        return Row(unit, "running", left, tries, last["worker"], where)
    broken = last["event"] in ("failed", "died")
    return Row(unit, "done" if not left else "broken" if broken else "waiting", left, tries, last["worker"], last["why"])


def table(now: Standing, title: str = "") -> Table:
    """For a terminal: a row a unit, those that matter first."""
    shown = Table(title=title or None, caption=now.line, expand=False, box=None, header_style="bold")
    for name, justify in (
        ("unit", "left"),
        ("state", "left"),
        ("trials left", "right"),
        ("predicted s", "right"),
        ("try", "right"),
    ):
        shown.add_column(name, justify=justify)  # pyright: ignore[reportArgumentType]
    shown.add_column("worker")
    shown.add_column("at", overflow="fold")
    order = {"running": 0, "failed": 1, "broken": 2, "waiting": 3, "done": 4}
    for row in sorted(now.rows, key=lambda row: order[row.state]):
        cells = (row.unit.name, row.state, f"{row.left} of {len(row.unit.trials)}", f"{row.unit.seconds:,.0f}", str(row.tries))
        shown.add_row(*cells, row.worker, row.note)
    for beat in now.workers:
        if not any(row.state == "running" and row.worker == beat["worker"] for row in now.rows):
            shown.add_row(beat["unit"], beat["phase"], "", "", "", beat["worker"], f"{beat['share']:.0%} {beat['note']}")
    return shown
