"""The schema of a study: every key, its type, its default, what it means and what it may be.

A file in `configs/` returns a `Config` from `get_config()`; flags such as `--config.train.epochs=3` change single keys.
`config_check` judges what they hold. Imports no jax.
"""

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


def _key(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    decides: bool = True,
) -> Any:
    """A config field: its default, one line of help, and what it may be. decides: on numbers, not only on where and how they are
    computed or called."""
    about = {"help": help, "choices": choices, "low": low, "high": high, "decides": decides}
    return dataclasses.field(default=default, metadata=about)


@dataclass(slots=True)
class BackboneConfig:
    """The network and its weights."""

    name: str = _key("efficientnet_lite0", "which network")
    weights: str = _key(
        "package",
        "where its weights are: `package`, `hf:OWNER/NAME` on the hub, `random`, or a file: .safetensors, .pth, .h5, .npz, .onnx",
    )
    last_stage: str = _key(
        "",
        "leave out what comes after this stage or group, for vgg16 at other sizes than 224 px its last `block5` (default: nothing)",
    )
    preprocess: str = _key(
        "weights",
        "how images are scaled: as the `weights` were published; or imagenet (its mean and deviation), half (-1 to 1), caffe (BGR)",
        choices=("weights", "imagenet", "half", "caffe"),
    )
    source_profile: str = _key(
        "",
        "what the profile compares your images with: a file of python -m fteng.source (default: what batch norm keeps in the"
        " checkpoint, else the file shipped for these weights, else nothing)",
    )


@dataclass(slots=True)
class DataConfig:
    """The images, how they become square, and how they are split."""

    source: str = _key("folder", "what kind of data", choices=("folder", "table", "isic", "tfds", "idx", "digits"))
    path: str = _key(
        "",
        "folder: of class sub-folders; table: a CSV or Parquet file; isic: what `isic image download` wrote;"
        " idx: folder of the four .gz files; tfds: its data_dir",
    )
    name: str = _key("", "name shown in the report (default: the folder's name); tfds: the data set", decides=False)
    path_column: str = _key("path", "table: column of image files, seen from the table's folder")
    label_column: str = _key("label", "table, tfds: column of the class; isic: any other column in place of benign / malignant")
    group_column: str = _key("group", "table, tfds: column of what a split never cuts, such as the patient (need not exist)")
    split_column: str = _key("split", "table, tfds: column of train, val or test (need not exist; empty: split anew)")
    duplicates: str = _key(
        "identical",
        "images a split never parts, beside groups: of `identical` pixels, or `near` ones too (re-encoded, brightened)",
        choices=("identical", "near"),
    )
    isic_indeterminate: str = _key(
        "leave_out",
        "isic: what an Indeterminate lesion is",
        choices=("leave_out", "benign", "malignant", "own_class"),
    )
    isic_unlabelled: str = _key("leave_out", "isic: what an image without diagnosis is", choices=("leave_out", "benign"))
    isic_image_types: tuple[str, ...] = _key(("dermoscopic",), "isic: image types to use, or none stated (empty: all)")
    isic_confirm_types: tuple[str, ...] = _key((), "isic: only diagnoses confirmed so, for example histopathology (empty: all)")
    image_size: int = _key(224, "pixels, height and width as the network sees them", low=8, high=2048)
    resize: str = _key(
        "squash",
        "how an image becomes square: `crop` is its centre, `weights` the part of it that the weights' own evaluation looks at",
        choices=("squash", "crop", "letterbox", "weights"),
    )
    limit: int = _key(0, "use at most so many images, stratified by class (0: all)", low=0)
    merge: tuple[str, ...] = _key((), "classes to merge, as `new=old1+old2`, for example `defect=local+global`")
    val_fraction: float = _key(0.2, "share of the groups that choose (stage, depth, rate), met on average", low=0.01, high=0.9)
    test_fraction: float = _key(0.3, "share of the groups that take part in no choice, met on average", low=0.01, high=0.9)
    split_by: str = _key(
        "group",
        "what a split never parts; `image` lets groups leak across it: only to see how much that flatters",
        choices=("group", "image"),
    )
    split_seed: int = _key(0, "seed of the train / val / test split", low=0)
    folds: int = _key(0, "cross-validation: the test set is one of so many folds, not test_fraction (0: none)", low=0, high=100)
    fold: int = _key(0, "which of the folds is the test set, from 0", low=0, high=99)
    cache_dir: str = _key("", "where prepared images are kept (default: $FTENG_CACHE, else ~/.cache/fteng)", decides=False)


