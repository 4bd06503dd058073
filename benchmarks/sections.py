"""What docs/results.md says of each record: what is measured, and tables with titles, an order of columns and goals."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Column(NamedTuple):
    """key: of the row, `a.b` for b within a; title: the key if empty; times: what the value is multiplied by; low, high: keys of
    the ends of its range, where it does not hold them itself; goal: a bound (`< 5`) of what is shown, if rows bring none."""

    key: str
    title: str = ""
    times: float = 1.0
    low: str = ""
    high: str = ""
    goal: str = ""

    @property
    def head(self) -> str:
        """What stands above it."""
        return self.title or self.key.replace("_", " ")


class Table(NamedTuple):
    """takes: which rows; judged: the key that a row's own `goal` is about, a bare number being what it should reach."""

    title: str
    takes: Callable[[Row], bool]
    columns: tuple[Column, ...]
    judged: str = "value"


class Section(NamedTuple):
    """what: is measured, and what brackets and ratios mean where that is not plain."""

    what: str
    tables: tuple[Table, ...] = ()


def every(_: Row) -> bool:
    """Takes all rows that are left."""
    return True


def _having(key: str) -> Callable[[Row], bool]:
    return lambda row: key in row


def _total(what: str, group: str) -> Callable[[Row], bool]:
    return lambda row: row.get("what") == what and row.get("group") == group


def _plain(*keys: str) -> tuple[Column, ...]:
    return tuple(map(Column, keys))


