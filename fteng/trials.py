"""The trials of a study: what each is, its identity, and the list that a config asks for. Imports no jax."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from fteng import paths
from fteng.config import Config, to_dict, undecided
from fteng.errors import UserError
from fteng.freeze.plan import FreezePlan, describe, expand, last_stage, parse_freeze_depth, prefix_plan, stage_set_plan


class Variant(NamedTuple):
    """How a plan is trained where the sweep tries more than one way; the words of each field are those of the config.

    init: what the stages start from, `pretrained`, or a control: `random`, `mean_var`; batch_norm: keep, adapt, batch, batch_all;
    layer_decay: factor on the rate a stage away from the head; unfreezing: at_once, gradual; parent: `ID@STEP` of the trial whose
    weights what trains starts from, empty for those of the start.
    """

    init: str = "pretrained"
    batch_norm: str = "keep"
    layer_decay: float = 1.0
    unfreezing: str = "at_once"
    parent: str = ""

    @property
    def start(self) -> str:
        """Which numbers the stages start from: trials with equal starts share features and heads."""
        return f"{self.init}-adapted" if self.batch_norm == "adapt" or self.init != "pretrained" else "pretrained"

    @property
    def label(self) -> str:
        """In words, empty for the usual way."""
        batch_norm = {
            "adapt": "batch norm adapted",
            "batch": "batch norm of trained stages follows the batch",
            "batch_all": "all batch norm follows the batch",
        }
        words = (
            {"random": "control: random weights", "mean_var": "control: redrawn weights"}.get(self.init, ""),
            batch_norm.get(self.batch_norm, ""),
            f"layer decay {self.layer_decay:g}" if self.layer_decay != 1 else "",
            "gradual unfreezing" if self.unfreezing == "gradual" else "",
            "continued from {} at step {}".format(*self.parent.split("@")) if self.parent else "",
        )
        return ", ".join(word for word in words if word)


def label_of(tap: str, freeze_depth: int | None, trainable_stages: Sequence[str], leaves: str, variant: Variant) -> str:
    """A plan and the way it is trained, in the words of the report; arguments as in a record."""
    return ", ".join(part for part in (describe(tap, freeze_depth, trainable_stages, leaves), variant.label) if part)


class TrialSpec(NamedTuple):
    """One training run, by content. `context` is what all trials of the study share, see `study_context`."""

    plan: FreezePlan
    variant: Variant
    learning_rate: float
    seed: int
    context: Mapping[str, Any]

    @property
    def id(self) -> str:
        """A readable head and a digest of the whole content: equal content, equal id, on any machine."""
        # A trial without a parent is the one it was before there were any.
        variant = {name: value for name, value in self.variant._asdict().items() if name != "parent" or value}
        content = {
            "tap": self.plan.tap,
            "trains": list(self.plan.trainable_stages),
            "leaves": self.plan.leaves,
            "variant": variant,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "context": dict(self.context),
        }
        depth = self.plan.freeze_depth
        head = "set" if depth is None else f"depth{depth}"
        ways = (self.variant.init, self.variant.batch_norm, self.variant.unfreezing)
        head += "".join(f"-{way}" for way in ways if way not in ("pretrained", "keep", "at_once"))
        head += "-clone" * bool(self.variant.parent)
        return f"{head}-rate{self.learning_rate:g}-seed{self.seed}-{paths.digest(content)[:10]}"

    def record(self) -> dict[str, Any]:
        """The spec as it stands in study.json and in a result."""
        return {
            "id": self.id,
            "tap": self.plan.tap,
            "freeze_depth": self.plan.freeze_depth,
            "trainable_stages": list(self.plan.trainable_stages),
            "leaves": self.plan.leaves,
            "variant": self.variant._asdict(),
            "learning_rate": self.learning_rate,
            "seed": self.seed,
        }


class TrialWork(NamedTuple):
    """What a trial will take.

    cache: its start and where it enters the network, so trials of one cache share its activations; those of one seed share
    batches too. seconds: of its steps; walk: of bringing every image there, once for all trials of the cache that run together.
    """

    trial: str
    cache: str
    seed: int
    seconds: float
    walk: float


def study_context(config: Config, *, weights_digest: str, data_digest: str, preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """What every trial of a study has in common: network, weights and how those want their images, data and recipe."""
    recipe = {name: value for name, value in to_dict(config)["train"].items() if f"train.{name}" not in undecided()}
    return {
        "backbone": config.backbone.name,
        "weights": weights_digest,
        "preprocess": dict(preprocess),
        "data": data_digest,
        "train": recipe,
    }


def plans(config: Config, stages: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[FreezePlan]:
    """Every freeze plan of the sweep once, the cheapest (deepest frozen) first. Raises UserError on a name that is no stage.

    A freeze depth beyond a tap has no meaning there: such a plan becomes the linear probe of that tap.
    """
    found: dict[FreezePlan, None] = {}
    for tap in config.sweep.taps:
        upto = tuple(stages[: last_stage(tap, stages, groups) + 1])
        for leaves in config.sweep.leaves:
            for text in config.sweep.freeze_depths:
                depth = min(parse_freeze_depth(text, stages, groups), len(upto))
                # With no stage to choose leaves from, `norm` and `bias` are the same probe as `all`.
                found[prefix_plan(upto, depth, "all" if depth == len(upto) else leaves)] = None
            for names in config.sweep.stage_sets:
                chosen = expand(names, stages, groups)
                if not set(chosen) <= set(upto):
                    raise UserError(f"sweep.stage_sets: {'+'.join(names)} reaches beyond the tap {upto[-1]}; drop one of the two")
                found[stage_set_plan(upto, chosen, leaves)] = None
    return sorted(found, key=lambda plan: (len(plan.stages) - plan.boundary, len(plan.stages)))


def variants(config: Config, plan: FreezePlan) -> list[Variant]:
    """Every way of training that makes a difference to the plan, once."""
    found: dict[Variant, None] = {}
    sweep = config.sweep
    for ways in product(sweep.init, sweep.batch_norm, sweep.layer_decays, sweep.unfreezing):
        variant = Variant(*ways)
        if not any(plan.trains):
            # Nothing trains that a decay, an order or a batch could reach.
            follows = variant.batch_norm if variant.batch_norm in ("adapt", "batch_all") else "keep"
            variant = Variant(variant.init, follows)
        if variant.init != "pretrained" and variant.batch_norm == "adapt":
            # Controls have no statistics of their own and are always adapted.
            variant = variant._replace(batch_norm="keep")
        found[variant] = None
    return list(found)


def enumerate_trials(config: Config, planned: Sequence[FreezePlan], context: Mapping[str, Any]) -> Iterator[TrialSpec]:
    """Plan by plan, and way by way, so that trials of one compiled step follow each other; then seed, then rate."""
    for plan in planned:
        for variant in variants(config, plan):
            for seed in config.sweep.seeds:
                for rate in config.sweep.learning_rates:
                    yield TrialSpec(plan, variant, rate, seed, context)