@dataclass(slots=True)
class SweepConfig:
    """What is tried: every plan at every rate with every seed."""

    freeze_depths: tuple[str, ...] = _key(
        ("0", "all"), "how many leading stages are frozen: numbers, stage or group names (frozen up to and with it), `all`"
    )
    stage_sets: tuple[tuple[str, ...], ...] = _key((), "plans beyond the prefix: sets of stage or group names that train alone")
    leaves: tuple[str, ...] = _key(("all",), "which leaves of the trained stages train", choices=("all", "norm", "bias"))
    taps: tuple[str, ...] = _key(("last",), "stages whose output the head reads: stage or group names, `last`")
    batch_norm: tuple[str, ...] = _key(
        ("keep",),
        "batch norm while training: `keep` the source statistics, `adapt` them to your images first and keep those, in trained"
        " stages follow each `batch`, or in all stages (`batch_all`)",
        choices=("keep", "adapt", "batch", "batch_all"),
    )
    layer_decays: tuple[float, ...] = _key(
        (1.0,), "each stage further from the head learns at the rate of the next times this (1: all alike)", low=0.01, high=1
    )
    unfreezing: tuple[str, ...] = _key(
        ("at_once",),
        "trained stages train `at_once`, or `gradual`ly: the head first, then stage by stage downward over the first half",
        choices=("at_once", "gradual"),
    )
    init: tuple[str, ...] = _key(
        ("pretrained",),
        "what stages start from; controls for what pretraining is worth: `random`, `mean_var` (redrawn with each array's moments)",
        choices=("pretrained", "random", "mean_var"),
    )
    search: str = _key(
        "exhaustive",
        "`exhaustive`: every trial to its end; `race`: all rates at one depth, others at the rates that were best near them, while"
        " they can win on validation; then the depths, rates and seeds beside what would be recommended",
        choices=("exhaustive", "race"),
    )
    cache_gib: float = _key(
        -1.0, "memory for activations of frozen stages, which trials share (negative: 40 % of what is free; 0: none)", high=1e6
    )
    cache_disk_gib: float = _key(
        0.0, "disk for what of them does not fit in memory (negative: a quarter of what is free)", high=1e6
    )
    learning_rates: tuple[float, ...] = _key((1e-3,), "peak learning rates; the best by validation stands for its depth", low=0)
    seeds: tuple[int, ...] = _key((0,), "seeds of batch order, augmentation and head", low=0, high=2**31 - 1)


@dataclass(slots=True)
class TrainConfig:
    """The recipe, the same for all trials of a study."""

    epochs: int = _key(6, "passes over the training images", low=1)
    batch_size: int = _key(32, "images a step", low=1)
    optimizer: str = _key("adamw", "how gradients become steps", choices=("adamw", "sgd"))
    momentum: float = _key(0.9, "sgd: share of the last step that is kept", low=0, high=0.9999)
    weight_decay: float = _key(
        1e-4, "weight decay of trainable kernels, never of biases and norms: decoupled (adamw), or added to gradients (sgd)", low=0
    )
    warmup_fraction: float = _key(0.1, "share of the steps in which the rate rises", low=0, high=0.9)
    schedule: str = _key(
        "cosine", "the rate after the warm-up: falls as a `cosine` to 0, or by `drops` to a tenth", choices=("cosine", "drops")
    )
    drops: tuple[float, ...] = _key((0.5, 0.75), "schedule=drops: at which shares of all steps the rate falls", low=0, high=1)
    clip_norm: float = _key(1.0, "gradients of trainable leaves are clipped to this global norm (0: never)", low=0)
    label_smoothing: float = _key(0.0, "share of the label spread over all classes", low=0, high=0.9)
    augment: tuple[str, ...] = _key(
        (),
        "what is done to training images, in this order (empty: nothing); for skin: crop,dihedral,colour",
        choices=("flip", "dihedral", "shift", "crop", "colour"),
    )
    views: int = _key(
        0,
        "so many augmented views of an image, the same for all trials, take turns from epoch to epoch, which lets frozen stages be"
        " cached; 0: a fresh one at every step",
        low=0,
        high=1000,
    )
    activations: str = _key(
        "float32",
        "precision in which the outputs of frozen stages are handed to what trains; float16 halves a cache, its error is recorded",
        choices=("float32", "float16"),
    )
    mixup: float = _key(
        0.0, "images and labels mixed in pairs by shares from Beta(a, a); this is a (0: not at all)", low=0, high=10
    )
    balance: str = _key(
        "none",
        "rare classes: `weights` in the loss, `sampling` as often as others, `logits` adjusted by class shares in training",
        choices=("none", "weights", "sampling", "logits"),
    )
    head_init: str = _key("probe", "the head starts from the probe's solution or from zero", choices=("probe", "zero"))
    bn_momentum: float = _key(0.9, "share of the old statistics kept at each step where they follow the batch", low=0, high=0.9999)
    checkpoint_every: int = _key(50, "steps between checkpoints", low=1, decides=False)
    devices: int = _key(
        1,
        "devices of each process over which a trial's batches are split, which changes rounding alone (0: all)",
        low=0,
        high=100_000,
        decides=False,
    )
    lanes: int = _key(
        1,
        "trials that share their batches train side by side, each on `devices` devices of its own (devices=0: an equal share)",
        low=1,
        high=100_000,
        decides=False,
    )
    shard_frozen: bool = _key(
        False, "several devices: frozen parameters are split over them too, for networks that one device cannot hold", decides=False
    )


