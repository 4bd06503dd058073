"""Decisions of a race on answers whose quality is known."""

import numpy as np
import pytest

from fteng.analysis.bootstrap import group_weights
from fteng.analysis.metrics import deciding_metric
from fteng.race import decide
from fteng.race.decide import Judge, Standing
from fteng.results import Predictions

N = 400
LABELS = np.random.default_rng(0).integers(0, 2, N)
GROUPS = np.array([f"g{i // 2}" for i in range(N)])


def answers(accuracy: float, seed: int = 0, sure: float = 2.0) -> Predictions:
    """So many of the labels right; common noise makes answers of one seed alike."""
    right = np.random.default_rng(seed).random(N) < accuracy
    said = np.where(right, LABELS, 1 - LABELS)
    logits = np.zeros((N, 2), np.float32)
    logits[np.arange(N), said] = sure
    return Predictions(np.arange(N).astype(str), GROUPS, LABELS, logits)


def judge(metric: str = "accuracy", margin: float = 0.02) -> Judge:
    return Judge(metric, margin, 0.95, group_weights(GROUPS, 500, 0))


def standing(name: str, *accuracies: float, trained: bool = True) -> Standing:
    rungs = tuple(answers(one) for one in accuracies)
    return Standing(name, rungs, rungs[-1], trained, 1e-3 if trained else None)


PROBE = standing("probe", 0.8, trained=False)


@pytest.mark.parametrize(("epochs", "expected"), [(1, (1,)), (2, (1, 2)), (5, (2, 4, 5)), (6, (2, 4, 6)), (30, (10, 20, 30))])
def test_rungs_are_thirds_of_the_way(epochs, expected):
    assert decide.rungs(epochs) == expected


def at(rate: float, accuracy: float, sure: float = 2.0, metric: str = "") -> Standing:
    found = answers(accuracy, sure=sure)
    if metric == "undefined":
        found = found._replace(logits=np.full((N, 2), np.nan, np.float32))
    return Standing("way", (found,), found, True, rate)


def rates(*standings: Standing, metric: str = "accuracy") -> list[float | None]:
    return [one.rate for one in decide.ranked(standings, judge(metric))]


def test_the_best_rate_comes_first():
    assert rates(at(3e-3, 0.5), at(1e-3, 0.9), at(3e-4, 0.8), at(1e-4, 0.6)) == [1e-3, 3e-4, 1e-4, 3e-3]
    # Equal scores: the surer of the right answers, then the lower rate.
    assert rates(at(1e-3, 0.9), at(1e-4, 0.9, sure=1.0)) == [1e-3, 1e-4]
    assert rates(at(1e-3, 0.9), at(1e-4, 0.9)) == [1e-4, 1e-3]


def test_lower_is_better_where_it_is():
    assert rates(at(1e-3, 0.9), at(1e-4, 0.5), metric="log_loss") == [1e-3, 1e-4]
    assert decide.shown_score(answers(0.9), judge("log_loss")) == pytest.approx(0.127 + 2 * 0.1, abs=0.05)


def test_an_undefined_score_never_leads():
    lost = at(1e-3, 0.9, metric="undefined")
    assert rates(lost, at(1e-4, 0.5)) == [1e-4, 1e-3]
    assert decide.shown_score(lost.last, judge()) is None


def test_rates_within_the_margin_of_the_best_are_contenders():
    ended = [at(1e-3, 0.9), at(3e-4, 0.89), at(1e-4, 0.8)]
    assert [one.rate for one in decide.contenders(ended, judge(margin=0.03))] == [1e-3, 3e-4]
    assert decide.contenders([], judge()) == []


def test_a_lower_rate_is_tried_where_more_training_did_worse_than_less_by_more_than_the_margin():
    shallow = standing("shallow", 0.8)
    assert decide.left_behind(standing("deep", 0.79), shallow, judge(margin=0.05)) == ""
    assert decide.left_behind(standing("deep", 0.9), shallow, judge()) == ""
    told = decide.left_behind(standing("deep", 0.6), shallow, judge(margin=0.05))
    assert told.startswith("at rate 0.001 it ends 0.190")
    assert "behind shallow, more than the margin of 0.05" in told
    assert decide.left_behind(standing("deep", 0.6), shallow, judge("log_loss", margin=0.05))


def test_rates_are_compared_with_their_like_alone():
    """What ended at another rate says nothing of what this one may gain."""
    shallow = standing("shallow", 0.85, 0.9)
    deep = standing("deep", 0.5)
    assert not decide.can_win(deep, 0, [shallow], shallow, judge()).goes_on
    told = decide.can_win(deep._replace(rate=1e-4), 0, [shallow], shallow, judge())
    assert told.goes_on
    assert "nothing has ended at this rate" in told.why


def test_who_is_behind_but_may_catch_up_goes_on():
    shallow = standing("shallow", 0.6, 0.8)
    # 0.1 behind at the rung; with four times the gain of 0.2 it could end far ahead.
    verdict = decide.can_win(standing("deep", 0.5), 0, [shallow], shallow, judge())
    assert verdict.goes_on
    assert "may end up to" in verdict.why


