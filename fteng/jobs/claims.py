"""Who runs which unit, and what became of it: locks that die with their process, and a line for every event. Imports no jax."""

import datetime
import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fteng import paths, steer
from fteng.config import Config, to_dict
from fteng.config_check import from_dict
from fteng.errors import UserError
from fteng.jobs.files import JobFiles, decide
from fteng.jobs.plan import Unit, make_units
from fteng.locks import is_held, take
from fteng.paths import StudyPaths
from fteng.trials import TrialWork

# A unit that vanishes so often without a witness is broken too; fewer are nights on preemptible nodes.
_LOST = 20


@dataclass(frozen=True, slots=True)
class Claim:
    """A unit that this process runs; nobody else does while the process lives. trials: those without a result."""

    unit: Unit
    trials: tuple[str, ...]
    attempt: int
    files: JobFiles
    worker: str
    handle: int

    def end(self, event: str, why: str = "") -> None:
        """done, failed or stopped; the unit is free then."""
        _append(self.files, self.unit.name, event, self.worker, why)
        turn(self.files, "done" if event == "done" else "free", self.unit.name)
        os.close(self.handle)


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """units: the longest first; race: what it does, one unit does."""

    units: tuple[Unit, ...]
    race: bool


def submitted(files: JobFiles) -> tuple[Config, str]:
    """The config that the launcher left, and its command. Raises UserError where there is none, or a damaged one."""
    if not files.config.exists():
        raise UserError(f"{files.config} is missing; python -m launch.sweep --config=... --workdir=... writes it")
    value = paths.read_record(files.config, "config", "command")
    try:
        return from_dict(value["config"]), value["command"]
    except (AttributeError, TypeError):
        raise UserError(f"{files.config} is damaged; delete it and run the same command again") from None


def write_plan(files: JobFiles, work: Sequence[TrialWork], config: Config) -> UnitPlan:
    """Units for the trials of this config that have none yet, beside those there are."""
    race = config.sweep.search == "race"
    with decide(files):
        kept = [] if race or not files.plan.exists() else _kept(read_plan(files), {one.trial for one in work})
        planned = {trial for unit in kept for trial in unit.trials}
        fresh = [one for one in work if one.trial not in planned]
        taken = {path.stem for path in files.plan.parent.glob("units/*.jsonl")} | {unit.name for unit in kept}
        new = units_of(fresh, config, taken)
        plan = UnitPlan(tuple(sorted([*kept, *new], key=lambda unit: -unit.seconds)), race)
        _write(files, plan)
        paths.write_json(files.surveyed, _planned(files, config))
    return plan


def units_of(work: Sequence[TrialWork], config: Config, taken: Iterable[str] = ()) -> list[Unit]:
    """The units that `work` makes for the workers of a config. taken: names not to use again."""
    if config.sweep.search != "race":
        return make_units(work, max(1, config.launch.workers), taken)
    # Decisions of a race need all trials in one place.
    trials = tuple(one.trial for one in work)
    return [Unit(f"race-{paths.digest(list(trials))[:8]}", trials, sum(one.seconds for one in work))] if trials else []


def is_surveyed(files: JobFiles, config: Config) -> bool:
    """Whether the units of this very config are planned, and what they stand on is there."""
    here = StudyPaths(files.root.parent).surveyed
    return (
        here.exists()
        and files.plan.exists()
        and files.surveyed.exists()
        and paths.read_json(files.surveyed) == _planned(files, config)
    )


def _planned(files: JobFiles, config: Config) -> dict[str, Any]:
    """What decides which trials there are, and what they stand on: of the config, and what the launcher found to be added."""
    added = paths.read_record(files.config).get("added", []) if files.config.exists() else []
    return {name: value for name, value in to_dict(config).items() if name != "launch"} | {"added": added}


def _kept(before: UnitPlan, wanted: set[str]) -> list[Unit]:
    """Units of the plan before whose trials are all still asked for."""
    return [] if before.race else [unit for unit in before.units if wanted.issuperset(unit.trials)]


