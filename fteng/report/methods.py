"""A paragraph on methods, ready to paste, made of what this study did, and the works it rests on."""

from collections.abc import Mapping, Sequence
from typing import Any

from fteng.config import TrainConfig
from fteng.report import view, words
from fteng.report.works import Cited

Summary = Mapping[str, Any]
_BALANCE = {
    "weights": "Classes were weighted equally in the loss.",
    "sampling": "Classes were sampled equally often.",
    "logits": "Logits were adjusted by the class shares of training in the loss.",
}
_BATCH_NORM = {
    "keep": "kept the statistics of pretraining",
    "adapt": "had its statistics computed anew on the training images, and kept those",
    "batch": "followed the batch in the stages that were tuned",
    "batch_all": "followed the batch in all stages",
}
_LEAVES = {"all": "all parameters", "norm": "the normalisation parameters alone", "bias": "the biases alone"}
_CONTROLS = {"random": "random weights", "mean_var": "weights redrawn with each array’s mean and variance"}
_RESIZED = {
    "squash": "Images were resized to",
    "crop": "The centre square of each image was resized to",
    "letterbox": "Images were resized with their proportions kept, and grey bars, to",
    "weights": "The part of each image that the weights’ own evaluation looks at was resized to",
}
_MAPS = {"cam": "zhou2016", "grad_cam": "selvaraju2017", "gradient_input": "shrikumar2017"}


def write(summary: Summary) -> tuple[list[str], str]:
    """(paragraphs, their BibTeX)."""
    cite = Cited()
    paragraphs = [_data(summary), _network(summary, cite), _choice(summary, cite), _statistics(summary, cite), _software(summary)]
    return [text for text in paragraphs if text], cite.bibtex()


def _config(summary: Summary, part: str) -> Mapping[str, Any]:
    return summary["run"]["config"][part]


def _data(summary: Summary) -> str:
    dataset, given = summary["dataset"], _config(summary, "data")
    counts = dataset["counts"]
    total = sum(sum(split.values()) for split in counts.values())
    out = len(view.images_left_out(dataset)) + sum(images for _, images in view.excluded(dataset))
    of_class = {name: sum(split.get(name, 0) for split in counts.values()) for name in dataset["classes"]}
    classes = ", ".join(f"{name} {n:,}" for name, n in list(of_class.items())[:10]) + ", …" * (len(of_class) > 10)
    text = f"We used {words.count(total, sum(dataset['groups'].values()) or None)} of {dataset['name']}"
    text += f" in {words.number(len(of_class), 'class', 'classes')} ({classes})"
    text += f"; {words.number(out, 'further image was', 'further images were')} left out." if out else "."
    parts = " and ".join(
        f"{words.count(sum(counts[split].values()), dataset['groups'].get(split))} for {name}"
        for split, name in (("train", "training"), ("val", "validation"), ("test", "testing"))
        if split in counts
    ).replace(" and ", ", ", 1)
    text += f" They were split into {parts}"
    if view.groups_are_whole(summary) and sum(dataset["groups"].values()) != total:
        text += ", with all images of a group in one split"
    text += (
        f"; the test set is fold {given['fold'] + 1} of {given['folds']}" if given["folds"] else f" (seed {given['split_seed']})"
    )
    text += f". {_RESIZED[given['resize']]} {dataset['image_size']} × {dataset['image_size']} pixels."
    if len(dataset["classes"]) == 2:
        text += f" Sensitivity, average precision and the like count {dataset['classes'][1]} as the positive class."
    return text


