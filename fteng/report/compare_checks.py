"""What of several studies must not be set side by side, and in which settings they differ. Pure functions of their summaries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fteng.report import view, words

Summary = Mapping[str, Any]


def warnings(names: Sequence[str], summaries: Sequence[Summary], metric: str) -> list[str]:
    """One sentence each; empty where everything may be compared."""
    found = []
    others = [name for name, summary in zip(names, summaries, strict=True) if summary["judge"]["metric"] != metric]
    if others:
        found.append(
            f"Other metric: {_listed(others)} chose by another metric than {words.metric_name(metric)}, in which this page shows"
            " all scores; by that metric another plan of theirs may be better."
        )
    questions: tuple[tuple[str, str, Callable[[Summary], Any]], ...] = (
        ("Other classes", "their scores answer different questions and are not tested against each other", _classes),
        ("Other data", "between them a difference may be of the images as well as of the network", _data),
        ("Other margin or confidence", "they would not all have called the same plan not worse", _strictness),
        (
            "Other level of intervals",
            "each score’s interval is at the level of its own study, so that their lengths must not be compared",
            lambda summary: summary["judge"]["confidence"],
        ),
        (
            "Other source profile",
            "their distances have different units",
            lambda summary: (summary["source_profile"] or {}).get("kind"),
        ),
        ("Other version", "their numbers may differ for that alone", _version),
        ("Other machine", "seconds and images/s are not comparable, FLOPs and parameters are", _machine),
    )
    for title, why, asked in questions:
        parts = _parts(names, [asked(summary) for summary in summaries])
        if len(parts) > 1:
            found.append(f"{title}: {' / '.join(_listed(part) for part in parts)}; {why}.")
    found += _splits(names, summaries)
    for name, summary in zip(names, summaries, strict=True):
        waiting = sum(trial["status"] == "waiting" for trial in summary["trials"])
        if summary["recommendation"] is None:
            found.append(f"Nothing to compare: {name} recommends nothing yet.")
        elif waiting:
            found.append(f"Not finished: {name} has {words.number(waiting, 'trial')} to run; its recommendation may change.")
    return found


def other_pixels(names: Sequence[str], summaries: Sequence[Summary], images: Sequence[str]) -> list[str]:
    """Studies that say they read the same images in the same way, and whose data have other digests all the same.

    images: of each study, equal where the names, classes and groups of its test images are.
    """
    found = []
    keys = [(same, _division(summary), _seen(summary)) for same, summary in zip(images, summaries, strict=True)]
    for number, key in enumerate(keys):
        rows = [index for index, other in enumerate(keys) if other == key]
        parts = _parts([names[row] for row in rows], [summaries[row]["dataset"]["digest"] for row in rows])
        if len(parts) > 1 and rows[0] == number:
            found.append(
                f"Other pixels: {' / '.join(_listed(part) for part in parts)} name the same images at the same size, but their data"
                " digests differ: image files, labels or groups were changed in between; their pairs compare answers to images that"
                " may not be the same."
            )
    return found


def _seen(summary: Summary) -> Any:
    """What decides which pixels a network gets of a file."""
    data, how = summary["run"]["config"]["data"], summary["weights"].get("preprocess", {})
    crop = how.get("crop") if data.get("resize") == "weights" else None
    return summary["dataset"]["image_size"], data.get("resize"), how.get("interpolation"), crop


def settings(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Keys of the config that are not the same in all studies: key, values (one a study, a dash where it has no such key)."""
    flat = [dict(view.flat(summary["run"]["config"])) for summary in summaries]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [{"key": key, "values": [str(one.get(key, "–")) for one in flat]} for key in keys]
    return [row for row in rows if len(set(row["values"])) > 1]


def _splits(names: Sequence[str], summaries: Sequence[Summary]) -> list[str]:
    """Studies of one data set at one size whose images are divided otherwise."""
    found = []
    keys = [(_data(summary), _classes(summary)) for summary in summaries]
    for key in dict.fromkeys(keys):
        rows = [index for index, other in enumerate(keys) if other == key]
        parts = _parts([names[row] for row in rows], [_division(summaries[row]) for row in rows])
        if len(parts) > 1:
            found.append(
                f"Other images or another split of {key[0][2]}: {' / '.join(_listed(part) for part in parts)}; those with other"
                " test images are compared unpaired."
            )
    return found


def _division(summary: Summary) -> Any:
    """What decides which images stand on which side."""
    data = summary["run"]["config"]["data"]
    keys = ("split_seed", "split_by", "val_fraction", "test_fraction", "folds", "fold", "limit", "duplicates")
    return [data.get(key) for key in keys], summary["dataset"]["counts"]


def _classes(summary: Summary) -> Any:
    return tuple(summary["dataset"]["classes"])


def _data(summary: Summary) -> Any:
    data = summary["run"]["config"]["data"]
    return data.get("source"), data.get("path"), summary["dataset"]["name"]


def _strictness(summary: Summary) -> Any:
    return summary["judge"]["margin"], summary["judge"]["confidence"]


def _version(summary: Summary) -> Any:
    return tuple(sorted(summary["run"]["versions"].items())), summary["run"]["git"]


def _machine(summary: Summary) -> Any:
    return summary["run"]["device"], summary["run"]["cpu"]


def _parts(names: Sequence[str], values: Sequence[Any]) -> list[list[str]]:
    """The names, in parts of equal value."""
    parts: list[tuple[Any, list[str]]] = []
    for name, value in zip(names, values, strict=True):
        known = next((part for other, part in parts if other == value), None)
        if known is None:
            parts.append((value, [name]))
        else:
            known.append(name)
    return [part for _, part in parts]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
