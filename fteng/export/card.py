"""The model card: what the model is, how good it is on what, and where it ends. Made of the study's records; imports no jax."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fteng import named, paths
from fteng.paths import StudyPaths

if TYPE_CHECKING:
    from fteng.export.check import Agreement
    from fteng.model import Model

_FILES = {
    "README.md": "this card",
    "calibration.json": "the temperature that makes probabilities of logits",
    "labels.json": "the classes, in the order of the probabilities",
    "model.onnx": "the program for ONNX runtimes, one image at a time",
    "model.onnx.data": "its weights",
    "preprocessing.json": "how an image becomes what the program reads",
    "program.stablehlo": "from uint8 pixels to calibrated probabilities, for `jax.export.deserialize`",
    "run.py": "classifies image files with the program, without fteng",
    "weights.safetensors": "the network and its classifier, in its publisher's names",
}


# Of the summary.
_NEEDED = (
    *("experiment", "backbone", "dataset", "weights", "judge", "depth_curve", "recommendation", "trials", "probes", "final"),
    *("subgroups", "audit", "run"),
)


class Card(NamedTuple):
    """What a card is made of. temperature: None where validation gives none; files: in the folder, beside the card; pixels: how far
    run.py's resizing moves a probability."""

    study: StudyPaths
    model: "Model"
    temperature: float | None
    files: Sequence[str]
    checks: Sequence["Agreement"]
    pixels: "Agreement"


def write_card(card: Card) -> str:
    """The card in Markdown; names from data are text, whatever they look like. Raises UserError on a broken summary."""
    anew = f"make it anew: python -m fteng.report {card.study.root}"
    summary = paths.read_record(card.study.summary, *_NEEDED, mend=anew)
    title = summary["experiment"] or f"{summary['backbone']} on {summary['dataset']['name']}"
    parts = [
        f"# {plain(title)}",
        _what(card, summary),
        _use(card),
        _data(summary["dataset"]),
        _scores(card, summary),
        _calibration(card),
        _subgroups(card, summary),
        _limits(card, summary),
        _made(card, summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: object) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(one_line, quote=False))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _what(card: Card, summary: Mapping[str, Any]) -> str:
    model, row = card.model, _row(card, summary)
    how = row["label"] if row else model.name
    recommended = "recommended by the study" if _is_recommended(card, summary) else "not what the study recommends"
    classes = ", ".join(plain(name) for name in model.classes)
    weights = "random weights, not pretrained"
    if not model.source.digest.startswith("random:"):
        weights = f"pretrained weights {plain(summary['weights']['source'])} (sha256 {model.source.digest[:12]})"
    return (
        f"Classifies images as one of {len(model.classes)}: {classes}. {plain(summary['backbone'])} up to stage"
        f" {plain(model.plan.tap)}, {weights}; {plain(how)}, {recommended}."
    )


def _use(card: Card) -> str:
    files = _table(("file", "what it is"), [(f"`{name}`", _FILES[name]) for name in ("README.md", *card.files)])
    return f"""## Use

    pip install jax flatbuffers numpy pillow
    python run.py IMAGE ...

{files}"""


def _data(dataset: Mapping[str, Any]) -> str:
    splits = ("train", "val", "test")
    rows = [[plain(name), *(str(dataset["counts"][split].get(name, 0)) for split in splits)] for name in dataset["classes"]]
    rows.append(["all", *(str(sum(dataset["counts"][split].values())) for split in splits)])
    groups = ", ".join(f"{dataset['groups'][split]} in {split}" for split in splits)
    left_out = f" {len(dataset['left_out'])} files were left out; the study's report says which are images." * bool(
        dataset["left_out"]
    )
    return (
        f"## Data\n\n{plain(dataset['name'])}: images, by class and split.\n\n{_table(('class', *splits), rows)}\n\n"
        f"Groups (such as patients; a split never parts one): {groups}.{left_out} Trained on train, chosen on val, scored on test."
    )


