"""The recommended plan on the test images: every metric, calibration and subgroups, as rows and sentences for the template."""

from collections.abc import Mapping, Sequence
from typing import Any

from fteng.report import view, words

Summary = Mapping[str, Any]
_ATTRIBUTES = {"sex": "Sex", "age": "Age", "site": "Body site", "skin_type": "Skin type"}


def finding(summary: Summary) -> str:
    """What the table of all metrics rests on, and what its words mean with these classes."""
    final, judge = summary["final"], summary["judge"]
    text = f"The recommended plan on {words.count(final['images'], final['groups'], 'test')}"
    text += f", mean of {words.number(final['seeds'], 'seed')}" * (final["seeds"] > 1)
    unit = "images" if final["groups"] == final["images"] else "groups"
    text += f". Brackets: {judge['confidence'] * 100:g} % intervals, their standard error from"
    text += f" {judge['resamples']:,} bootstrap resamples of the {unit}."
    classes = summary["dataset"]["classes"]
    if len(classes) == 2:
        return (
            f"{text} The positive class is {classes[1]}, the last by the alphabet: sensitivity is the share of {classes[1]} that is"
            f" found, specificity the share of {classes[0]}."
        )
    return f"{text} ROC-AUC and average precision set each class against the rest and give every class the same weight."


def metric_rows(summary: Summary) -> list[dict[str, Any]]:
    """Every metric, the one that decided first."""
    final, decides = summary["final"], summary["judge"]["metric"]
    return [
        {
            "name": words.capital(final["labels"].get(metric) or words.metric_name(metric)),
            "decides": metric == decides,
            "lower": words.lower_is_better(metric),
            "text": words.interval(final["metrics"][metric]),
        }
        for metric in sorted(final["metrics"], key=lambda metric: metric != decides)
    ]


def calibration_finding(summary: Summary) -> str:
    """Whether the network is too sure of itself, and what the temperature does about it on test."""
    found = summary["calibration"]
    temperature, before, after = found["temperature"], found["before"]["ece"], found["after"]
    if temperature is None or after is None:
        return f"No temperature could be fitted on the validation images: {_no_temperature(summary)}."
    if round(temperature, 2) == 1:
        sure = "the network is as sure of itself as it should be"
    else:
        sure = "the network is too sure of itself" if temperature > 1 else "the network is less sure of itself than it could be"
    text = f"The temperature fitted on the validation images is {temperature:.2f}: {sure}."
    if before is None or after["ece"] is None:
        return text
    first, then = words.score(before), words.score(after["ece"])
    # As far as the numbers shown tell.
    change = f"stays at {first}" if first == then else f"{'falls' if after['ece'] < before else 'rises'} from {first} to {then}"
    return (
        f"{text} Dividing the logits by it, the {words.metric_name('ece')} on {words.number(found['images'], 'test image')}"
        f" {change}; the order of the answers does not change."
    )


def _no_temperature(summary: Summary) -> str:
    row = view.recommended(summary)
    accuracy = None if row is None else (row["val"].get("accuracy") or {}).get("value")
    if accuracy == 1:
        return "every one is classified right, so a surer network would always look better"
    return (
        "there is none where every image is classified right, where the true class does not score above the others"
        " on average, or where a score is not a finite number"
    )


def calibration_rows(summary: Summary) -> list[tuple[str, list[str]]]:
    """Each measure of calibration: before, and after the temperature if there is one."""
    found = summary["calibration"]
    states = [state for state in (found["before"], found["after"]) if state is not None]
    return [(words.capital(words.metric_name(key)), [words.score(state[key]) for state in states]) for key in found["before"]]


def bins_caption(summary: Summary) -> str:
    """What a dot of the reliability diagram is."""
    found, classes = summary["calibration"], summary["dataset"]["classes"]
    sizes = [cell["images"] for cell in found["bins_before"] if cell["images"]]
    many = f"{min(sizes):,} to {max(sizes):,}" if min(sizes) < max(sizes) else f"{sizes[0]:,}"
    said = f"The probability of {classes[1]}" if len(classes) == 2 else "The probability of the answer given"
    several = summary.get("final") and summary["final"]["seeds"] > 1
    return (
        f"{said} against how often it came true{', for the first seed' if several else ''}. A dot stands for {many} of"
        f" {words.number(found['images'], 'test image')}. On the dashed line forecasts mean what they say; below it they are"
        " too high."
    )


def subgroup_tables(summary: Summary) -> list[dict[str, Any]]:
    """A table an attribute; the rarest class of a level says how much its value rests on."""
    classes = summary["dataset"]["classes"]
    return [
        {
            "name": _ATTRIBUTES.get(table["attribute"], words.capital(table["attribute"].replace("_", " "))),
            "metric": words.capital(words.metric_name(table["metric"])),
            "rows": [_subgroup(row, classes) for row in table["rows"]],
        }
        for table in summary["subgroups"]
    ]


def _subgroup(row: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    rarest = min(zip(row["classes"], classes, strict=False), default=None)
    return {
        "level": row["level"],
        "images": row["images"],
        "groups": row["groups"],
        "rarest": f"{rarest[0]:,} {rarest[1]}" if rarest else "–",
        # The note says why there is no value; "undefined" beside it would say it twice.
        "text": "" if row["value"] is None and row["note"] else words.interval(row),
        "note": row["note"],
    }