_COSTS = (Column("what"), Column("value", "measured"), *_plain("unit", "n"))
_MEMORY = (
    Column("what"),
    Column("foreseen_gib", "foreseen"),
    Column("predicted_gib", "predicted"),
    Column("measured_gib", "measured"),
    Column("off_percent", "predicted is off by, %"),
)
_TOTALS = (*_plain("name", "median", "worst"), Column("n", "studies"))
_ADVISERS = ("ours", "probe", "folklore", "last", "everything", "random", "sweep")
_CURVE = (
    *_plain("plan", "recommended"),
    Column("test", "balanced accuracy"),
    Column("learning_rate", "rate"),
    Column("seconds", "seconds a trial"),
    Column("trainable_parameters", "trained parameters"),
)
_NETWORKS = (
    *_plain("network", "images", "precision", "pass"),
    Column("milliseconds.fteng", "fteng, ms"),
    Column("milliseconds.torch eager", "torch eager, ms"),
    Column("milliseconds.torch compile", "torch compile, ms"),
    Column("times.torch eager", "x eager"),
    Column("times.torch compile", "x compile"),
    Column("refused", "not timed"),
    Column("failed.torch compile", "torch compile failed"),
    *_plain("n", "device", "threads"),
    Column("peer_versions.torch", "torch"),
    Column("load_per_core_before", "load a core before"),
)
_PROBES = (
    *_plain("images", "image_size", "taps", "n"),
    Column("pass_seconds", "pass over the images, s"),
    Column("ours_seconds", "fteng, all taps, s"),
    Column("ours_where_sklearn_was_asked", "fteng, where scikit-learn was asked, s"),
    Column("sklearn_seconds", "scikit-learn, s"),
    Column("sklearn / ours", "scikit-learn / fteng", goal=">= 20"),
    Column("ours / pass", "fteng / pass", goal="<= 0.1"),
    Column("largest excess of sklearn's loss", "largest excess of scikit-learn's loss, share of the loss at zero"),
)
_LAYERS = (
    *_plain("layer", "images", "outputs", "pass"),
    Column("convolutions", "by"),
    Column("milliseconds", "ms"),
    Column("compile_seconds", "compile, s"),
    Column("times_stock", "x stock"),
    Column("n"),
)
_HUGE_PAGES = (
    *_plain("network", "pixels", "pass"),
    Column("huge", "ms, huge pages"),
    Column("small", "ms, without"),
    Column("times_small", "x without"),
    Column("n"),
)
_POPULATION = (
    Column("frozen", "frozen stages"),
    *_plain("trials", "program"),
    Column("milliseconds", "ms a trial's step"),
    Column("times_turns", "x turns"),
    Column("error"),
    Column("compile_seconds", "compile, s"),
    Column("n"),
)
_PACE = (
    *_plain("what", "seconds"),
    Column("images_per_second", "images/s"),
    Column("of_ceiling", "x decoder, whole"),
    Column("spread_of_ceiling", "range of it over n"),
    Column("of_scaled_ceiling", "x decoder, at 1/2"),
    *_plain("images", "bytes_per_file", "n"),
)
_FEED = (
    Column("where", "images"),
    *_plain("steps", "batch", "n", "seconds"),
    Column("waited_share", "share waited, %", 100, goal="< 2"),
    Column("waited_share_without_first_batch", "the same without the first batch, %", 100),
    Column("first_batch_seconds", "first batch, s"),
)
_PREDICT = (
    Column("backbone", "network"),
    *_plain("device", "images", "bytes_per_file", "n"),
    Column("bare_seconds", "bare pass, s"),
    Column("decoding_seconds", "decoding, s"),
    Column("predict_seconds", "predict, s"),
    Column("predict_images_per_second", "predict, images/s"),
    Column("predict_of_bare", "predict, x bare pass", goal=">= 0.9"),
    Column("predict_spread_of_bare", "range of it over n"),
    Column("ceiling"),
)
_PAGES = (
    *_plain("page", "browser", "n"),
    Column("bytes", "MB", 1e-6, goal="< 5"),
    Column("seconds", "seconds to open", low="fastest", high="slowest", goal="< 2"),
)
_FAULTS = (
    Column("n"),
    Column("kills.launcher", "kills of the launcher"),
    Column("kills.worker", "kills of a worker"),
    Column("kills.all", "kills of all at once"),
    Column("identical"),
    Column("different", goal="= 0"),
    *_plain("seed", "seconds"),
)
_NIGHTS = (
    Column("night"),
    Column("makespan_hours", "makespan, h"),
    Column("makespan / lower bound"),
    Column("wasted share of work", "wasted work, %", 100),
    *_plain("scheduler calls a minute", "turns at the mutex a minute", "units"),
    Column("given up", "trials given up"),
    *_plain("trials", "nodes", "n", "seed"),
)
_TURN = (Column("turn", "what"), Column("median_ms", "median, ms"), Column("p95_ms", "95 % below, ms"), Column("n"))
_STUDIES = (
    Column("study"),
    Column("n", "training images"),
    Column("metric"),
    Column("best", "best plan"),
    Column("known_answer"),
    Column("answer_held", "it held"),
    *(Column(f"regret.{name}", name) for name in _ADVISERS),
    Column("advice_seconds", "advice, s"),
    Column("sweep_seconds", "sweep, s"),
)
_STRENGTH = (
    *_plain("data", "taps"),
    Column("n", "splits"),
    *(
        Column(f"{what}.{key}", f"{label}{name}")
        for what, label in (("lead", "lead, "), ("test", "test, "))
        for key, name in (
            ("validation", "by validation"),
            ("strength", "strength by folds"),
            ("strength_difference", "difference"),
            ("folds", "tap too"),
            ("folds_difference", "difference"),
        )
    ),
)
_RACES = (
    Column("study"),
    Column("n", "training images"),
    *_plain("metric", "best"),
    Column("sweep.recommended", "the sweep recommends"),
    Column("sweep.regret", "and loses, points"),
    Column("race.recommended", "the race recommends"),
    Column("race.regret", "and loses, points"),
    Column("race_loses", "the race loses to the sweep, points"),
    Column("share", "share of the epochs"),
    Column("share_of_seconds", "and of the seconds"),
    Column("sweep.seconds", "sweep, s"),
    Column("race.seconds", "race, s"),
)
_EARLY = (
    Column("study"),
    Column("rates.a third", "by its score at a third"),
    Column("rates.two thirds", "at two thirds"),
    Column("rates.the depth before", "the best of the depth before it"),
)
_STOPS = (
    Column("study"),
    Column("stops.2.all", "stops at a factor of 2"),
    Column("stops.2.wrong", "of these wrong"),
    Column("stops.4.all", "at 4, as it is"),
    Column("stops.4.wrong", "of these wrong"),
)

