"""What the source head says of the data: the classes it sees, how sure it is, and of what use its answer is."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image
from scipy.special import softmax

from fteng.similarity.classes import label_entropy, seen_classes
from fteng.similarity.leep import leep
from fteng.similarity.ridge import gram, out_of_fold
from fteng.similarity.source_names import source_names
from fteng.similarity.stages import Chosen, judged
from fteng.similarity.zero import band
from fteng.undefined import UndefinedError, stated

_THUMBNAIL = 96
_DEALT = 20
_NO_SHARE: dict[str, Any] = {"zero": None}
_NO_HEAD = "the weights have no source head"


def source_answers(
    features: Shaped[np.ndarray, "n c"], kernel: Float[np.ndarray, "f z"], bias: Float[np.ndarray, "z"]
) -> Float[np.ndarray, "n z"]:
    """Logits of the source head, which reads the first f features of the last tap."""
    return features[:, : len(kernel)] @ kernel + bias


def ask_source_head(
    logits: Float[np.ndarray, "n z"] | None,
    many: Chosen,
    few: Chosen,
    classes: Sequence[str],
    metric: str,
    ids: Shaped[np.ndarray, "n"],
    images: Shaped[np.ndarray, "n h w 3"] | None,
) -> dict[str, Any]:
    """logits, ids, images: of all images of the data set; without images no example is shown. leep: nats; useful: the share of the
    labels' entropy that LEEP explains, beside its zero, as LEEP is reckoned from the images that it explains; classifier: the
    metric of a cross-validated ridge classifier on the head's probabilities alone."""
    if logits is None or not np.isfinite(logits[many.rows]).all():
        reason = _NO_HEAD if logits is None else "the source head's answers are not finite"
        nothing = {"value": None, "reason": reason}
        return {
            "seen": [],
            "about": reason,
            "entropy": nothing,
            "leep": nothing,
            "useful": _NO_SHARE | nothing,
            "classifier": nothing,
        }
    names, about = source_names(logits.shape[1])
    seen = seen_classes(logits[many.rows], many.labels, names, classes)
    memberships = np.asarray(softmax(logits.astype(np.float64), axis=1))

    def classifier() -> float:
        if not few.folds or len(np.unique(few.labels)) < 2:
            raise UndefinedError("cross-validation needs two classes and two groups of images")
        return judged(metric, few.labels, out_of_fold(gram(memberships[few.rows]), few.labels, few.folds))

    shown = []
    for entry in seen.classes:
        likest = entry.pop("rows")
        examples = [
            {
                "id": str(ids[many.rows[place]]),
                "label": classes[int(many.labels[place])],
                "jpeg": thumbnail(images[many.rows[place]]),
            }
            for place in likest
            if images is not None
        ]
        shown.append(entry | {"examples": examples})
    return {
        "seen": shown,
        "about": about,
        "entropy": {"value": seen.entropy, "reason": ""},
        "leep": stated(lambda: leep(memberships[many.rows], many.labels)),
        "useful": _useful(memberships[many.rows], many),
        "classifier": stated(classifier),
    }


def _useful(memberships: Float[np.ndarray, "n z"], chosen: Chosen) -> dict[str, Any]:
    """The share of the labels' entropy that LEEP explains. Its zero: what it explains of labels that groups have exchanged, where
    each group has one class.
    """

    def share(labels: Int[np.ndarray, "n"]) -> float:
        entropy = label_entropy(labels)
        if entropy <= 0:
            raise UndefinedError("needs two classes")
        return 1 + leep(memberships, labels) / entropy

    found = _NO_SHARE | stated(lambda: share(chosen.labels))
    if found["value"] is None:
        return found
    _, first, member = np.unique(chosen.groups, return_index=True, return_inverse=True)
    of_groups = chosen.labels[first]
    # Groups of several classes would become pure, which is another task.
    if not np.array_equal(of_groups[member], chosen.labels):
        return found
    rng = np.random.default_rng(0)
    drawn = [share(rng.permutation(of_groups)[member]) for _ in range(_DEALT)]
    return found | {"zero": band(np.array(drawn))._asdict()}


def thumbnail(image: Shaped[np.ndarray, "h w 3"]) -> str:
    """A small JPEG as base64, for a page that holds everything it shows."""
    small = Image.fromarray(np.asarray(image))
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
