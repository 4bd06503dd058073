"""The paragraph on methods: of this study, with what is not usual, and the works it names."""

import re

from fteng.report import methods
from fteng.trials import Variant
from tests.report.report_fixture import JUDGED, STAGES, explain, make_summary


def test_methods_are_of_this_study() -> None:
    summary = explain(make_summary(metrics=JUDGED)) | {"pairs": [{"p": 1}]}
    paragraphs, works = methods.write(summary)
    text = " ".join(paragraphs)
    for part in (
        "We used 1,799 images in 1,200 groups of textile in 3 classes (nominal 900, local 450, global 449); 1 further image"
        " was left out.",
        "900 images in 600 groups for training, 360 images in 240 groups for validation and 539 images in 360 groups for testing,"
        " with all images of a group in one split (seed 0)",
        "efficientnet_lite0 with pretrained weights (package, sha256 579344248a93e230…)",
        "the first 0, 4, 8, 12 and 16 of the stages were frozen and those behind them tuned together with a linear head; with all"
        " stages frozen a linear head alone was trained by the same recipe, each for",
        "5 epochs (batches of 32, AdamW (Loshchilov and Hutter 2019), weight decay 0.0001, peak learning rate 0.0003 or 0.001,"
        " linear warm-up over 10 % of the steps, then cosine schedule, gradients clipped to norm 1, 2 seeds)",
        "all that were shown to lose at most 0.01 to it, the one that trains the fewest stages was recommended",
        "one-sided lower bound of their paired difference to the best, reckoned on the scale of the logit, lay above −0.01",
        "best mean balanced accuracy",
        "2,000 bootstrap resamples of whole groups",
        "Holm’s method (Holm 1979)",
        "fteng 0.1.0, jax 0.10.2",
    ):
        assert part in text
    # Every work that the text names has its entry, and no other has.
    named = set(re.findall(r"(?<=[(;] )?([A-Z]\w+)(?: et al\.| and \w+)? (\d{4})", text))
    assert {f"{author.lower()}{year}" for author, year in named} == set(re.findall(r"@\w+\{(\w+),", works))
    assert works.count("{") == works.count("}")


def test_what_a_race_never_began_is_not_said_to_be_done() -> None:
    summary = make_summary(depths=(0, 4), metrics=JUDGED)
    for row in summary["trials"]:
        if row["freeze_depth"] == 0 or row["seed"] == 1:
            row |= {"status": "not run", "note": "a seed that the race did not need", "val": {}, "test": {}, "cost": None}
    text = " ".join(methods.write(summary)[0])
    assert "the first 4 of the stages were frozen" in text
    assert ", 1 seed)" in text


def test_random_weights_are_not_called_pretrained() -> None:
    summary = make_summary(metrics=JUDGED)
    summary["weights"] = {"source": "random", "batch_norm": True, "sha256": "random:0"}
    text = methods.write(summary)[0][1]
    assert "with random weights, not pretrained, taken as" in text
    assert "random:0" not in text


def test_batch_norm_is_told_whatever_the_source_is_known_from() -> None:
    summary = make_summary(metrics=JUDGED)
    summary["source_profile"], summary["weights"]["batch_norm"] = {"kind": "file"}, False
    assert "Batch normalisation" not in methods.write(summary)[0][1]
    summary["weights"]["batch_norm"] = True
    assert "Batch normalisation kept the statistics of pretraining" in methods.write(summary)[0][1]


def test_methods_name_what_is_not_usual() -> None:
    summary = make_summary(depths=(18,), metrics=JUDGED)
    assert "In addition with all stages frozen a linear head alone was trained" in methods.write(summary)[0][1]
    assert "tuned" not in methods.write(summary)[0][1]
    recipe = {"mixup": 0.2, "label_smoothing": 0.1, "schedule": "drops", "drops": [0.5, 0.75], "warmup_fraction": 0.0}
    summary["run"]["config"]["train"] |= recipe | {"clip_norm": 0.0, "optimizer": "sgd", "head_init": "zero", "balance": "weights"}
    summary["run"]["config"]["data"]["resize"] = "letterbox"
    summary["dataset"]["classes"] = ["nominal", "local"]
    other = {"variant": Variant(layer_decay=0.7, unfreezing="gradual", init="random", batch_norm="batch")._asdict()}
    summary["trials"] += [
        summary["trials"][0]
        | {"freeze_depth": 4, "trainable_stages": list(STAGES[4:10]), "tap": STAGES[9], "leaves": "norm"}
        | other,
        summary["trials"][0] | {"freeze_depth": None, "trainable_stages": ["stem", "block1"]},
    ]
    text = " ".join(methods.write(summary)[0])
    for part in (
        "the first 4 of the stages were frozen and those behind them tuned together with a linear head; stem and block1 alone were",
        "SGD with momentum 0.9",
        "a tenth of the rate from 50 % and 75 % of the steps on, 1 to 2 seeds)",
        "The head read the output of block9 or conv_head, and the stages behind it were dropped.",
        "all parameters or the normalisation parameters alone trained",
        "by a factor of 0.7 or 1.",
        "unfrozen one by one from the head down over the first half of the steps, or all at once.",
        "As controls, never recommended, the same plans started from random weights.",
        "The head started from zero.",
        "Batch normalisation kept the statistics of pretraining or followed the batch in the stages that were tuned",
        "mixup, Beta(0.2, 0.2)); labels were smoothed by 0.1. Classes were weighted",
        "with their proportions kept, and grey bars, to 240 × 240 pixels",
        "count local as the positive class",
    ):
        assert part in text
