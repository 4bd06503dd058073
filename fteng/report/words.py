"""Numbers and findings in words: what the page says, in one place. Pure functions of the summary."""

from collections.abc import Mapping, Sequence
from typing import Any

from fteng.analysis.metrics import METRICS

UNDEFINED = "undefined"


def metric_name(metric: str) -> str:
    """`balanced_accuracy` as it stands in a sentence."""
    return METRICS[metric].label if metric in METRICS else metric.replace("_", " ")


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value is the better one."""
    return metric in METRICS and not METRICS[metric].higher_is_better


def capital(text: str) -> str:
    """The first letter large, the rest as it is."""
    return text[:1].upper() + text[1:]


def weights(of: Mapping[str, Any]) -> str:
    """What the network started from."""
    if of["sha256"].startswith("random:"):
        return "random weights, not pretrained"
    return f"pretrained weights ({of['source']}, sha256 {of['sha256'][:16]}…)"


def score(value: float | None, digits: int = 3) -> str:
    """A metric's value; None is `undefined`, never 0."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def difference(row: Mapping[str, Any]) -> str:
    """`−0.050 [−0.085, −0.015]` of a row with `difference`, `low` and `high`; always with its sign."""

    def signed(value: float) -> str:
        return f"{value:+.3f}".replace("-", "−")

    if row["difference"] is None:
        return UNDEFINED
    if row["low"] is None or row["high"] is None:
        return signed(row["difference"])
    return f"{signed(row['difference'])} [{signed(row['low'])}, {signed(row['high'])}]"


def interval(estimate: Mapping[str, float | None] | None, digits: int = 3) -> str:
    """`0.951 [0.932, 0.968]`, `0.951` without bounds, or `undefined`."""
    if estimate is None or estimate["value"] is None:
        return UNDEFINED
    if estimate["low"] is None or estimate["high"] is None:
        return score(estimate["value"], digits)
    return f"{score(estimate['value'], digits)} [{score(estimate['low'], digits)}, {score(estimate['high'], digits)}]"


def quantity(value: float | None, unit: str = "") -> str:
    """Three figures and a decimal prefix: 1,640,000,000 is `1.64 G`."""
    if value is None:
        return UNDEFINED
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            scaled = value / factor
            return f"{scaled:.{_decimals(scaled)}f} {prefix}{unit}"
    text = f"{value:.0f}" if value == int(value) else f"{value:.{_decimals(value)}f}"
    return f"{text} {unit}".rstrip()


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2


def gibibytes(count: int) -> str:
    """Of memory."""
    return f"{count / 2**30:.1f} GiB"


def duration(seconds: float | None) -> str:
    """`0.4 s`, `41 s`, `23 min 11 s`, `3 h 5 min`."""
    if seconds is None:
        return UNDEFINED
    if 0 < seconds < 0.05:
        return "< 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def p_value(p: float | None) -> str:
    """Three decimals; below that only the bound."""
    return UNDEFINED if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(count: float, one: str, many: str = "") -> str:
    """`1 image`, `1,204 images`."""
    return f"{count:,.0f} {one if count == 1 else many or one + 's'}"


def count(images: int, groups: int | None, kind: str = "") -> str:
    """`539 test images in 210 groups`; without groups where every image is its own, or none are known."""
    text = number(images, f"{kind} image".strip())
    return text if groups in (None, images) else f"{text} in {number(groups, 'group')}"


def plan(freeze_depth: int | None, tap: str, stages: Sequence[str], trained: Sequence[str], way: str = "") -> str:
    """What to do, as an imperative without a full stop: `Freeze the first 12 of 18 stages and tune the rest`."""
    upto = stages.index(tap) + 1
    dropped = "" if upto == len(stages) else f"drop the {number(len(stages) - upto, 'stage')} behind it"
    if freeze_depth is not None and freeze_depth >= upto:
        text = f"Tune no stage; fit a linear classifier on the output of {tap}" + f" and {dropped}" * bool(dropped)
        return text + f" ({way})" * bool(way)
    if freeze_depth is None:
        text = f"Tune only {', '.join(trained)}"
    elif freeze_depth == 0:
        text = f"Tune all {upto} stages"
    else:
        text = f"Freeze the first {f'{freeze_depth} ' if freeze_depth > 1 else ''}of {upto} stages and tune the rest"
    if way:
        text += f" ({way})"
    return f"Read the output of {tap}, {dropped}, and {text[0].lower()}{text[1:]}" if dropped else text


def depth_name(freeze_depth: int | None, tap: str, stages: Sequence[str], label: str = "") -> str:
    """A short name of a plan in a table or at an axis: `12 (up to block11)`, `0 (all tuned)`, `18 (linear probe)`."""
    if freeze_depth is None:
        return label or "set of stages"
    if freeze_depth == 0:
        return "0 (all tuned)"
    if freeze_depth > stages.index(tap):
        return f"{freeze_depth} (linear probe)"
    return f"{freeze_depth} (up to {stages[freeze_depth - 1]})"


def figure(value: float | None) -> str:
    """Three digits of a number of any size."""
    return UNDEFINED if value is None else f"{value:.3g}".replace("-", "−")
