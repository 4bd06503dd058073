"""Which trials of a study are yet to run: of the config, of those asked for beside it, and of a race."""

import dataclasses
import shutil
from collections.abc import Container

from fteng import distributed, steer
from fteng.errors import UserError
from fteng.ground import Ground, check_leaves
from fteng.paths import StudyPaths, TrialPaths
from fteng.progress import Reporter
from fteng.race.field import race_settings
from fteng.race.record import is_over
from fteng.trials import TrialSpec


def widened(ground: Ground, study: StudyPaths) -> Ground:
    """With the trials that were asked for beside the config. No race: those it has decided on would not be the same."""
    asked = steer.Steering(*distributed.from_main(lambda: steer.read(study)))
    sweep = dataclasses.replace(ground.config.sweep, search="exhaustive")
    added = steer.added(ground.specs, asked)
    mend = f"take what adds it out of {study.steering}"
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
    """Trials that may have to run, as the first process finds it: those without a result, or stopped by a race that is not over,
    or is asked for no more. What a kill left behind is tidied up before. among: the ids to look at, where others are not ours to
    touch."""

    def look() -> list[str]:
        if racing and is_over(study, ground.specs, race_settings(ground.config, len(ground.dataset.classes))):
            return []
        mine = [spec.id for spec in ground.specs if among is None or spec.id in among]
        stopped = steer.read(study).stopped
        found = {trial: _tidied(study.trial(trial), reporter) for trial in mine}
        unfinished = [trial for trial, status in found.items() if status in (None, "stopped") and trial not in stopped]
        # Which of them a race asks for, it finds out itself.
        return [spec.id for spec in ground.specs] if racing else unfinished

    racing = ground.config.sweep.search == "race"
    wanted = set(distributed.from_main(look))
    return [spec for spec in ground.specs if spec.id in wanted]


def _tidied(where: TrialPaths, reporter: Reporter) -> str | None:
    """How the trial ended, None where it did not. A damaged result is kept under another name, and the trial counts as not run;
    what a kill between the result and the clean-up left goes."""
    try:
        status = where.status()
    except UserError:
        aside = where.result.with_suffix(".damaged")
        where.result.replace(aside)
        reporter.say(f"{where.result} is damaged (now {aside.name}); its trial is run again")
        return None
    if status not in (None, "stopped") and where.running.exists():
        shutil.rmtree(where.running)
    return status
