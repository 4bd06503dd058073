"""The sentences of the page: the answer, what each section shows, and what the result does not say."""

from collections.abc import Mapping
from typing import Any

from fteng.analysis.metrics import METRICS
from fteng.freeze.plan import describe_probe
from fteng.report import view, words
from fteng.steer import BY_USER

Summary = Mapping[str, Any]
_WHAT_COSTS_ARE = (
    "Costs are of one trial by itself: its time is that of its steps and of one walk of the images through its frozen stages,"
    " evaluation left out; FLOPs are of one training step, frozen stages included, divided by its images."
)


def answer(summary: Summary) -> dict[str, Any]:
    """The head of the page: the sentence, the reason, how sure, and what stands against it."""
    judge, row = summary["judge"], view.recommended(summary)
    ended, planned = view.ended(summary), len(summary["trials"])
    done = [trial for trial in ended if trial["status"] == "done"]
    far = f"{len(ended)} of {words.number(planned, 'trial')}"
    warnings = []
    broken = [check["check"] for check in summary["audit"] if check["passed"] is False]
    if broken:
        warnings.append(f"Do not rely on this page yet: the audit failed ({'; '.join(broken)}).")
    if row is None:
        state = f"so far {far} ended, {len(done)} with a score; {words.number(len(summary['probes']), 'probe')} done"
        headline = "No recommendation yet: " + (
            "no trial has finished." if not done else "the trials that finished do not allow one."
        )
        return {"headline": headline, "reason": f"The study is under way: {state}.", "sure": "", "warnings": warnings}
    if len(ended) < planned:
        warnings.append(f"The study is not finished: {far} ended. The answer can change.")
    choice = summary["recommendation"]
    metric, n = choice["metric"], sum(summary["dataset"]["counts"].get("test", {}).values())
    what = _imperative(summary, row)
    unit = "images" if summary["dataset"]["groups"].get("test", n) == n else "groups"
    seeds = "" if view.is_probe(row) else f" ({words.number(row['seeds'], 'seed')})"
    estimate = row["test"].get(metric) or {"value": None, "low": None}
    bare = estimate["value"] is not None and estimate["low"] is None
    brackets = (
        f"Brackets: {judge['confidence'] * 100:g} % intervals, their standard error from"
        f" {judge['resamples']:,} bootstrap resamples of the test {unit}{seeds}."
    )
    rare = " of the rarest class" if metric in METRICS and METRICS[metric].by_class else ""
    if bare:
        brackets = (
            f"The score has no interval: the test {unit}{rare} are so few that resamples tell no error, or one"
            f" resample in ten and more has none of them{seeds}. How far it may be off is not known."
        )
    if choice["too_few"]:
        warnings.append(_little_to_choose_by(summary))
    sure = (
        f"{brackets} A plan that trains less counts as not worse when it is shown"
        f" to lose at most {judge['margin']:g} {words.metric_name(metric)} on the validation images."
    )
    # Non-breaking spaces: a number stays with its interval and its unit.
    scored = words.interval(row["test"].get(metric), 2).replace(" ", "\u00a0")
    few = f" (no interval: too few {unit}{rare})" if bare else ""
    tested = f"{words.metric_name(metric)} {scored}{few} on {view.size(summary, 'test')}."
    reason = f"{words.capital(choice['reason'])}{_cheaper(summary, row)}"
    return {"headline": f"{what}: {tested}", "reason": reason, "sure": sure, "warnings": warnings}


def _little_to_choose_by(summary: Summary) -> str:
    """That the choice is hardly more than luck, and what was advised without it."""
    choice = summary["recommendation"]
    worth = words.number(choice["groups"], "independent group")
    text = (
        f"Too few validation images to choose by: {words.metric_name(choice['metric'])} tells there what {worth} would, so which"
        " plan is best is hardly more than luck. Add images, or give more of them to validation."
    )
    said = summary.get("similarity")
    plan = None if said is None else said["advice"]["ours"]["plan"]
    if plan is None:
        return text
    advised = words.plan(plan["freeze_depth"], plan["tap"], summary["stages"], [])
    return f"{text} From the training images alone, before the sweep, the advice was: {advised[0].lower()}{advised[1:]}."