@dataclass(slots=True)
class JudgeConfig:
    """How depths are compared."""

    metric: str = _key(
        "auto",
        "what decides; auto: auc for two classes, else balanced_accuracy",
        choices=("auto", "accuracy", "balanced_accuracy", "auc", "log_loss"),
    )
    margin: float = _key(0.02, "a shallower tuning may be this much worse than the best and still be `not worse`", low=0, high=0.5)
    confidence: float = _key(0.95, "level of all intervals", low=0.5, high=0.999)
    resamples: int = _key(2000, "bootstrap resamples", low=100)
    gradient_images: int = _key(
        0,
        "training images whose gradient is taken before the sweep, for the score RGN (0: none; its program compiles for a while)",
        low=0,
    )
    task: str = _key(
        "",
        "how near your task is to the one the network was trained for, as you see it: shown beside what is measured, and the"
        " folklore's `similar` where nothing of the source is known (empty: not said)",
        choices=("", "similar", "different"),
    )
    pictures: bool = _key(
        True,
        "up to 24 training and 12 test images stand, small, in record and page; false where they must not leave the house",
    )


@dataclass(slots=True)
class LaunchConfig:
    """How `python -m launch.sweep` spreads a study over processes; nothing of it changes a number."""

    workers: int = _key(0, "processes that train at a time (0: one a GPU, without GPU one; slurm: 4)", low=0, high=100_000)
    tries: int = _key(
        3, "how often a unit of trials that breaks is begun, before it is cut into trials and those given up", low=1, high=100
    )
    stall_minutes: float = _key(30.0, "a worker that makes no step for so long is ended, and its unit tried again", low=0.01)
    partition: str = _key("", "slurm: partition (default: the site's)")
    account: str = _key("", "slurm: account")
    constraint: str = _key("", "slurm: features that a node must have")
    time: str = _key("04:00:00", "slurm: limit of one job, after which it saves and queues again, as D-HH:MM:SS")
    gpus: int = _key(0, "slurm: GPUs a node for each job", low=0, high=64)
    cpus: int = _key(2, "slurm: cores a task", low=1, high=1024)
    memory_gib: int = _key(0, "slurm: memory a node (0: the site's default)", low=0)
    nodes: int = _key(1, "slurm: nodes that one job spreads each trial over", low=1, high=1024)


@dataclass(slots=True)
class Config:
    """One study. `experiment` is free text for the report."""

    experiment: str = _key("", "one line for the head of the report")
    backbone: BackboneConfig = dataclasses.field(default_factory=BackboneConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    sweep: SweepConfig = dataclasses.field(default_factory=SweepConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    judge: JudgeConfig = dataclasses.field(default_factory=JudgeConfig)
    launch: LaunchConfig = dataclasses.field(default_factory=LaunchConfig)


_SECTIONS = ("backbone", "data", "sweep", "train", "judge", "launch")


class Key(typing.NamedTuple):
    """One typed key of the schema: its dotted name, field and the dataclass type that holds it."""

    name: str
    field: "dataclasses.Field[Any]"
    type: Any


def every_key() -> Iterator[Key]:
    """Every key of the schema in the order of the file."""
    hints = typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        if field.name not in _SECTIONS:
            yield Key(field.name, field, hints[field.name])
            continue
        section = hints[field.name]
        for inner in dataclasses.fields(section):
            yield Key(f"{field.name}.{inner.name}", inner, typing.get_type_hints(section)[inner.name])


def type_name(annotation: Any) -> str:
    """`int`, `str`, `list of float`, ... for an error line or a help page."""
    if typing.get_origin(annotation) is tuple:
        return f"list of {type_name(typing.get_args(annotation)[0])}"
    return annotation.__name__


def to_dict(config: Config) -> dict[str, Any]:
    """Plain nested dict for JSON: tuples become lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(dataclasses.asdict(config))


def undecided() -> frozenset[str]:
    """Keys that decide on no number."""
    return frozenset(key.name for key in every_key() if not key.field.metadata["decides"])
