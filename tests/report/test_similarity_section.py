"""The section on similarity, from a record as `assess` and `grade` make it."""

import re
from pathlib import Path

import numpy as np
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fteng.report import distances, similarity, view, words
from fteng.similarity.assess import assess
from fteng.similarity.grade import Measurement, grade
from tests.similarity.test_assess import NOTHING, fit_to, moments, study

BOX = "{% macro box(label) %}<div>{{ caller() }}</div>{% endmacro %}{% include 'similarity.html' %}"


def summary(source=None, measured=True, **changed):
    one = study(**changed)
    logits = 5 * np.eye(12)[one.rows.labels]
    found = assess(one, moments(one.taps, shift=2.0) if source is None else source, logits, [1.0, 2.0, 3.0], fit_to(one.rows))
    rows = [
        Measurement("c", depth, depth < 3, f"depth {depth} <b>", 0.5 + 0.1 * depth, 0.5, np.full(50, 0.5 + 0.1 * depth), 5.0)
        for depth in range(4)
    ]
    counts = {split: {"a": 30, "b": 30} for split in ("train", "val", "test")}
    dataset = {"counts": counts, "groups": dict.fromkeys(counts, 60)}
    return {"stages": list(one.stages), "dataset": dataset, "similarity": {**found, "grade": grade(found, rows * measured, 20.0)}}


def page(of):
    environment = Environment(
        loader=FileSystemLoader(Path(similarity.__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals |= {"similarity": similarity, "view": view, "words": words}
    return environment.from_string(BOX).render(summary=view.clean(of))


def test_the_section_says_what_was_advised_and_what_it_cost():
    text = page(summary())
    for part in (
        "Advice before any tuning",
        "The folklore would say",
        "Following our advice",
        "always tune everything",
        "Following the folklore",
        "the best here",
        "tuning more, whatever the data",
        "a cross-validated classifier on its answers has",
    ):
        assert part in text
    assert "nan" not in text.lower().replace("nance", "")
    assert "<b>" not in text
    assert text.count("data:image/jpeg;base64,") > 0
    assert text.count("<svg") >= 4


def test_whether_the_data_differ_is_said_with_the_distances():
    assert "differ noticeably from the source from a on" in " ".join(distances.sentences(summary()))


def test_how_similar_the_data_are_is_one_sentence_beside_what_chance_makes():
    told = distances.how_similar(summary())
    assert re.fullmatch(
        r"In the median of its 3 stages the mean of a channel lies 1\.\d\d standard deviations from where the source had it"
        r" \(by chance alone up to 0\.\d\d\); the source head's answers tell 9\d % of what there is to tell about the class"
        r" \(by chance alone \d+ %\)\.",
        told,
    ), told
    unknown = summary(source=NOTHING)
    unknown["similarity"]["task"]["useful"] = {"value": None, "reason": "the weights have no source head", "zero": None}
    assert distances.how_similar(unknown) == (
        "How far their features lie from the source's is not known (there is no source profile to compare with); what the source"
        " head makes of them is not known (the weights have no source head)."
    )


def test_before_any_trial_it_says_that_it_is_not_graded():
    text = page(summary(measured=False))
    assert "Not graded yet" in text
    assert "Following our advice" not in text


@pytest.mark.parametrize("changed", [{"n": 24}, {"n": 20, "classes": 10}])
def test_undefined_numbers_are_words(changed):
    of = summary(source=NOTHING, **changed)
    assert "undefined" in page(of)
    assert "not tested" in " ".join(distances.sentences(of))


def test_regrets_are_sorted_and_taus_too():
    of = summary()
    regrets = [row["regret"] for row in similarity.advice_rows(of)]
    numbers = [float(text.split()[0].replace("−", "-")) for text in regrets if text != "–"]
    assert numbers == sorted(numbers)
    assert len(similarity.stage_columns(of)) == len(similarity.stage_rows(of)[0]["cells"])


def test_every_figure_has_its_numbers():
    of = view.clean(summary())
    shown = distances.table(of)
    assert [row[0] for row in shown.rows] == of["stages"]
    assert all(len(row) == len(shown.heads) >= 4 for row in shown.rows)
    assert "[chance " in shown.rows[0][1]
    assert len(distances.draw(of)) == len(shown.heads) - 1
    predicted = similarity.score_table(of).rows
    assert {1, 2} <= {int(depth) for _, depth, _, _ in predicted} <= {0, 1, 2, 3}
    assert all(measured == f"{0.5 + 0.1 * int(depth):.3f}" for _, depth, _, measured in predicted)
    points = sum(len(curve["points"]) for curve in of["similarity"]["learning"]["curves"])
    assert len(similarity.learning_table(of).rows) == points > 0
    assert page(of).count("The numbers of") == 2


def test_our_prediction_of_every_plan_is_shown_with_how_sure_it_is():
    of = view.clean(summary())
    rows = similarity.prediction_rows(of)
    ranking = of["similarity"]["advice"]["ours"]["ranking"]
    assert len(rows) == len(ranking) == 2 * len(of["stages"])
    assert rows[0]["equal"] == "yes"
    assert [row["equal"] == "yes" for row in rows] == [row["equal"] for row in ranking]
    assert all(re.fullmatch(r"\d\.\d+ \[\d\.\d+, \d\.\d+\]", row["predicted"]) for row in rows)
    assert "Every plan, as our advice predicts it" in page(of)


def test_whether_a_score_ranked_the_depths_is_said_in_words():
    of = view.clean(summary())
    scores = of["similarity"]["grade"]["scores"]
    for score in scores:
        score["p"] = None if score["tau"] is None else 0.2
    assert "No score is shown to rank these depths: the smallest p is 0.2" in similarity.tau_sentence(of)
    shown = next(score for score in scores if score["tau"] is not None and score["name"] != "depth")
    shown["p"], shown["tau"] = 0.01, 0.9
    assert f"each taken alone (p below 0.05): {shown['label']};" in similarity.tau_sentence(of)
    # Ranked backwards is not ranked.
    shown["tau"] = -0.9
    assert "No score is shown" in similarity.tau_sentence(of)


def test_more_images_are_judged_on_test_too_and_what_cannot_be_told_says_why():
    of = view.clean(summary())
    curves = of["similarity"]["learning"]["curves"]
    said = similarity.learning_sentence(of)
    assert re.search(r"by .\d+\.\d points on validation, and by .\d+\.\d on test", said)
    half, whole = (point["test"] for point in curves[0]["points"][-2:])
    assert f"{100 * (whole - half):+.1f} on test".replace("-", "−") in said
    for curve in curves:
        curve["last_doubling"] = None
        curve["points"][0]["reason"] = "a class has no image in this share"
    assert similarity.learning_sentence(of) == "That cannot be told: a class has no image in this share."
