"""A paragraph on methods, ready to paste, made of what this study did, and the works it rests on."""

from collections.abc import Mapping
from typing import Any

from fteng.report import view, words

Summary = Mapping[str, Any]
# Key -> (author and year in the text, the BibTeX entry without its key).
_WORKS = {
    "kumar2022": (
        "Kumar et al. 2022",
        "inproceedings",
        "author={Kumar, Ananya and Raghunathan, Aditi and Jones, Robbie and Ma, Tengyu and Liang, Percy},"
        " title={Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution},"
        " booktitle={International Conference on Learning Representations}, year={2022}",
    ),
    "davison1997": (
        "Davison and Hinkley 1997",
        "book",
        "author={Davison, A. C. and Hinkley, D. V.}, title={Bootstrap Methods and their Application},"
        " publisher={Cambridge University Press}, year={1997}",
    ),
    "field2007": (
        "Field and Welsh 2007",
        "article",
        "author={Field, C. A. and Welsh, A. H.}, title={Bootstrapping clustered data},"
        " journal={Journal of the Royal Statistical Society: Series B}, volume={69}, number={3}, pages={369--390}, year={2007}",
    ),
    "holm1979": (
        "Holm 1979",
        "article",
        "author={Holm, Sture}, title={A Simple Sequentially Rejective Multiple Test Procedure},"
        " journal={Scandinavian Journal of Statistics}, volume={6}, number={2}, pages={65--70}, year={1979}",
    ),
    "guo2017": (
        "Guo et al. 2017",
        "inproceedings",
        "author={Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.}, title={On Calibration of Modern Neural"
        " Networks}, booktitle={International Conference on Machine Learning}, year={2017}",
    ),
    "fawcett2006": (
        "Fawcett 2006",
        "article",
        "author={Fawcett, Tom}, title={An introduction to ROC analysis}, journal={Pattern Recognition Letters}, volume={27},"
        " number={8}, pages={861--874}, year={2006}",
    ),
    "loshchilov2019": (
        "Loshchilov and Hutter 2019",
        "inproceedings",
        "author={Loshchilov, Ilya and Hutter, Frank}, title={Decoupled Weight Decay Regularization},"
        " booktitle={International Conference on Learning Representations}, year={2019}",
    ),
    "zhou2016": (
        "Zhou et al. 2016",
        "inproceedings",
        "author={Zhou, Bolei and Khosla, Aditya and Lapedriza, Agata and Oliva, Aude and Torralba, Antonio}, title={Learning Deep"
        " Features for Discriminative Localization}, booktitle={IEEE Conference on Computer Vision and Pattern Recognition},"
        " year={2016}",
    ),
    "selvaraju2017": (
        "Selvaraju et al. 2017",
        "inproceedings",
        "author={Selvaraju, Ramprasaath R. and Cogswell, Michael and Das, Abhishek and Vedantam, Ramakrishna and Parikh, Devi and"
        " Batra, Dhruv}, title={Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization},"
        " booktitle={IEEE International Conference on Computer Vision}, year={2017}",
    ),
    "shrikumar2017": (
        "Shrikumar et al. 2017",
        "inproceedings",
        "author={Shrikumar, Avanti and Greenside, Peyton and Kundaje, Anshul}, title={Learning Important Features Through"
        " Propagating Activation Differences}, booktitle={International Conference on Machine Learning}, year={2017}",
    ),
    "kornblith2019": (
        "Kornblith et al. 2019",
        "inproceedings",
        "author={Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, Geoffrey}, title={Similarity of Neural Network"
        " Representations Revisited}, booktitle={International Conference on Machine Learning}, year={2019}",
    ),
}
_BALANCE = {
    "weights": "Classes were weighted equally in the loss.",
    "sampling": "Classes were sampled equally often.",
    "logits": "Logits were adjusted by the class shares of training in the loss.",
}
_MAPS = {"cam": "zhou2016", "grad_cam": "selvaraju2017", "gradient_input": "shrikumar2017"}


class _Cited(dict[str, None]):
    """Works in the order in which the text names them."""

    def __call__(self, *keys: str) -> str:
        self.update(dict.fromkeys(keys))
        return f"({'; '.join(_WORKS[key][0] for key in keys)})"