def _network(summary: Summary, cite: Cited) -> str:
    recipe, stages = _config(summary, "train"), summary["stages"]
    text = (
        f"The network was {summary['backbone']} with {words.weights(summary['weights'])}, taken as a list of {len(stages)} stages"
        f" from {stages[0]} to {stages[-1]}. A linear classifier was fitted to the pooled output of every stage, its L2 strength"
        " chosen by five folds of the training images that cut no group; the one with the least log loss on images left out"
        " stands for all of them in the comparison of plans"
    )
    if not summary["trials"]:
        return f"{text}."
    # What was done; before anything was, what is planned.
    trials = view.trained(summary) or summary["trials"]
    rates = sorted({row["learning_rate"] for row in trials})
    text += (
        f". In addition {_plans(trials, stages)} for {words.number(recipe['epochs'], 'epoch')} (batches of {recipe['batch_size']}"
        f", {_optimizer(recipe, cite)}, weight decay {recipe['weight_decay']:g}"
        f", peak learning rate {' or '.join(f'{rate:g}' for rate in rates)}, {_schedule(recipe)}"
        f", {view.seeds(trials)}). {_ways(trials, stages)}"
    )
    if recipe["head_init"] == "probe":
        text += f"The head started from the classifier of the frozen network {cite('kumar2022')}. "
    else:
        text += "The head started from zero. "
    text += _batch_norm(summary, trials, recipe)
    text += f"Augmentation: {', '.join(recipe['augment'])}" if recipe["augment"] else "Images were not augmented"
    if recipe["augment"] and recipe["views"]:
        text += f" ({recipe['views']} views of each image, the same for all trials)"
    mixup, smoothing = recipe["mixup"], recipe["label_smoothing"]
    text += f"; images and labels were mixed in pairs (mixup, Beta({mixup:g}, {mixup:g}))" if mixup else ""
    text += f"; labels were smoothed by {smoothing:g}" if smoothing else ""
    if recipe["activations"] != TrainConfig().activations:
        text += f"; outputs of frozen stages were handed on as {recipe['activations']}"
    balance = _BALANCE.get(recipe["balance"], "")
    return f"{text}.{' ' * bool(balance)}{balance}"


def _plans(trials: Sequence[Mapping[str, Any]], stages: Sequence[str]) -> str:
    """What was frozen and what trained, as the beginning of a sentence."""
    tuned = [row for row in trials if row["trainable_stages"]]
    depths = sorted({row["freeze_depth"] for row in tuned if row["freeze_depth"] is not None} - {len(stages)})
    sets = list(dict.fromkeys(tuple(row["trainable_stages"]) for row in tuned if row["freeze_depth"] is None))
    parts = []
    if depths:
        frozen = f"the first {_listed([str(depth) for depth in depths], 'and')} of the stages were frozen and those behind them"
        parts.append(("all stages were" if depths == [0] else frozen) + " tuned together with a linear head")
    if sets:
        named = [" and ".join(names) for names in sets[:3]] + [f"{len(sets) - 3} further sets of stages"] * (len(sets) > 3)
        parts.append(f"{_listed(named, 'or')} alone were tuned together with a linear head")
    if len(tuned) < len(trials):
        parts.append("with all stages frozen a linear head alone was trained by the same recipe")
    return "; ".join(parts) + ", each" * (len(parts) > 1)


def _ways(trials: Sequence[Mapping[str, Any]], stages: Sequence[str]) -> str:
    """What of the sweep departs from the usual way, one sentence each."""
    found = {name: sorted({row["variant"][name] for row in trials}) for name in ("layer_decay", "unfreezing", "init")}
    taps = sorted({row["tap"] for row in trials}, key=stages.index)
    leaves: list[str] = sorted({row["leaves"] for row in trials})
    told = []
    if taps != [stages[-1]]:
        told.append(f"The head read the output of {_listed(taps, 'or')}, and the stages behind it were dropped.")
    if leaves != ["all"]:
        told.append(f"Of the tuned stages {_listed([_LEAVES.get(name, name) for name in leaves], 'or')} trained.")
    if found["layer_decay"] != [1]:
        factors = _listed([f"{factor:g}" for factor in found["layer_decay"]], "or")
        told.append(f"The learning rate fell from stage to stage away from the head by a factor of {factors}.")
    if found["unfreezing"] != ["at_once"]:
        also = ", or all at once" if "at_once" in found["unfreezing"] else ""
        told.append(f"Tuned stages were unfrozen one by one from the head down over the first half of the steps{also}.")
    controls = [_CONTROLS[name] for name in found["init"] if name in _CONTROLS]
    if controls:
        told.append(f"As controls, never recommended, the same plans started from {_listed(controls, 'and')}.")
    clones = sum(bool(row["variant"]["parent"]) for row in trials)
    if clones:
        told.append(f"{words.number(clones, 'trial')} continued from the weights of another.")
    return "".join(f"{sentence} " for sentence in told)


