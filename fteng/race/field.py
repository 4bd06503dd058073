"""Who races: ways of training, from the cheapest on, and the linear classifier, which stands already. Imports no jax."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fteng.analysis.bootstrap import split_weights
from fteng.analysis.metrics import deciding_metric
from fteng.analysis.recommend import Candidate
from fteng.config import Config
from fteng.freeze.plan import FreezePlan, describe_probe
from fteng.paths import StudyPaths
from fteng.race.decide import Judge, Standing
from fteng.record import read_survey
from fteng.results import read_predictions
from fteng.trials import TrialSpec, Variant, label_of

Way = tuple[FreezePlan, Variant]


class Field(NamedTuple):
    """Who races. ways: from the cheapest on, each with its trials by rate and seed; probe: the linear classifier, which
    stands already; judge: how; settings: the same in words, for the record."""

    ways: Mapping[Way, Mapping[tuple[float, int], TrialSpec]]
    probe: Candidate
    judge: Judge
    settings: Mapping[str, Any]

    def first_seed(self, way: Way) -> dict[float, TrialSpec]:
        """The trials of a way at the first of its seeds, by rate."""
        seed = next(iter(self.ways[way]))[1]
        return {rate: spec for (rate, one), spec in self.ways[way].items() if one == seed}

    def depths(self) -> list[list[Way]]:
        """The ways that differ in their freeze depth alone and may be left out, each list from the one that trains least on: no
        stage sets, no controls, nothing that trains no stage."""
        found: dict[tuple[str, str, Variant], list[Way]] = {}
        for plan, variant in self.ways:
            if plan.freeze_depth is not None and any(plan.trains) and variant.init == "pretrained":
                found.setdefault((plan.tap, plan.leaves, variant), []).append((plan, variant))
        return [sorted(ways, key=lambda way: len(way[0].trainable_stages)) for ways in found.values()]

    def order(self) -> list[Way]:
        """Those that run first, in order: the one in the middle of the depths, which is to find the rates for the others (at the
        shallowest they hardly matter, and the deepest costs most), then the others from the one that trains least on."""
        later = self.later()
        first = [way for way in self.ways if way not in later]
        middles = [run[(len(run) - 1) // 2] for ways in self.depths() if (run := [way for way in ways if way in first])]
        return [*middles, *(way for way in first if way not in middles)]

    def later(self) -> set[Way]:
        """Every second of several depths, from the deepest on, but never the first: they run where a finalist is beside them."""
        return {way for ways in self.depths() for way in ways[-2:0:-2]}

    def beside(self, way: Way) -> list[Way]:
        """The next shallower and the next deeper one."""
        for ways in self.depths():
            if way in ways:
                place = ways.index(way)
                return [one for one in ways[max(place - 1, 0) : place + 2] if one != way]
        return []

    @property
    def standing(self) -> Standing:
        """Of the linear classifier."""
        return Standing(self.probe.name, (), self.probe.val[0], False, None)


def make_field(specs: Sequence[TrialSpec], probe: Candidate, judge: Judge, settings: Mapping[str, Any]) -> Field:
    """All that races."""
    ways: dict[Way, dict[tuple[float, int], TrialSpec]] = {}
    for spec in specs:
        ways.setdefault((spec.plan, spec.variant), {})[spec.learning_rate, spec.seed] = spec
    return Field(ways, probe, judge, settings)


def way_name(way: Way) -> str:
    """In the words of the report."""
    plan, variant = way
    return label_of(plan.tap, plan.freeze_depth, plan.trainable_stages, plan.leaves, variant)


def lay_race(specs: Sequence[TrialSpec], config: Config, classes: int, study: StudyPaths) -> Field:
    """All that races, with the linear classifier that folds chose. classes: how many."""
    judge, settings = config.judge, race_settings(config, classes)
    surveyed = read_survey(study)
    row = next(row for row in surveyed["probes"] if row["tap"] == surveyed["chosen"])
    answers = read_predictions(study.probe(row["tap"]))["val"]
    name, cost = describe_probe(row["tap"]), row["cost"]["flops_per_example"]
    probe = Candidate(name, row["tap"], row["stage_index"] + 1, 0, cost, [answers], [])
    weights = split_weights("val", answers.groups, judge.resamples)
    return make_field(specs, probe, Judge(settings["metric"], judge.margin, judge.confidence, weights), settings)


def race_settings(config: Config, classes: int) -> dict[str, Any]:
    """How the race judges, as race.json keeps it."""
    judge = config.judge
    metric = deciding_metric(judge.metric, classes)
    return {"metric": metric, "margin": judge.margin, "confidence": judge.confidence, "resamples": judge.resamples}
