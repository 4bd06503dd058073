"""Which trials of a study are yet to run: of the config, of those asked for beside it, and of a race."""

import dataclasses
import shutil
from collections.abc import Container
from typing import Any

from fteng import distributed, paths, steer
from fteng.errors import UserError
from fteng.ground import Ground, check_leaves
from fteng.paths import StudyPaths, TrialPaths
from fteng.progress import Reporter
from fteng.race.field import race_settings
from fteng.race.record import is_over
from fteng.trials import TrialSpec


def widened(ground: Ground, study: StudyPaths) -> Ground:
    """With the trials that were asked for beside the config. No race: those it has decided on would not be the same."""
    asked = steer.Steering(*distributed.agree(steer.read(study) if distributed.is_main() else None))
    sweep = dataclasses.replace(ground.config.sweep, search="exhaustive")
    added = steer.added(ground.specs, asked)
    mend = f"take what adds it out of {steer.file_of(study)}"
    check_leaves((spec.plan for spec in added), ground.backbone, ground.weights, mend)
    specs = (*ground.specs, *added)
    return ground._replace(config=dataclasses.replace(ground.config, sweep=sweep), specs=specs)


def in_parts(ground: Ground, study: StudyPaths) -> Ground:
    """A race is one part; what is added to it waits for python -m fteng.main."""
    return ground if ground.config.sweep.search == "race" else widened(ground, study)


def added_trials(ground: Ground, study: StudyPaths, reporter: Reporter) -> tuple[Ground, list[TrialSpec]]:
    """(`widened`, those of its trials that were asked for and are yet to run)."""
    wider = widened(ground, study)
    mine = {spec.id for spec in wider.specs} - {spec.id for spec in ground.specs}
    if ground.config.sweep.search != "race":
        # Also those that were stopped, and are to go on.
        mine |= {spec.id for spec in ground.specs}
    return wider, pending_trials(wider, study, reporter, mine)


def pending_trials(ground: Ground, study: StudyPaths, reporter: Reporter, among: Container[str] | None = None) -> list[TrialSpec]:
    """`_unfinished`, as the first process finds it."""
    found = [spec.id for spec in _unfinished(ground, study, reporter, among)] if distributed.is_main() else []
    wanted = set(distributed.agree(found))
    return [spec for spec in ground.specs if spec.id in wanted]


def _unfinished(ground: Ground, study: StudyPaths, reporter: Reporter, among: Container[str] | None = None) -> list[TrialSpec]:
    """Trials that may have to run: those without a result, or stopped by a race that is not over, or is asked for no more.

    It tidies up as it looks: a result that cannot be read is set aside, what a kill left beside a whole one goes. among: the ids
    to look at, where others are not ours to touch.
    """
    racing = ground.config.sweep.search == "race"
    if racing and is_over(study, ground.specs, race_settings(ground.config, len(ground.dataset.classes))):
        return []
    pending, stopped = [], steer.read(study).stopped
    for spec in ground.specs:
        if among is not None and spec.id not in among:
            continue
        where = study.trial(spec.id)
        result = _result(where, reporter)
        if result is None or result["status"] == "stopped":
            if spec.id not in stopped:
                pending.append(spec)
        elif where.running.exists():
            # A kill after the result and before the clean-up leaves these behind.
            shutil.rmtree(where.running)
    # Which of them a race asks for, it finds out itself.
    return list(ground.specs) if racing else pending


def _result(where: TrialPaths, reporter: Reporter) -> dict[str, Any] | None:
    """A trial's result if there is one; a damaged one is kept under another name, and the trial counts as not run."""
    if not where.result.exists():
        return None
    try:
        result = paths.read_json(where.result)
        result["status"]
    except (UserError, KeyError, TypeError):
        aside = where.result.with_suffix(".damaged")
        where.result.replace(aside)
        reporter.say(f"{where.result} is damaged (now {aside.name}); its trial is run again")
        return None
    return result
