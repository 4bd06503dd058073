"""After the sweep: whether each score ranked the depths, what each advice would have cost, and what it would have saved."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau

from fteng.analysis.metrics import METRICS

# A line through fewer depths ranks nothing.
FEWEST_DEPTHS = 3
_HOW = (
    "A score of a stage is that of the freeze depth which hands this stage's features on; depth 0 hands on the images and has"
    " none. RGN of a depth is its mean over the stages that train; a distance counts negatively. Tau is Kendall's, variant b; its"
    " interval is from resampled test images and so says nothing of another split, another seed or other depths."
)


class Measurement(NamedTuple):
    """One plan that was measured. value, val: the metric on test and on validation; draws: (r,) the metric on resampled test
    images, the same for every plan; tuned: its stages behind the depth train, or nothing does; seconds: of all its trials."""

    tap: str
    freeze_depth: int
    tuned: bool
    label: str
    value: float
    val: float | None
    draws: Float[np.ndarray, "r"]
    seconds: float


def grade(
    assessment: Mapping[str, Any],
    measured: Sequence[Measurement],
    sweep_seconds: float,
    confidence: float = 0.95,
    recommended: str = "",
) -> dict[str, Any]:
    """`scores`: tau of each, and the regret of following it; `advice`: regret and seconds saved of each advice.

    measured: plans that train all leaves of a prefix's rest in the usual way, and linear classifiers on taps; sweep_seconds: of
    all trials; confidence: level of all intervals. Regret is in points of the metric (100 = all of it) on test against the best
    plan that was measured there, which is a little too good for all alike; `against_sweep` against the plan of the label
    `recommended`, or, where no advice speaks of that, against the best on validation of those that were trained.
    """
    metric = assessment["metric"]
    sign = 1 if METRICS[metric].higher_is_better else -1
    stages = list(assessment["stages"])
    if not measured:
        reason = "no plan has a score on test yet"
        return {"metric": metric, "confidence": confidence, "how": _HOW, "reason": reason, "scores": [], "advice": []}
    sweep = _Sweep(list(measured), sign, stages, sweep_seconds, confidence, recommended)
    scores = [_graded(score, sweep) for score in _with_distances(assessment)]
    ours = assessment["advice"]["ours"]
    if ours["ranking"]:
        scores.append(_graded_ours(ours["ranking"], sweep))
    advice = [sweep.follow(name, label, plan) for name, label, plan in _advices(assessment, scores, stages)]
    return {
        "metric": metric,
        "confidence": confidence,
        "how": _HOW,
        "reason": "",
        "depths": sorted(row.freeze_depth for row in sweep.curve),
        "best": sweep.named(sweep.best),
        "swept": sweep.named(sweep.swept),
        "sweep_seconds": sweep_seconds,
        "curve": [{"freeze_depth": row.freeze_depth, "value": row.value} for row in sweep.curve],
        "scores": scores,
        "advice": [*advice, sweep.random()],
    }


class _Sweep:
    """The measured plans, the curve they make, and the best of them."""

    def __init__(
        self, measured: list[Measurement], sign: int, stages: list[str], seconds: float, confidence: float, recommended: str
    ) -> None:
        self.confidence = confidence
        self.measured, self.sign, self.stages, self.seconds = measured, sign, stages, seconds
        last = [row for row in measured if row.tap == stages[-1]]
        tuned = [row for row in last if row.tuned]
        # Of the two linear classifiers on the last tap, the solved one and the one trained by steps, the better on validation.
        frozen = sorted((row for row in last if not row.tuned), key=lambda row: -np.inf if row.val is None else sign * row.val)
        self.curve = sorted([*tuned, *frozen[-1:]], key=lambda row: row.freeze_depth)
        self.best = max(measured, key=lambda row: sign * row.value)
        known = [row for row in tuned if row.val is not None] or measured
        trained = max(known, key=lambda row: sign * (row.val if row.val is not None else row.value))
        self.swept = next((row for row in measured if row.label == recommended), trained)

    def nearest(self, plan: Mapping[str, Any]) -> Measurement | None:
        """The measured plan that comes nearest: of the same kind; equally near, the one that trains less."""
        kind = [row for row in self.measured if row.tuned is plan["tuned"]]
        # Where nothing of the kind was measured there is nothing to follow.
        kind = [row for row in kind if not plan["tuned"] or row.tap == plan["tap"]]
        key = lambda row: (abs(row.freeze_depth - plan["freeze_depth"]), -row.freeze_depth, -self.sign * (row.val or 0.0))  # noqa: E731
        return min(kind, key=key, default=None)

    def follow(self, name: str, label: str, plan: Mapping[str, Any] | None) -> dict[str, Any]:
        """What following an advice would have brought."""
        entry: dict[str, Any] = {"name": name, "label": label, "plan": None if plan is None else dict(plan), "measured": None}
        nothing = {"exact": None, "regret": None, "low": None, "high": None, "against_sweep": None, "seconds_saved": None}
        row = None if plan is None else self.nearest(plan)
        if plan is None or row is None:
            return entry | nothing | {"reason": "it says nothing here" if plan is None else "no plan of its kind was measured"}
        lost = 100 * self.sign * (self.best.draws - row.draws)
        low, high = _bounds(lost, self.confidence)
        return entry | {
            "measured": self.named(row),
            "exact": row.freeze_depth == plan["freeze_depth"],
            "regret": 100 * self.sign * (self.best.value - row.value),
            "low": low,
            "high": high,
            "against_sweep": 100 * self.sign * (self.swept.value - row.value),
            "seconds_saved": self.seconds - row.seconds if row.tuned else self.seconds,
            "reason": "",
        }

    def random(self) -> dict[str, Any]:
        """A plan drawn from those that were measured: what it loses and saves on average."""
        lost = [100 * self.sign * (self.best.value - row.value) for row in self.measured]
        swept = [100 * self.sign * (self.swept.value - row.value) for row in self.measured]
        saved = [self.seconds - (row.seconds if row.tuned else 0.0) for row in self.measured]
        draws = np.mean([100 * self.sign * (self.best.draws - row.draws) for row in self.measured], axis=0)
        low, high = _bounds(draws, self.confidence)
        numbers = {"regret": float(np.mean(lost)), "low": low, "high": high, "against_sweep": float(np.mean(swept))}
        numbers["seconds_saved"] = float(np.mean(saved))
        about = {"plan": None, "measured": None, "exact": None, "reason": f"the mean over {len(lost)} measured plans"}
        return {"name": "random", "label": "a measured plan at random"} | about | numbers

    def named(self, row: Measurement) -> dict[str, Any]:
        return {name: getattr(row, name) for name in ("tap", "freeze_depth", "tuned", "label", "value")}

    def tau(self, at: Mapping[int, float]) -> dict[str, Any]:
        """Kendall's tau of a score by depth with the curve, over the depths that have both."""
        rows = [row for row in self.curve if row.freeze_depth in at]
        nothing = {"tau": None, "low": None, "high": None, "p": None, "depths": len(rows)}
        if len(rows) < FEWEST_DEPTHS:
            return nothing | {"reason": f"needs {FEWEST_DEPTHS} measured depths with a score, there are {len(rows)}"}
        predicted = np.array([at[row.freeze_depth] for row in rows])
        curve = np.array([self.sign * row.value for row in rows])
        found = float(kendall(predicted, curve[None])[0])
        if not np.isfinite(found):
            return nothing | {"reason": "the score, or the metric, is the same at every depth"}
        taus = kendall(predicted, np.stack([self.sign * row.draws for row in rows], axis=1))
        low, high = _bounds(taus, self.confidence)
        numbers = {"tau": found, "low": low, "high": high, "p": float(np.asarray(kendalltau(predicted, curve))[1])}
        return numbers | {"depths": len(rows), "reason": ""}


