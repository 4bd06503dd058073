"""The audit of a study: what every trial proved, and what the records of the whole say."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fteng.paths import StudyPaths
from fteng.results import read_images


def of_trials(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each check over all finished trials: passed in every one, and its largest value."""
    checks: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for check in result["audit"]:
            checks.setdefault(check["check"], []).append(check)
    rows = []
    for name, found in checks.items():
        verdicts = Counter(check["passed"] for check in found)
        worst = max(found, key=lambda check: (check["passed"] is False, check["value"]))
        passed = None if verdicts[None] == len(found) else verdicts[False] == 0
        judged = len(found) - verdicts[None]
        detail = f"{verdicts[True]} of {judged} trials pass; the largest: {worst['detail']}"
        detail = detail if judged else f"does not apply to any of {len(found)} trials: {worst['detail']}"
        rows.append({"check": name, "passed": passed, "value": worst["value"], "detail": detail})
    return rows


def of_versions(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A study may be continued after an update; the same bits can then not be promised."""
    made_by = Counter(", ".join(f"{name} {version}" for name, version in result["provenance"].items()) for result in results)
    if not made_by:
        return []
    detail = "; ".join(f"{count} trials by {what}" for what, count in made_by.most_common())
    return [
        {"check": "all trials ran under the same versions", "passed": len(made_by) == 1, "value": len(made_by), "detail": detail}
    ]


def of_costs(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For the reader to weigh: how far the seconds that were predicted before each trial lie from those it took."""
    done = [result["cost"] for result in results if result["status"] == "done"]
    # The walk to the boundary is the same measurement on both sides: it would flatter.
    steps = [(cost["predicted_seconds"] - cost["prefix_seconds"], cost["seconds"] - cost["prefix_seconds"]) for cost in done]
    off = sorted(abs(predicted / taken - 1) for predicted, taken in steps if taken > 0)
    if not off:
        return []
    total = sum(predicted for predicted, _ in steps), sum(taken for _, taken in steps)
    sums = f"{total[0]:,.0f} s predicted for the steps of {len(done)} trials, {total[1]:,.0f} s taken"
    detail = f"{sums}; the largest error of one: {off[-1]:.0%}"
    return [{"check": "median error of a trial's predicted seconds", "passed": None, "value": off[len(off) // 2], "detail": detail}]


def of_probes(probes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For the reader to weigh: no failure, but a better strength may lie beyond the list, or a fit stopped early."""
    edge = [row["tap"] for row in probes if row["l2_at_edge"]]
    worst = max(row["relative_gradient"] for row in probes)
    detail = f"at the edge: {', '.join(edge) or 'none'}; largest gradient left, relative to the start: {worst:.1e}"
    return [{"check": "probes whose L2 strength is the first or last tried", "passed": None, "value": len(edge), "detail": detail}]


def of_splits(study: StudyPaths) -> list[dict[str, Any]]:
    """Read from the images' own table, not from the code that split them."""
    if not study.images.exists():
        return []
    images = read_images(study.images)
    splits_of: dict[str, set[str]] = {}
    for group, split in zip(images["group"].tolist(), images["split"].tolist(), strict=True):
        splits_of.setdefault(group, set()).add(split)
    cut = sorted(group for group, splits in splits_of.items() if len(splits) > 1)
    detail = f"{len(splits_of)} groups of {len(images['id'])} images" + (f"; cut: {', '.join(cut[:5])}" if cut else "")
    return [{"check": "no group stands on both sides of a split", "passed": not cut, "value": len(cut), "detail": detail}]
