"""The rates of one way of training, side by side from rung to rung; and what stands on disk of its trials."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from fteng import paths
from fteng.distributed import from_main, is_main, wait
from fteng.race import decide
from fteng.results import Predictions, read_predictions, write_predictions
from fteng.sweep.run import close_trial, fresh_shapes, meter, open_trial
from fteng.sweep.track import Track, inputs_of
from fteng.train.population import advance, answers_of
from fteng.train.shape import Shape
from fteng.train.trial import Running
from fteng.trials import TrialSpec


class Heat:
    """The rates of one way, side by side; opened when they first train in this process."""

    def __init__(self, track: Track, arms: Mapping[float, TrialSpec]) -> None:
        self._track, self._arms = track, arms
        self._open: dict[float, Running] = {}
        self._fresh: set[Shape] = set()
        self._per_epoch = track.site.bench.length.per_epoch
        marks = decide.rungs(track.site.ground.config.train.epochs)[:-1]
        # Those ended before there was a race, and have no answers at its rungs.
        done = self._among(list(arms), "done")
        self._ended = from_main(lambda: [rate for rate in done if not all(self._rung(rate, epoch).exists() for epoch in marks)])
        self._alive = [rate for rate in arms if rate not in self._ended]

    def answers_at(self, epoch: int) -> dict[float, Predictions]:
        """To val after `epoch`, of every rate that still runs; from disk where they stand there. What diverged before is out."""
        unfinished = self._among(self._alive, None, "stopped")
        missing = from_main(lambda: [rate for rate in unfinished if not self._rung(rate, epoch).exists()])
        if missing:
            members = self._train(missing, epoch * self._per_epoch)
            sound = [rate for rate, member in members.items() if member.lost_at is None]
            inputs = inputs_of(self._track, self._arms[missing[0]])
            found = answers_of(self._track.site.bench, [members[rate] for rate in sound], inputs, "val")
            for rate, answers in zip(sound, found, strict=True) if is_main() else ():
                paths.write_by(self._rung(rate, epoch), lambda path, answers=answers: write_predictions(path, {"val": answers}))
            self._close_lost(members)
        self._alive = from_main(lambda: [rate for rate in self._alive if self._rung(rate, epoch).exists()])
        return {rate: read_predictions(self._rung(rate, epoch))["val"] for rate in self._alive}

    def stop(self, rates: Sequence[float], epoch: int, why: str) -> None:
        """These train no more."""
        unwritten = self._among(rates, None)
        members = self._train(unwritten, epoch * self._per_epoch) if unwritten else {}
        for rate, member in members.items():
            close_trial(self._track, member, read_predictions(self._rung(rate, epoch)), self._fresh, why)
            del self._open[rate]
        self._alive = [rate for rate in self._alive if rate not in rates]

    def finish(self) -> dict[float, Predictions]:
        """All that still run go to their end. Returns the answers to val of those that did, audited and sound."""
        site = self._track.site
        unwritten = self._among(self._alive, None, "stopped")
        if unwritten:
            members = self._train(unwritten, site.bench.length.steps)
            self._close_lost(members)
            sound = {rate: member for rate, member in members.items() if member.lost_at is None}
            inputs = inputs_of(self._track, self._arms[unwritten[0]])
            answers = {split: answers_of(site.bench, list(sound.values()), inputs, split) for split in ("val", "test")}
            for place, member in enumerate(sound.values()):
                close_trial(self._track, member, {split: found[place] for split, found in answers.items()}, self._fresh)
        done = self._among([*self._alive, *self._ended], "done")
        return {rate: final_answers(self._track, self._arms[rate])["val"] for rate in done}

    def _close_lost(self, members: Mapping[float, Running]) -> None:
        for rate, member in members.items():
            if member.lost_at is not None:
                close_trial(self._track, member, {}, self._fresh)
                del self._open[rate]

    def _train(self, rates: Sequence[float], upto: int) -> dict[float, Running]:
        for rate in rates:
            member = self._open.get(rate)
            if member is not None and member.step <= upto:
                continue
            spec = self._arms[rate]
            self._fresh |= fresh_shapes(self._track, [spec])
            member = open_trial(self._track, spec, len(rates))
            if member.step > upto:
                # A checkpoint of a run that was no race; what it was at the rung nobody has asked.
                member.checkpoints.close()
                self._track.site.reporter.say(f"trial {spec.id} begins anew: the race compares it at an epoch that it had passed")
                if is_main():
                    shutil.rmtree(member.where.running)
                wait()
                member = open_trial(self._track, spec, len(rates))
            self._open[rate] = member
        members = [self._open[rate] for rate in rates]
        inputs = inputs_of(self._track, self._arms[rates[0]])
        advance(self._track.site.bench, members, inputs, upto, meter(self._track, members))
        return dict(zip(rates, members, strict=True))

    def _among(self, rates: Sequence[float], *wanted: str | None) -> list[float]:
        """Those whose trials stand so; None: without a result."""
        found = statuses(self._track, [self._arms[rate] for rate in rates])
        return [rate for rate, status in zip(rates, found, strict=True) if status in wanted]

    def _rung(self, rate: float, epoch: int) -> Path:
        return self._track.site.study.trial(self._arms[rate].id).rung(epoch)


def statuses(track: Track, specs: Sequence[TrialSpec]) -> list[str | None]:
    """Of each, as the first process finds it."""
    return from_main(lambda: [track.site.study.trial(spec.id).status() for spec in specs])


def final_answers(track: Track, spec: TrialSpec) -> dict[str, Predictions]:
    """By split, of a trial that has ended."""
    return read_predictions(track.site.study.trial(spec.id).predictions)
