"""Several work directories -> the numbers of one page that sets their studies side by side."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fteng import paths
from fteng.analysis.between import Answered, every_couple
from fteng.analysis.metrics import is_finite
from fteng.errors import UserError
from fteng.report import compare_checks, view
from fteng.results import Predictions, read_predictions

Summary = Mapping[str, Any]


class Study(NamedTuple):
    """One study. link: of its own page, seen from the page to be made, or empty; answers: of what it recommends to its test
    images, one a seed, in the order of the images' names; none where nothing is recommended yet."""

    name: str
    link: str
    summary: dict[str, Any]
    answers: list[Predictions]


def read_studies(workdirs: Sequence[Path], out: Path) -> list[Study]:
    """The studies of these work directories, finished or not. Raises UserError, in a line for each folder that is none."""
    missing = [workdir for workdir in workdirs if not (workdir / "study.json").is_file()]
    if missing:
        raise UserError(
            "\n".join(
                f"no study in {workdir}: study.json is missing; give the --workdir of a run of python -m fteng.main"
                for workdir in missing
            )
        )
    twice = [str(workdir) for workdir, count in Counter(path.resolve() for path in workdirs).items() if count > 1]
    if twice:
        raise UserError(f"given twice: {', '.join(twice)}; name each study once")
    studies, broken = [], []
    for workdir, name in zip(workdirs, _names(workdirs), strict=True):
        try:
            studies.append(_read(workdir, name, out))
        except UserError as error:
            broken.append(f"{workdir}: {error}")
    if broken:
        raise UserError("\n".join(broken))
    return studies


def compare(studies: Sequence[Study]) -> dict[str, Any]:
    """All numbers of the page. Every score is in the metric that decides in most of the studies; its interval is at the level of
    its own study, and pairs are tested at the level of most of them."""
    summaries = [study.summary for study in studies]
    metric = Counter(summary["judge"]["metric"] for summary in summaries).most_common(1)[0][0]
    confidence = Counter(summary["judge"]["confidence"] for summary in summaries).most_common(1)[0][0]
    resamples = max(summary["judge"]["resamples"] for summary in summaries)
    models = [Answered(study.answers, _images(study), tuple(study.summary["dataset"]["classes"])) for study in studies]
    pairs = every_couple(models, metric, resamples, confidence)
    for pair in pairs:
        pair["shared_images"] = _shared(studies[pair["first"]], studies[pair["second"]])
    return {
        "metric": metric,
        "confidence": confidence,
        "resamples": resamples,
        "studies": [_told(study, metric) for study in studies],
        "pairs": pairs,
        "warnings": compare_checks.warnings([study.name for study in studies], summaries, metric)
        + compare_checks.other_pixels([study.name for study in studies], summaries, [model.images for model in models]),
        "settings": compare_checks.settings(summaries),
    }


def _names(workdirs: Sequence[Path]) -> list[str]:
    """The folder's name, with as many of its parents as tell it from the others."""
    parts = [workdir.resolve().parts for workdir in workdirs]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(workdir.resolve()) for workdir in workdirs]


def _read(workdir: Path, name: str, out: Path) -> Study:
    # Making a summary resamples every plan again; the one beside a page that is up to date need not be made.
    from fteng import summary as summaries

    files = paths.StudyPaths(workdir)
    found = summaries.current(files) or summaries.collect(workdir)
    page = files.page
    link = Path(os.path.relpath(page, out)).as_posix() if page.exists() else ""
    return Study(name, link, found, _answers(files, view.recommended(found)))


def _answers(files: paths.StudyPaths, row: Mapping[str, Any] | None) -> list[Predictions]:
    if row is None:
        return []
    trials = [files.trial(name).predictions for name in row["trials"]]
    found = [read_predictions(path)["test"] for path in trials or [files.probe(row["tap"])]]
    return [_by_name(answers) for answers in found if is_finite(answers)]


def _by_name(answers: Predictions) -> Predictions:
    order = np.argsort(answers.ids, kind="stable")
    return Predictions(*(column[order] for column in answers))


def _images(study: Study) -> str:
    """Equal for two studies that were tested on the same images: the same names, classes and groups from the same place. Their
    sizes in pixels may differ, and so may what was trained on."""
    data = study.summary["run"]["config"]["data"]
    if not study.answers:
        return study.summary["dataset"]["digest"]
    answers = study.answers[0]
    place = [data.get(name) for name in ("source", "path", "name")]
    return paths.digest([place, answers.ids.tolist(), answers.groups.tolist(), answers.labels.tolist()])