def write(summary: Summary) -> tuple[list[str], str]:
    """(paragraphs, their BibTeX)."""
    cite = _Cited()
    paragraphs = [_data(summary), _network(summary, cite), _choice(summary), _statistics(summary, cite), _software(summary)]
    entries = [f"@{_WORKS[key][1]}{{{key},\n  " + _WORKS[key][2].replace("}, ", "},\n  ") + "\n}" for key in cite]
    return [text for text in paragraphs if text], "\n\n".join(entries)


def _config(summary: Summary, part: str) -> Mapping[str, Any]:
    return summary["run"]["config"].get(part, {})


def _data(summary: Summary) -> str:
    dataset, given = summary["dataset"], _config(summary, "data")
    counts = dataset["counts"]
    total, out = sum(sum(split.values()) for split in counts.values()), len(dataset["left_out"])
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
    seed = given.get("split_seed")
    text += f" (seed {seed})" if seed is not None and not given.get("folds") else ""
    if given.get("folds"):
        text += f"; the test set is fold {given.get('fold', 0) + 1} of {given['folds']}"
    return f"{text}. Images were resized to {dataset['image_size']} × {dataset['image_size']} pixels."


def _network(summary: Summary, cite: _Cited) -> str:
    recipe, sweep, stages = _config(summary, "train"), _config(summary, "sweep"), summary["stages"]
    text = (
        f"The network was {summary['backbone']} with pretrained weights ({summary['weights']['source']}, sha256"
        f" {summary['weights']['sha256'][:16]}…), taken as a list of {len(stages)} stages from {stages[0]} to {stages[-1]}. A"
        f" linear classifier was fitted to the pooled output of every stage, its L2 strength chosen on validation"
    )
    depths = sorted({row["freeze_depth"] for row in summary["trials"] if row["freeze_depth"] is not None})
    if not depths or not recipe:
        return f"{text}."
    rates = sorted({row["learning_rate"] for row in summary["trials"]})
    seeds = {row["seed"] for row in summary["trials"]}
    named = " and ".join(filter(None, (", ".join(map(str, depths[:-1])), str(depths[-1]))))
    text += (
        f". In addition the first {named} of the stages were frozen and those behind them tuned together with a linear head"
        f" for {words.number(recipe['epochs'], 'epoch')} (batches of {recipe['batch_size']}"
    )
    text += f", {_optimizer(recipe, cite)}, weight decay {recipe['weight_decay']:g}"
    text += f", peak learning rate {' or '.join(f'{rate:g}' for rate in rates)}"
    text += ", cosine schedule" if recipe.get("schedule") == "cosine" else ""
    text += f", {words.number(len(seeds), 'seed')})"
    if recipe.get("head_init") == "probe":
        text += f". The head started from the classifier of the frozen network {cite('kumar2022')}"
    if sweep.get("batch_norm") == ["keep"] and summary["source_profile"].get("kind") == "batch_norm":
        text += ". Batch normalisation kept the statistics of pretraining"
    text += f". Augmentation: {', '.join(recipe['augment'])}" if recipe.get("augment") else ". Images were not augmented"
    balance = _BALANCE.get(recipe.get("balance", "none"), "")
    return f"{text}.{' ' * bool(balance)}{balance}"


def _optimizer(recipe: Mapping[str, Any], cite: _Cited) -> str:
    return "SGD with momentum" if recipe.get("optimizer") == "sgd" else f"AdamW {cite('loshchilov2019')}"


def _choice(summary: Summary) -> str:
    judge, sweep = summary["judge"], _config(summary, "sweep")
    text = "Rate and depth were chosen on the validation images alone"
    if sweep.get("search") == "race":
        text += ", in a race in which rates and depths that could no longer win were stopped early"
    return (
        f"{text}: each plan stood at the rate with the best mean {words.metric_name(judge['metric'])} over its seeds, and among all"
        " plans and classifiers the one was recommended that trains least and was not shown to lose more than"
        f" {judge['margin']:g} to the best. No test image took part in any choice."
    )


def _statistics(summary: Summary, cite: _Cited) -> str:
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