def _scores(card: Card, summary: Mapping[str, Any]) -> str:
    """With intervals where the study has them: of what is recommended every metric, of a row of the depth curve the main ones."""
    row, level = _row(card, summary), f"{100 * summary['judge']['confidence']:g} %"
    if row is None:
        own = [
            *(trial["test"] for trial in summary["trials"] if trial["id"] == card.model.name),
            *(probe["test"] for probe in summary["probes"] if named.of_probe(probe["tap"]) == card.model.name),
        ]
        rows = [(name.replace("_", " "), *_told(value)) for name, value in own[0].items()]
    else:
        found = summary["final"]["metrics"] if _is_recommended(card, summary) else row["test"]
        rows = [(name.replace("_", " "), *_told(one)) for name, one in found.items()]
    seeds = f"\n\nMeans over {row['seeds']} seeds, of which this is one." if row and row["seeds"] > 1 else ""
    images = sum(summary["dataset"]["counts"]["test"].values())
    return f"## Scores on {images} test images\n\n{_table(('metric', 'value', f'{level} interval'), rows)}{seeds}"


def _calibration(card: Card) -> str:
    if card.temperature is None:
        return "## Calibration\n\nNone: validation gives no temperature. Probabilities are the softmax of the logits as they are."
    return (
        f"## Calibration\n\nProbabilities are softmax(logits / {card.temperature:.4g}), the temperature fitted on the validation"
        " images (Guo et al. 2017). They hold for images and class shares like those of the study."
    )


def _subgroups(card: Card, summary: Mapping[str, Any]) -> str:
    if not _is_recommended(card, summary) or not summary["subgroups"]:
        return ""
    parts = ["## Subgroups"]
    for group in summary["subgroups"]:
        rows = [
            (plain(row["level"]), str(row["images"]), _number(row["value"]), _interval(row), plain(row["note"]))
            for row in group["rows"]
        ]
        values = [row["value"] for row in group["rows"] if row["value"] is not None]
        gap = (
            f"Largest gap between levels: {max(values) - min(values):.3f}; with many levels some differ by chance."
            if values
            else ""
        )
        head = (plain(group["attribute"]), "images", group["metric"].replace("_", " "), "interval", "note")
        parts += [_table(head, rows), gap]
    return "\n\n".join(part for part in parts if part)


def _limits(card: Card, summary: Mapping[str, Any]) -> str:
    dataset = summary["dataset"]
    least = min(dataset["groups_of_class"]["test"].values())
    limits = [
        "It knows the classes above and no other: an image of anything else gets one of them all the same. `python -m"
        " fteng.predict` warns of images unlike the training images; this folder does not.",
        f"Its scores hold for images taken like those of {plain(dataset['name'])}; the class with the fewest has {least} test"
        " groups.",
        f"`run.py` resizes with Pillow, the study with a library that rounds otherwise: over {card.pixels.images} test images"
        f" that moved a probability by up to {card.pixels.difference:.1e}.",
        "It is no medical device, and nobody has shown that decisions get better by it.",
    ]
    failed = sorted({check["check"] for check in summary["audit"] if check["passed"] is False})
    if failed:
        limits.append(f"Checks of the study that failed: {', '.join(plain(name) for name in failed)}; its report says how.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _made(card: Card, summary: Mapping[str, Any]) -> str:
    checks = "\n".join(
        f"- `{check.part}`, read back, against the study's model: no probability of {check.images} test images differs by more than"
        f" {check.difference:.1e}"
        for check in card.checks
    )
    run = summary["run"]
    versions = ", ".join(f"{plain(name)} {plain(version)}" for name, version in run["versions"].items())
    command = " ".join(run["command"].split())
    return f"## Made by\n\n    {command}\n\n{versions}; revision {plain(run['git'])}.\n\nChecked at export:\n\n{checks}"


def _row(card: Card, summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of the depth curve, if the model stands in it."""
    return next((row for row in summary["depth_curve"] if card.model.name in _names(row)), None)


def _is_recommended(card: Card, summary: Mapping[str, Any]) -> bool:
    choice = summary["recommendation"]
    return choice is not None and card.model.name in _names(summary["depth_curve"][choice["row"]])


def _names(row: Mapping[str, Any]) -> Sequence[str]:
    return row["trials"] or [named.of_probe(row["tap"])]


def _told(score: Mapping[str, Any] | float | None) -> tuple[str, str]:
    """(value, interval) of a score, with or without one."""
    if isinstance(score, Mapping):
        return _number(score["value"]), _interval(score)
    return _number(score), "not computed"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _interval(one: Mapping[str, Any]) -> str:
    return "undefined" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
