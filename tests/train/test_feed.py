"""Images on the device as a whole and images streamed from disk are the same images, in the same order."""

import itertools
import threading

import numpy as np
import pytest

from fteng import feed
from fteng.errors import Interrupted
from fteng.feed import make_feed
from fteng.paths import TrialPaths, read_json
from fteng.results import read_predictions
from fteng.train.batches import Picked, TrainingRows, epoch_order

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 50)
ROWS = RNG.permutation(90)[:50]


def plan(start: int = 0, *, balanced: bool = False, seed: int = 0) -> TrainingRows:
    return TrainingRows(ROWS, LABELS, batch=8, epochs=3, seed=seed, balanced=balanced, start=start)


@pytest.fixture
def on_disk(tmp_path) -> np.memmap:
    images = RNG.integers(0, 256, (90, 12, 12, 3), np.uint8)
    images.tofile(tmp_path / "images.bin")
    return np.memmap(tmp_path / "images.bin", np.uint8, "r", shape=images.shape)


@pytest.fixture
def no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_budget_bytes", lambda: 0)


def only_rows(given: TrainingRows) -> Picked:
    return Picked(given, lambda batch: batch.rows)


def rows_of(given: TrainingRows) -> list[list[int]]:
    return [given[index].rows.tolist() for index in range(len(given))]


def test_streamed_is_bit_equal_to_whole(on_disk, monkeypatch):
    whole = make_feed(on_disk)
    monkeypatch.setattr(feed, "_budget_bytes", lambda: 0)
    streamed = make_feed(on_disk)
    assert "on the device as a whole" in whole.where
    assert "streamed from disk" in streamed.where
    for start in (0, 1, 7, 17):
        rows = only_rows(plan(start))
        one, other = (np.stack(list(kind.batches(rows))) for kind in (whole, streamed))
        assert one.shape == (len(rows), 8, 12, 12, 3)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, on_disk[np.stack([rows[index] for index in range(len(rows))])])
    np.testing.assert_array_equal(whole.take(ROWS), streamed.take(ROWS))
    assert list(streamed.batches([])) == list(whole.batches([])) == []


@pytest.mark.parametrize("balanced", [False, True])
def test_a_plan_is_decided_by_seed_and_epoch_and_goes_on_from_any_step(balanced):
    whole = rows_of(plan(balanced=balanced))
    assert len(whole) == 18
    for epoch in range(3):
        order = ROWS[epoch_order(LABELS, seed=0, epoch=epoch, balanced=balanced)]
        assert whole[epoch * 6 : epoch * 6 + 6] == order[:48].reshape(6, 8).tolist()
    for start in range(19):
        assert rows_of(plan(start, balanced=balanced)) == whole[start:]
    assert rows_of(plan(seed=1, balanced=balanced)) != whole
    with pytest.raises(IndexError):
        plan()[18]


@pytest.mark.usefixtures("no_budget")
def test_batches_are_read_ahead_but_not_without_end_and_threads_go(on_disk):
    read: list[int] = []
    more = threading.Event()

    class Watched:
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int, /) -> np.ndarray:
            read.append(index)
            if len(read) >= 3:
                more.set()
            return np.array([index, index + 1])

    threads = threading.active_count()
    stream = make_feed(on_disk).batches(Watched())
    np.testing.assert_array_equal(next(stream), on_disk[:2])
    # Nobody asked for the second and third, and they are read.
    assert more.wait(10)
    assert len(read) <= 1 + feed._BATCHES_AHEAD
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(10)
    assert threading.active_count() <= threads


@pytest.mark.usefixtures("no_budget")
def test_an_error_of_the_disk_comes_through(on_disk):
    with pytest.raises(IndexError):
        list(make_feed(on_disk).batches([np.array([0]), np.array([1000])]))


@pytest.mark.slow
def test_a_streamed_trial_is_a_whole_one_also_when_stopped(lab, deep_plan, deep_program, tmp_path, monkeypatch):
    spec = lab.spec(deep_plan)
    where = {kind: TrialPaths(tmp_path / kind) for kind in ("whole", "streamed", "stopped")}
    lab.run(spec, deep_program, where["whole"])
    monkeypatch.setattr(feed, "_budget_bytes", lambda: 0)
    other = lab._replace(feed=make_feed(lab.bench.dataset.images))
    assert "streamed" in other.feed.where
    other.run(spec, deep_program, where["streamed"])
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        other.run(spec, deep_program, where["stopped"], bench=lab.bench._replace(should_stop=lambda: next(asked) >= 3))
    other.run(spec, deep_program, where["stopped"])
    ends = []
    for paths in where.values():
        result = read_json(paths.result)
        assert 0 < result["cost"]["data_wait_seconds"] < result["cost"]["seconds"]
        answers = {split: found.logits.tobytes() for split, found in read_predictions(paths.predictions).items()}
        ends.append((answers, paths.metrics.read_text()))
    assert ends[0] == ends[1] == ends[2]