def _cheaper(summary: Summary, row: Mapping[str, Any]) -> str:
    """What a reader short of time would ask next: the closest plan that trains fewer stages and was not shown to be worse."""
    trained, metric = len(row.get("trainable_stages", [])), summary["judge"]["metric"]
    open_ = [
        other
        for other in summary["recommendation"]["alternatives"]
        if other["verdict"] == "unclear"
        and other["difference"] is not None
        and other["score"] is not None
        and len(other["trainable_stages"]) < trained
    ]
    if not open_:
        return ""
    closest = max(open_, key=lambda other: other["difference"])
    what = _imperative(summary, closest)
    return (
        f" Of what trains less this comes closest, and these images cannot tell it from the best: {what[0].lower()}{what[1:]}"
        f". It has {words.score(closest['score'])} {words.metric_name(metric)} on validation."
    )


def _imperative(summary: Summary, row: Mapping[str, Any]) -> str:
    """A way of training as an imperative."""
    trained, way = row.get("trainable_stages", []), view.way(row).removeprefix(", ")
    # Beside the classifier that was solved there may be one that trials fitted.
    stepped = not trained and row["label"] != describe_probe(row["tap"])
    way = ", ".join(part for part in ("trained by steps" * stepped, way) if part)
    return words.plan(row["freeze_depth"], row["tap"], summary["stages"], trained, way)


def of_sections(summary: Summary) -> dict[str, str]:
    """One sentence a section: what there is to see."""
    return {
        "depth": _depth_finding(summary),
        "probes": _probe_finding(summary),
        "profile": _profile_finding(summary),
        "source": _source_finding(summary),
        "cost": _cost_finding(summary),
    }


def _depth_finding(summary: Summary) -> str:
    row, metric = view.recommended(summary), summary["judge"]["metric"]
    if row is None:
        return "No depth has a score yet."
    own = _line(summary, row)
    told = [
        f"{words.score(_value(other, metric))} at freeze depth {view.name(other, summary)}"
        for other in [*own[:1], *own[1:][-1:]]
        if other is not row
    ]
    text = f"On the test images the recommended plan reaches {words.metric_name(metric)} {words.interval(row['test'].get(metric))}"
    return f"{text}; it is {' and '.join(told)}." if told else f"{text}."