SECTIONS = {
    "demo": Section(
        "What `make demo` costs, and the depth curve that it buys. Each run is a process of its own, the first with empty caches.",
        (
            Table("Costs", _having("what"), _COSTS),
            Table("Depth curve: mean over seeds on test images, with its 95 % interval", _having("plan"), _CURVE),
        ),
    ),
    "sweep": Section(
        """A whole sweep of EfficientNet-Lite0 on digits, against the best PyTorch we could write by hand, eager or compiled,
whichever is faster at that depth, one run after the other (a) and with features cached by hand (b). Trials are compared by
the seconds of their steps alone. n is of torch's trials at each depth, and so is a range: our four trials of a depth advance
together and share their seconds, one measurement without a spread. The race is timed from the first line to the report.
PyTorch's sweep is reckoned from some of its trials. It needs a Python with torch: `--torch-python=PYTHON`.""",
        (Table("", every, _COSTS),),
    ),
    "backbones": Section(
        """Networks against PyTorch's: the same weights, images and threads, in turns. Milliseconds are for a whole batch, median
[min, max]; x is how many times as fast fteng is, above 1 it is faster; backward is forward and backward. The goal is of
x compile. It needs a Python with torch, timm and torchvision: `--torch-python=PYTHON`.""",
        (Table("", _having("network"), _NETWORKS, judged="times.torch compile"),),
    ),
    "probes": Section(
        """The linear classifiers of every tap (ten strengths, all training images and five folds in one call) against
scikit-learn's (lbfgs, its default) on the same features, to the same loss at least, on every third tap, and against the pass over
the images. Median [min, max] of n.""",
        (Table("", every, _PROBES),),
    ),
    "convolution": Section(
        """Our convolutions against XLA's own, in one process and in turns: layers of the networks, and EfficientNet-Lite0 as a
whole. Backward is forward and backward; median [min, max] of n; x stock is how many times as fast as XLA's.""",
        (Table("", _having("layer"), _LAYERS),),
    ),
    "huge_pages": Section(
        """A pass over a batch of 32, in a process that asks Linux for huge pages (as fteng's commands do where it gives them to who
asks) and in one that does not, in turns of several passes. Train is forward and backward. Median [min, max] of n; x without is how
many times as fast it is with them. Where the two changed at every pass there was no gain, or a loss
(by hand).""",
        (Table("", every, _HUGE_PAGES),),
    ),
    "population": Section(
        """Trials that share their batches (EfficientNet-Lite0, 64 px, batches of 32): a compiled call for each (`turns`, what a
study does), a loop in one call (`scan`), all at once (`vmap`). Median [min, max] of n; error: largest difference from `turns`
after n steps, relative to the largest number that trains; x turns is how many times as fast.""",
        (Table("", every, _POPULATION),),
    ),
    "memory": Section(
        """Memory of a study's process while its trials run, in GiB: foreseen by `--dry_run`, predicted when the trials begin, and
measured at its peak. One study each.""",
        (Table("", every, _MEMORY, judged="off_percent"),),
    ),
    "growth": Section(
        """What a study costs as its work grows (EfficientNet-Lite0, 32 px, digits, steps compiled before). A slope of log seconds
over log work is 1 where cost is linear; n is the number of studies it is drawn through.""",
        (
            Table("Seconds, by phase", _having("grows"), _plain("grows", "value", "probes", "trials")),
            Table("Slopes", _having("slope"), _plain("slope_of", "over", "slope", "n"), judged="slope"),
        ),
    ),
    "prepare": Section(
        "Preparing JPEGs of 600 x 450 against the decoder alone, whole or at half size. x: the pace as a share of that decoder's.",
        (
            Table("Pace: seconds are median [min, max] of n", _having("seconds"), _PACE),
            Table("Memory", _having("bytes"), (Column("what"), Column("bytes", "MiB", 2**-20))),
        ),
    ),
    "feed": Section(
        """How long the cheapest training there is waits for images that are streamed from disk: EfficientNet-Lite0 at 224 px,
every stage frozen. Median [min, max] of n.""",
        (Table("", every, _FEED),),
    ),
    "predict": Section(
        """`fteng.predict` from image files to rows on disk, and decoding alone, against the bare network over decoded images.
Ratios are medians over n; the ceiling is what decoding on the same cores leaves.""",
        (Table("", every, _PREDICT),),
    ),
    "page": Section(
        """How large the pages of made-up studies are, and how long headless Chromium takes to open and draw them: median [fastest,
slowest] of n.""",
        (Table("", every, _PAGES),),
    ),
    "faults": Section(
        """Studies in parts under SIGKILL at random moments: is what comes out what an undisturbed study gives, to the bit? n is
the number of studies.""",
        (Table("", every, _FAULTS),),
    ),
    "scale": Section(
        """The launcher at a size no test machine has, simulated with the real planner: median [lowest, highest] of n draws. The
lower bound is all work over all nodes, or the longest unit.""",
        (
            Table("", _having("night"), _NIGHTS),
            Table("A turn at the mutex, with real files", _having("turn"), _TURN),
        ),
    ),
    "alarms": Section(
        """How often the statistics are wrong where the truth is known, simulated under the null; the range is the 95 % error of the
simulation itself (Wilson 1927). Goals allow for it: a test of exactly 5 % stays within them in 99 of 100 simulations. A noticeable
difference is looked for at three stages, of images in groups of four.""",
        (Table("", every, (Column("what"), Column("rate"), Column("n", "draws")), judged="rate"),),
    ),
    "strength": Section(
        """A linear classifier chosen by validation, with its L2 strength chosen by folds of the training images, and with its tap
chosen so too, as fteng does. In points of balanced accuracy: the lead that validation gives what is chosen over test, and its score
on test; differences are to validation, mean [95 % interval] over the splits. 300 training images, 75 of validation.""",
        (Table("", every, _STRENGTH),),
    ),
    "race": Section(
        """What a race recommends against what the whole sweep of the same trials recommends (four rates, one seed), both chosen on
validation, in points of the metric on test behind the best plan there; and the share that it needed of the sweep's epochs, and of
the seconds of its steps. The trials were trained once; the race decided on their answers as it does while it trains.""",
        (
            Table("", _having("share"), _RACES, judged="race_loses"),
            Table("What choosing a depth's rate early loses on test, points, mean over depths", _having("rates"), _EARLY),
            Table(
                "Stops of depths, each rate by itself, if scores had no error; wrong: it ended ahead of all before it",
                _having("stops"),
                _STOPS,
            ),
        ),
    ),
    "advice": Section(
        """What following each advice before a sweep would have lost, and how scores rank depths, over many studies. Regret: points
of the metric on test behind the best plan that was measured. The form of our advice was chosen while some
studies were looked at: their totals stand apart, and only the others, which ran after it stood, judge it fairly, but for one
change: folds choose the classifier of short schedules (50 images) only since they were seen. `sweep` is what the study recommends
after all its trials.""",
        (
            Table("Regret of each advice, points", _total("regret", "judging"), _TOTALS),
            Table("Kendall's tau of each score with the measured curve", _total("tau", "judging"), _TOTALS),
            Table("Regret in the studies that were looked at", _total("regret", "looked at"), _TOTALS),
            Table("Kendall's tau in the studies that were looked at", _total("tau", "looked at"), _TOTALS),
            Table("Studies: regret of each advice, points", _having("study"), _STUDIES),
        ),
    ),
}