def _batch_norm(summary: Summary, trials: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]) -> str:
    if not summary["weights"]["batch_norm"]:
        return ""
    modes = {row["variant"]["batch_norm"] for row in trials}
    text = f"Batch normalisation {_listed([_BATCH_NORM[mode] for mode in _BATCH_NORM if mode in modes], 'or')}"
    if modes & {"batch", "batch_all"}:
        text += f" (momentum {recipe['bn_momentum']:g})"
    return f"{text}. "


def _schedule(recipe: Mapping[str, Any]) -> str:
    warmup, clip = recipe["warmup_fraction"], recipe["clip_norm"]
    text = f"linear warm-up over {100 * warmup:g} % of the steps, then " if warmup else ""
    if recipe["schedule"] == "cosine":
        text += "cosine schedule"
    else:
        drops = [f"{100 * share:g} %" for share in recipe["drops"]]
        text += f"a tenth of the rate from {_listed(drops, 'and')} of the steps on" if drops else "a constant rate"
    return text + (f", gradients clipped to norm {clip:g}" if clip else "")


def _listed(names: Sequence[str], last: str) -> str:
    """`a, b and c`."""
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _optimizer(recipe: Mapping[str, Any], cite: Cited) -> str:
    if recipe["optimizer"] == "sgd":
        return f"SGD with momentum {recipe['momentum']:g}"
    return f"AdamW {cite('loshchilov2019')}"


def _choice(summary: Summary, cite: Cited) -> str:
    judge, sweep = summary["judge"], _config(summary, "sweep")
    text = "Rate and depth were chosen on the validation images alone"
    if sweep["search"] == "race":
        text += (
            ", in a race: all rates at one depth, others at the rates that were best near them, for as long as they could win, and"
            " the depths, rates and seeds beside what would be recommended"
        )
    margin, level = f"{judge['margin']:g}", f"{judge['confidence'] * 100:g} %"
    scale = "logarithm" if words.lower_is_better(judge["metric"]) else "logit"
    return (
        f"{text}: each plan stood at the rate with the best mean {words.metric_name(judge['metric'])} over its seeds. Of the best"
        f" plan or classifier and all that were shown to lose at most {margin} to it, the one that trains the fewest stages was"
        f" recommended; shown means that the one-sided lower bound of their paired difference to the best, reckoned on the scale of"
        f" the {scale}, lay above −{margin} points of the metric, with the bounds of all holding"
        f" together at {level} {cite('piaggio2012', 'dunnett1955')}. No test image took part in any"
        " choice."
    )


def _statistics(summary: Summary, cite: Cited) -> str:
    judge, dataset = summary["judge"], summary["dataset"]
    alone = dataset["groups"].get("test") == sum(dataset["counts"].get("test", {}).values())
    unit = "images" if alone else "whole groups"
    text = (
        f"Intervals are at {judge['confidence'] * 100:g} %: Student’s t on the logit of a score with the standard error of"
        f" {judge['resamples']:,} bootstrap resamples of {unit} {cite('davison1997', 'field2007')}."
    )
    if summary.get("pairs"):
        text += f" Plans were compared on the same resamples, p-values corrected by Holm’s method {cite('holm1979')}."
    if summary.get("calibration"):
        text += f" Probabilities were calibrated by temperature scaling on validation {cite('guo2017')}."
    if summary.get("curves"):
        text += f" ROC curves were averaged vertically {cite('fawcett2006')}; their bands are pointwise."
    explained = summary.get("explained") or {}
    if explained.get("saliency"):
        text += f" Maps of evidence follow {cite(_MAPS[explained['saliency']['method']])}."
    if explained.get("changes"):
        text += f" Outputs before and after tuning were compared by linear centred kernel alignment {cite('kornblith2019')}."
    return text


def _software(summary: Summary) -> str:
    run, versions = summary["run"], summary["run"]["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("fteng", "jax", "flax", "optax") if name in versions)
    git = f" (revision {run['git']})" if run.get("git") not in (None, "", "none") else ""
    return f"Computed with {named}{git} on {run['device']}; data digest {summary['dataset']['digest'][:16]}…."