def _line(summary: Summary, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What `row` is compared with: its own line of the curve by freeze depth; for a probe, the first line that trials drew, and
    never a control."""
    tuned = [
        other
        for other in view.curve(summary)
        if other["freeze_depth"] is not None and not view.is_probe(other) and not view.is_control(other)
    ]
    name = view.series(tuned[0] if view.is_probe(row) and tuned else row)
    return [other for other in tuned if view.series(other) == name]


def _probe_finding(summary: Summary) -> str:
    metric = summary["judge"]["metric"]
    chosen = next((row for row in summary["depth_curve"] if view.is_probe(row)), None)
    if chosen is None:
        return "No probe has a score yet."
    last = summary["probes"][-1]
    scored = f"{words.metric_name(metric)} on test {words.interval(chosen['test'].get(metric))}"
    text = f"Without any tuning {chosen['tap']} is the tap to use ({scored})"
    return (
        f"{text}: it is the last."
        if chosen["tap"] == last["tap"]
        else f"{text}; the last one, {last['tap']}, reaches {words.interval(last['test'].get(metric))}."
    )


def _profile_finding(summary: Summary) -> str:
    known = [row for row in summary["profile"] if row["mean_shift"] is not None]
    if not known:
        source = summary["source_profile"]
        return f"There is no source to compare with: {source['reason']}." if source["kind"] == "none" else "Nothing was compared."
    most, least = (choose(known, key=lambda row: row["mean_shift"]) for choose in (max, min))
    return (
        f"The data are furthest from the source in {most['stage']} (mean shift {most['mean_shift']:.2f} source"
        f" standard deviations) and nearest in {least['stage']} ({least['mean_shift']:.2f})."
    )


def _source_finding(summary: Summary) -> str:
    """What the data are compared with, and what that does not cover."""
    source, size = summary["source_profile"], summary["dataset"]["image_size"]
    if source["kind"] == "none":
        return f"To have one, {source['advice']}." if source["advice"] else ""
    if source["kind"] == "batch_norm":
        return (
            "The source is what batch norm keeps in the checkpoint: mean and variance of each channel of its inputs, a running"
            " average over the last batches of pretraining, whose images were sized and augmented in a way of their own; the"
            " figures compare the training images with them, averaged over the channels of a stage."
        )
    about = f"; {source['about']}" if source["about"] else ""
    text = (
        f"The source is {words.number(source['images'], 'image')} ({source['name']}{about}) at {source['image_size']} px under"
        " these weights: mean and variance of each channel of a stage’s output over images and places; the figures compare these"
        " data with them, averaged over the channels. It stands for those images, not for all that the network was pretrained on."
    )
    differ = f" The data are at {size} px: part of the distance is the size."
    return text + differ if size != source["image_size"] else text


def _cost_finding(summary: Summary) -> str:
    row = view.recommended(summary)
    full = next((other for other in _line(summary, row) if other["freeze_depth"] == 0), None) if row else None
    if row is None or full is None or row is full:
        return _WHAT_COSTS_ARE
    told = [
        f"{row['cost'][key] / full['cost'][key]:.2f} of the {text}" if row["cost"][key] else f"none of the {text}"
        for key, text in (("seconds", "time"), ("flops_per_example", "FLOPs"), ("optimizer_bytes", "optimizer memory"))
        if row["cost"].get(key) is not None and full["cost"].get(key)
    ]
    return (
        f"Against tuning everything, the recommended plan takes {', '.join(told)}. {_WHAT_COSTS_ARE}" if told else _WHAT_COSTS_ARE
    )


def _value(row: Mapping[str, Any], metric: str) -> float | None:
    estimate = row["test"].get(metric)
    return None if estimate is None else estimate["value"]


def limits(summary: Summary) -> list[str]:
    """What this result does not say, one sentence each, from the numbers of this study."""
    dataset, judge = summary["dataset"], summary["judge"]
    test, groups = dataset["counts"].get("test", {}), dataset["groups"].get("test", 0)
    images = sum(test.values())
    found = [
        f"One data set ({dataset['name']}), one backbone, one split into train, validation and test. Another camera, site"
        " or time is not covered: the intervals are about new images of the same kind."
    ]
    if test:
        rare = min(test, key=lambda name: test[name])
        text = f"{words.number(images, 'test image')} in {words.number(groups, 'group')}"
        text += f"; the smallest class, {rare}, has {test[rare]:,}."
        if images == groups:
            text += " Every image counts as its own group, so images of one object or person would be taken for independent."
        found.append(text)
    if summary.get("final") and summary.get("subgroups") == []:
        found.append("Nothing is known about subgroups: the images state no sex, age, site or skin type of a few levels.")
    ended, trained = view.ended(summary), view.trained(summary)
    if trained:
        found.append(
            f"{view.seeds(trained)} a setting. The intervals come from resampling images, so luck in training"
            " (batch order, augmentation) shows only in how far the dots of one depth lie apart."
        )
    rates = {trial["learning_rate"] for trial in trained}
    if rates:
        listed = ", ".join(f"{rate:g}" for rate in sorted(rates))
        found.append(
            f"{words.number(len(rates), 'learning rate')} tried ({listed}) with one training length:"
            " a depth that needs another rate or more epochs looks worse than it is."
        )
    depths = sorted({trial["freeze_depth"] for trial in trained if trial["freeze_depth"] is not None})
    if depths:
        every = len(depths) == len(summary["stages"]) + 1
        untried = "no other exists" if every else "nothing is known about the others"
        found.append(f"Freeze depths tried: {', '.join(str(depth) for depth in depths)}; {untried}.")
    short = [trial for trial in ended if trial["status"] in ("stopped", "not run")]
    by_user = sum(trial["note"].startswith(BY_USER) for trial in short)
    if by_user:
        found.append(
            f"{words.number(by_user, 'trial')} of {len(ended)} did not go to the end because whoever ran the study stopped them;"
            " what they had learned by then is no judgement on their depth."
        )
    clones = sum(bool(trial.get("variant", {}).get("parent")) for trial in ended)
    if clones:
        found.append(
            f"{words.number(clones, 'trial')} went on from another trial's weights: steps and cost of such a clone are counted from"
            " there, and it has had more training than the depths beside it."
        )
    raced = len(short) - by_user
    if raced:
        found.append(
            f"{words.number(raced, 'trial')} of {len(ended)} did not go to the end: depths that on validation could not"
            " win, rates and seeds that were not needed. A depth without a point in the curve was given up or not needed."
        )
    lost = sum(trial["status"] in ("diverged", "failed") for trial in ended)
    if lost:
        found.append(
            f"{words.number(lost, 'trial')} diverged or failed and carry no score; the table of trials says which and why."
        )
    lost, unwanted = len(view.images_left_out(dataset)), sum(images for _, images in view.excluded(dataset))
    if lost:
        found.append(f"{words.number(lost, 'image is', 'images are')} left out, by name in the section on data.")
    if unwanted:
        found.append(
            f"{words.number(unwanted, 'image is', 'images are')} left out by the rules of the config, see the section on data."
        )
    found.append(
        f"The choice was made on validation by {words.metric_name(judge['metric'])}; no test score took part in it."
        " Choosing again by the test scores of this page would make them too good."
    )
    return found