def kendall(predicted: Float[np.ndarray, "d"], curves: Float[np.ndarray, "r d"]) -> Float[np.ndarray, "r"]:
    """Kendall's tau-b (Kendall 1945) of the prediction with each curve; nan where one is the same everywhere or not finite."""
    first, second = np.triu_indices(len(predicted), 1)
    own = np.sign(predicted[first] - predicted[second])
    each = np.sign(curves[:, first] - curves[:, second])
    pairs = np.sqrt((own**2).sum() * (each**2).sum(axis=1))
    return np.divide(each @ own, pairs, out=np.full(len(curves), np.nan), where=pairs > 0)


def _with_distances(assessment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every score of the record with its value by freeze depth, distances to the source among them."""
    entries = []
    stages = len(assessment["stages"])
    for score in assessment["scores"]:
        values = [row["value"] for row in score["rows"]]
        if score["name"] == "rgn":
            behind = {depth: [v for v in values[depth:] if v is not None] for depth in range(stages)}
            at = {depth: float(np.mean(found)) for depth, found in behind.items() if found}
        else:
            at = {index + 1: value for index, value in enumerate(values) if value is not None}
        entries.append({"name": score["name"], "label": score["label"], "at": at})
    for name, label in (("mean_shift", "nearness in mean"), ("diagonal_frechet", "nearness, diagonal Frechet")):
        values = [row[name]["value"] for row in assessment["profile"]["rows"]]
        at = {index + 1: -value for index, value in enumerate(values) if value is not None}
        entries.append({"name": name, "label": label, "at": at})
    # What needs no data: a score that ranks no better than this has seen nothing in them.
    entries.append(
        {"name": "depth", "label": "tuning more, whatever the data", "at": {depth: -float(depth) for depth in range(stages + 1)}}
    )
    return entries


def _graded(score: Mapping[str, Any], sweep: _Sweep) -> dict[str, Any]:
    at = score["at"]
    by_depth = [{"freeze_depth": depth, "value": value} for depth, value in at.items()]
    # The depth with the best score; of equal ones the deepest frozen.
    best = max(at, key=lambda depth: (at[depth], depth), default=None)
    return {"name": score["name"], "label": score["label"], "by_depth": by_depth, "best_depth": best} | sweep.tau(at)


def _graded_ours(ranking: Sequence[Mapping[str, Any]], sweep: _Sweep) -> dict[str, Any]:
    """Our prediction of the curve of the last tap: tuning from each depth, and the classifier that tunes nothing."""
    on_last = [row for row in ranking if row["tap"] == sweep.stages[-1]]
    at = {row["freeze_depth"]: sweep.sign * row["predicted"] for row in on_last}
    return _graded({"name": "ours", "label": "our prediction", "at": at}, sweep)


def _advices(
    assessment: Mapping[str, Any], scores: Sequence[Mapping[str, Any]], stages: Sequence[str]
) -> list[tuple[str, str, Mapping[str, Any] | None]]:
    """(name, label, plan) of everything that can be followed; a plan has tap, freeze_depth and tuned."""
    last, advice = stages[-1], assessment["advice"]
    told = {name: advice["folklore"][name] for name in ("tap", "freeze_depth", "tuned")}
    every: list[tuple[str, str, Mapping[str, Any] | None]] = [
        ("ours", "ours", advice["ours"]["plan"]),
        ("folklore", f"the folklore ({advice['folklore']['cell']})", told),
        ("probe", "the linear classifier that folds choose", advice["probe"]),
        ("last", "always a linear classifier on the last tap", {"tap": last, "freeze_depth": len(stages), "tuned": False}),
        ("everything", "always tune everything", {"tap": last, "freeze_depth": 0, "tuned": True}),
    ]
    for score in scores:
        depth = score["best_depth"]
        if score["name"] in ("ours", "depth"):
            continue
        plan = None if depth is None else {"tap": last, "freeze_depth": depth, "tuned": depth < len(stages)}
        every.append((score["name"], f"freeze up to the best {score['label']}", plan))
    return every


def _bounds(draws: Float[np.ndarray, "r"], confidence: float) -> tuple[float | None, float | None]:
    """The middle share `confidence` of what is defined; None where less than nine in ten are."""
    defined = draws[np.isfinite(draws)]
    if not len(defined) or len(defined) < 0.9 * len(draws):
        return None, None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