def test_who_is_not_shown_to_be_behind_goes_on_whatever_the_best_there_is() -> None:
    """A classifier far ahead stops nobody alone: at the rung these two differ by two images of 400."""
    shallow, probe = standing("shallow", 0.7, 0.71), standing("probe", 0.99, trained=False)
    led = answers(0.7)
    logits = led.logits.copy()
    right = np.flatnonzero(logits.argmax(axis=1) == LABELS)[:2]
    logits[right] = logits[right, ::-1]
    now = led._replace(logits=logits)
    verdict = decide.can_win(Standing("deep", (now,), now, True, 1e-3), 0, [shallow], probe, judge())
    assert verdict.goes_on
    assert verdict.why.startswith("at this rung -0.005")


def test_who_cannot_catch_up_is_stopped_and_told_why():
    shallow = standing("shallow", 0.85, 0.9)
    verdict = decide.can_win(standing("deep", 0.5), 0, [shallow], shallow, judge())
    assert not verdict.goes_on
    assert "would end at most -0." in verdict.why
    assert "against shallow" in verdict.why


def test_who_leads_at_the_rung_goes_on_whatever_others_ended_with():
    shallow = standing("shallow", 0.6, 0.61)
    assert decide.can_win(standing("deep", 0.7), 0, [shallow], standing("best", 0.99), judge()).goes_on


def test_nobody_is_stopped_before_a_trained_way_has_ended():
    assert decide.can_win(standing("deep", 0.5), 0, [], PROBE, judge()).goes_on


def test_few_groups_stop_nobody():
    """With one group no bound can be told."""

    def one_group(way: Standing) -> Standing:
        rungs = tuple(rung._replace(groups=np.full(N, "g")) for rung in way.rungs if rung is not None)
        return way._replace(rungs=rungs, last=rungs[-1])

    shallow = one_group(standing("shallow", 0.85, 0.9))
    alone = Judge("accuracy", 0.02, 0.95, group_weights(np.full(N, "g"), 500, 0))
    assert decide.can_win(one_group(standing("deep", 0.5)), 0, [shallow], shallow, alone).goes_on


@pytest.mark.slow
def test_false_stops_of_an_equal_way_are_rare():
    """A way that is as good as the leader at its rung, in 300 draws of images: stopped in at most 5 %."""
    stopped = 0
    for draw in range(300):
        rng = np.random.default_rng(draw)
        labels = rng.integers(0, 2, N)

        def drawn(rng=rng, labels=labels) -> Predictions:
            logits = np.zeros((N, 2), np.float32)
            logits[np.arange(N), np.where(rng.random(N) < 0.8, labels, 1 - labels)] = 2.0
            return Predictions(np.arange(N).astype(str), GROUPS, labels, logits)

        first, last, deep = drawn(), drawn(), drawn()
        shallow = Standing("shallow", (first, last), last, True, 1e-3)
        stopped += not decide.can_win(Standing("deep", (deep,), deep, True, 1e-3), 0, [shallow], shallow, judge()).goes_on
    assert stopped <= 15


def few(faults: int, n: int = 80) -> tuple[Standing, Judge]:
    """Answers each of a group of its own, all but so many right."""
    said = np.where(np.arange(n) < faults, 1 - LABELS[:n], LABELS[:n])
    names = np.arange(n).astype(str)
    found = Predictions(names, names, LABELS[:n], 2.0 * np.eye(2, dtype=np.float32)[said])
    return Standing("probe", (found,), found, False, None), Judge("accuracy", 0.02, 0.95, group_weights(names, 500, 0))


def nothing_to_win(incumbent: Standing, by: Judge, *others: Standing) -> str:
    return decide.nothing_to_win(incumbent, [incumbent, *others], by)


def test_nothing_to_win_near_the_top():
    told = nothing_to_win(standing("probe", 0.995), judge(margin=0.03))
    assert "probe has accuracy 0.993, and even answers without a fault would be better by no more than 0.020" in told
    assert nothing_to_win(standing("probe", 0.9), judge()) == ""
    assert nothing_to_win(standing("probe", 0.9), judge("log_loss")) == ""
    lost = answers(0.9)._replace(logits=np.full((N, 2), np.nan, np.float32))
    assert nothing_to_win(Standing("lost", (lost,), lost, True, 1e-3), judge()) == ""


def test_a_score_near_the_top_of_few_images_ends_no_race():
    """One error in eighty may be luck: the truth could lie below 0.98."""
    assert nothing_to_win(*few(1)) == ""


def test_without_a_fault_nothing_can_be_better():
    assert "no more than 0.000" in nothing_to_win(*few(0))
    assert nothing_to_win(*few(0, 9)) == ""


def test_plans_that_ended_widen_the_bound_as_in_the_recommendation():
    best, by = standing("probe", 0.995), judge(margin=0.021)
    assert nothing_to_win(best, by)
    others = [Standing(f"other {seed}", (), answers(0.9, seed), True, 1e-3) for seed in range(1, 9)]
    assert nothing_to_win(best, by, *others) == ""


def test_the_metric_that_decides():
    assert deciding_metric("auto", 2) == "auc"
    assert deciding_metric("auto", 3) == "balanced_accuracy"
    assert deciding_metric("log_loss", 2) == "log_loss"