def read_plan(files: JobFiles) -> UnitPlan:
    """Raises UserError where there is none, or a damaged one."""
    if not files.plan.exists():
        raise UserError(f"{files.root} holds no plan yet; the survey writes it: python -m launch.sweep begins with that")
    value = paths.read_record(files.plan, "race", "units")
    try:
        units = tuple(Unit(unit["name"], tuple(unit["trials"]), unit["seconds"]) for unit in value["units"])
    except (KeyError, TypeError):
        raise UserError(f"{files.plan} is damaged; delete it and run the same command again") from None
    return UnitPlan(units, value["race"])


def _tries(files: JobFiles) -> int:
    """How often a unit is begun before it is cut or given up, by the config as it is now. Read without the rest, since others
    wait."""
    try:
        return int(paths.read_record(files.config, "config")["config"]["launch"]["tries"])
    except (FileNotFoundError, KeyError, TypeError):
        raise UserError(f"{files.config} is missing or damaged; delete it and run python -m launch.sweep again") from None


def _write(files: JobFiles, plan: UnitPlan) -> None:
    units = [unit._asdict() for unit in plan.units]
    paths.write_json(files.plan, {"race": plan.race, "units": units})


def pull(files: JobFiles, study: StudyPaths, worker: str) -> Claim | None:
    """The longest unit that has work left and that nobody runs; None: there is none, or the study was cancelled.

    A unit that broke too often is cut into its trials; a trial that did is given up, with a result that says so.
    """
    with decide(files):
        if files.cancelled.exists():
            return None
        plan, tries = read_plan(files), _tries(files)
        queue = in_order(plan.units, turns(files))
        while queue:
            unit = queue.pop(0)
            handle = take(files.held(unit.name))
            if handle is None:
                continue
            left = unfinished(files, study, plan, unit)
            if not left:
                turn(files, "failed" if any(_is_given_up(study, trial) for trial in unit.trials) else "done", unit.name)
                os.close(handle)
                continue
            _note_lost(files, unit.name, worker)
            broken = _broken(history(files, unit.name))
            if len(broken) < tries:
                turn(files, "begun", unit.name)
                _append(files, unit.name, "start", worker)
                return Claim(unit, left, len(broken) + 1, files, worker, handle)
            os.close(handle)
            if plan.race or len(unit.trials) == 1:
                turn(files, "failed", unit.name)
                if not plan.race:
                    _give_up(study, unit.trials[0], len(broken), broken[-1]["why"])
                continue
            each = unit.seconds / len(unit.trials)
            parts = [Unit(f"{unit.name}.{unit.trials.index(trial)}", (trial,), each) for trial in left]
            plan = UnitPlan((*(one for one in plan.units if one.name != unit.name), *parts), plan.race)
            _write(files, plan)
            queue += parts
    return None


def in_order(units: Sequence[Unit], turns: Mapping[str, str]) -> list[Unit]:
    """Those worth a look, in the order to look: first what nobody has begun, then what somebody has and may have died at."""
    fresh = [unit for unit in units if turns.get(unit.name, "free") == "free"]
    return [*fresh, *(unit for unit in units if turns.get(unit.name) == "begun")]


def turns(files: JobFiles) -> dict[str, str]:
    """The last turn of each unit that has taken one: begun, free, done or failed."""
    lines = files.ledger.read_text(encoding="utf-8", errors="replace").splitlines() if files.ledger.exists() else []
    return {name: kind for kind, _, name in (line.partition(" ") for line in lines) if kind in ("begun", "free", "done", "failed")}


def turn(files: JobFiles, kind: str, unit: str) -> None:
    """One more line; short appends of several processes do not mix."""
    with files.ledger.open("a", encoding="utf-8") as ledger:
        ledger.write(f"{kind} {unit}\n")