def _shared(one: Study, other: Study) -> int | None:
    """How many test images two studies of one data set share; None where their data have nothing to do with each other."""
    data = [study.summary["run"]["config"]["data"] for study in (one, other)]
    if not one.answers or not other.answers or any(data[0].get(name) != data[1].get(name) for name in ("source", "path", "name")):
        return None
    return len(set(one.answers[0].ids.tolist()) & set(other.answers[0].ids.tolist()))


def _told(study: Study, metric: str) -> dict[str, Any]:
    """What the page says of one study."""
    summary = study.summary
    dataset, run = summary["dataset"], summary["run"]
    images = {split: sum(counts.values()) for split, counts in dataset["counts"].items()}
    said = summary.get("similarity")
    return {
        "name": study.name,
        "link": study.link,
        "backbone": summary["backbone"],
        "weights": summary["weights"],
        "dataset": {name: dataset[name] for name in ("name", "classes", "image_size", "groups", "digest")} | {"images": images},
        "stages": list(summary["stages"]),
        "metric": summary["judge"]["metric"],
        "confidence": summary["judge"]["confidence"],
        "chance": summary["chance"].get(metric),
        "trials": {"planned": len(summary["trials"]), "ended": len(view.ended(summary))},
        "recommendation": _recommended(summary, metric),
        "curve": _curve(summary, metric),
        "profile": _profile(summary),
        "source": (summary["source_profile"] or {}).get("kind"),
        "first_noticeable": None if said is None else said["profile"]["first_noticeable"],
        "advice": [] if said is None else [_advice(row) for row in said["grade"]["advice"]],
        "advice_metric": None if said is None else said["metric"],
        "advice_confidence": None if said is None else said["grade"].get("confidence", 0.95),
        "run": {name: run[name] for name in ("command", "device", "cpu", "git", "started", "seconds")},
        "fteng": run["versions"].get("fteng"),
    }


def _recommended(summary: Summary, metric: str) -> dict[str, Any] | None:
    row = view.recommended(summary)
    if row is None:
        return None
    stages = len(summary["stages"])
    return {
        "plan": view.name(row, summary),
        "tuned": bool(row["trainable_stages"]),
        "frozen_share": None if row["freeze_depth"] is None else min(row["freeze_depth"], stages) / stages,
        "learning_rate": row["learning_rate"],
        "seeds": row["seeds"],
        "test": row["test"].get(metric),
        "val": row["val"].get(metric),
        "cost": row["cost"],
        "reason": summary["recommendation"]["reason"],
    }


def _curve(summary: Summary, metric: str) -> list[dict[str, Any]]:
    """Plans that freeze a prefix and train the rest in the usual way, read at the tap that most of them have; then the
    chosen probe. frozen_share: of the stages up to the tap."""
    usual = [row for row in view.curve(summary) if row["freeze_depth"] is not None and not view.way(row)]
    tuned = [row for row in usual if not view.is_probe(row)]
    taps = Counter(row["tap"] for row in tuned)
    tap = max(taps, key=lambda name: (taps[name], summary["stages"].index(name)), default=None)
    upto = 0 if tap is None else summary["stages"].index(tap) + 1
    rows = [_point(row, metric, row["freeze_depth"] / upto, False) for row in tuned if row["tap"] == tap]
    probes = [row for row in usual if view.is_probe(row)]
    return rows + [_point(row, metric, row["freeze_depth"] / len(summary["stages"]), True) for row in probes]


def _point(row: Mapping[str, Any], metric: str, share: float, probe: bool) -> dict[str, Any]:
    estimate = row["test"].get(metric)
    return {"frozen_share": share, "freeze_depth": row["freeze_depth"], "label": row["label"], "probe": probe, "test": estimate}


def _profile(summary: Summary) -> list[dict[str, Any]]:
    """Each stage that was profiled; at: where it stands, 0 the first and 1 the last."""
    stages = list(summary["stages"])
    return [
        {"stage": row["stage"], "at": stages.index(row["stage"]) / max(len(stages) - 1, 1)}
        | {name: row[name] for name in ("mean_shift", "log_variance_ratio")}
        for row in summary["profile"]
    ]


def _advice(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("name", "label", "regret", "low", "high", "seconds_saved", "reason")}
    return kept | {"measured": None if row["measured"] is None else row["measured"]["label"]}