def unfinished(files: JobFiles, study: StudyPaths, plan: UnitPlan, unit: Unit) -> tuple[str, ...]:
    """Its trials without a result; of a race all, until it has said that it is over."""
    if plan.race:
        events = history(files, unit.name)
        return () if events and events[-1]["event"] == "done" else unit.trials
    stopped = steer.read(study).stopped
    return tuple(trial for trial in unit.trials if trial not in stopped and not is_finished(study, trial))


def is_finished(study: StudyPaths, trial: str) -> bool:
    """It has a result, and nobody had stopped it."""
    try:
        return study.trial(trial).status() not in (None, "stopped")
    except UserError:
        # Damaged: whoever runs the trial sets it aside and says so.
        return False


def record_death(files: JobFiles, worker: str, why: str) -> list[str]:
    """What a witness saw of a worker that is gone; the units it was at, by name."""
    with decide(files):
        died = []
        for unit in read_plan(files).units if files.plan.exists() else ():
            events = history(files, unit.name)
            mine = bool(events) and events[-1]["event"] == "start" and events[-1]["worker"] == worker
            if mine and not is_held(files.held(unit.name)):
                _append(files, unit.name, "died", worker, why)
                turn(files, "free", unit.name)
                died.append(unit.name)
    return died


def retry(files: JobFiles, study: StudyPaths) -> list[str]:
    """Forget what broke: failed units and given-up trials are waiting again. Returns the names of those."""
    with decide(files):
        again = []
        for unit in read_plan(files).units:
            given_up = [trial for trial in unit.trials if _is_given_up(study, trial)]
            for trial in given_up:
                study.trial(trial).result.unlink()
            if given_up or _broken(history(files, unit.name)):
                _append(files, unit.name, "retry", "")
                turn(files, "free", unit.name)
                again += given_up or [unit.name]
        files.cancelled.unlink(missing_ok=True)
    return again


def history(files: JobFiles, unit: str) -> list[dict[str, Any]]:
    """Its events in their order; a line that a kill cut off, or a disk has damaged, is none."""
    path = files.history(unit)
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.keys() >= {"event", "worker", "why"}:
            events.append(event)
    return events


def _broken(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Tries that count as the unit's own fault, since somebody asked to try again."""
    last = max((index for index, event in enumerate(events) if event["event"] == "retry"), default=-1)
    seen = [event for event in events[last + 1 :] if event["event"] in ("failed", "died")]
    lost = [event for event in events[last + 1 :] if event["event"] == "lost"]
    return seen + lost[_LOST::_LOST]


def _note_lost(files: JobFiles, unit: str, worker: str) -> None:
    """Begun, never ended, and nobody holds it: its process was killed without a witness."""
    events = history(files, unit)
    if events and events[-1]["event"] == "start":
        _append(files, unit, "lost", worker, f"{events[-1]['worker']} was killed")


def _append(files: JobFiles, unit: str, event: str, worker: str, why: str = "") -> None:
    path = files.history(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"event": event, "worker": worker, "host": socket.gethostname(), "pid": os.getpid(), "time": now, "why": why}
    before = path.read_bytes() if path.exists() else b""
    # A kill may have cut the line before.
    glue = "" if not before or before.endswith(b"\n") else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{glue}{json.dumps(line)}\n")


def _give_up(study: StudyPaths, trial: str, tries: int, why: str) -> None:
    """A result that says so: the study goes on without the trial, and its report names it."""
    record = paths.read_json(study.study)
    planned = next(row for row in record["trials"] if row["id"] == trial)
    note = f"given up after {tries} tries: {why}"
    empty = {"steps": 0, "cost": None, "val": {}, "test": {}, "audit": [], "given_up": True}
    result = {**planned, **empty, "provenance": record["versions"] | {"git": record["git"]}, "status": "failed", "note": note}
    paths.write_json(study.trial(trial).result, result)


def _is_given_up(study: StudyPaths, trial: str) -> bool:
    where = study.trial(trial)
    try:
        return where.result.exists() and bool(where.read_result().get("given_up"))
    except UserError:
        return False
