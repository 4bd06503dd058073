"""Weights of a hub repository in timm's form: the file of the weights, and what its config.json says of the network.

`hf:timm/vgg16.tv_in1k` or `hf:timm/vgg16.tv_in1k@REVISION`. huggingface_hub fetches and keeps what it fetched; its variables
(HF_HUB_OFFLINE, HF_HOME, HF_TOKEN, HF_ENDPOINT) are obeyed.
"""

import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fteng.backbones.files.extra import need
from fteng.errors import UserError

_REFERENCE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
# The second is a pickle, which our reader reads without running it; taken only where the first is not there.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CONFIG = "config.json"
_BY_HAND = "or download the file elsewhere and give its path"
# How images can be resized here.
_INTERPOLATIONS = ("bicubic", "bilinear")


class HubFile(NamedTuple):
    """path: the weights in the hub's cache.

    config: `architecture` (timm's name), `mean` and `std` (3 floats, of pixels in 0..1, RGB), `input_size` (channels, height,
    width), `interpolation` (bicubic or bilinear) and `crop_pct` (in 0..1, excluding 0).
    """

    path: Path
    config: dict[str, Any]


def fetch(reference: str) -> HubFile:
    """The files of a reference, from the cache where they are there. Raises UserError of one line for everything that fails."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UserError(f"backbone.weights={reference!r} is no hub reference; write hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    repository, revision = match["repository"], match["revision"] or "main"
    need("huggingface_hub", "hub", f"backbone.weights={reference}")
    path = _download(reference, repository, revision, _WEIGHTS)
    # The cache is snapshots/COMMIT/FILE. Both files are taken from one commit, whatever `main` is a moment later.
    commit = path.parent.name
    config = _read_config(reference, _download(reference, repository, commit, (_CONFIG,)))
    return HubFile(path, config)


def _download(reference: str, repository: str, revision: str, names: tuple[str, ...]) -> Path:
    """The first of the files that the repository has."""
    import httpx2
    from huggingface_hub import constants, errors, hf_hub_download

    # It tells of every attempt, twice; what came of them is our one line. Its import sets the level anew.
    for chatty in ("huggingface_hub", "httpx2", "httpcore2"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)

    what = f"backbone.weights={reference}"
    unanswered: Exception | None = None
    for name in names:
        try:
            # A hub that did not answer for one file, after many attempts, is not asked for another.
            return Path(hf_hub_download(repository, name, revision=revision, local_files_only=unanswered is not None))
        # Before its parents: a gated repository is also a missing one, a missing local entry also a missing one.
        except errors.GatedRepoError:
            raise UserError(
                f"{what}: access to {repository} is granted on request only; ask for it on its page and set HF_TOKEN, {_BY_HAND}"
            ) from None
        except errors.RepositoryNotFoundError:
            raise UserError(
                f"{what}: the hub has no repository {repository}, or it is private; check the name, set HF_TOKEN, {_BY_HAND}"
            ) from None
        except errors.RevisionNotFoundError:
            raise UserError(f"{what}: {repository} has no revision {revision!r}; give a branch, tag or commit of it") from None
        except errors.LocalEntryNotFoundError as error:
            unanswered = unanswered or error
        except errors.EntryNotFoundError:
            continue
        except errors.HFValidationError as error:
            raise UserError(f"{what}: {_line(error)}; write hf:OWNER/NAME or hf:OWNER/NAME@REVISION") from None
        except (errors.HfHubHTTPError, httpx2.HTTPError, OSError) as error:
            raise UserError(f"{what}: cannot fetch {name} ({_line(error)}); try again, {_BY_HAND}") from None
    wanted = " or ".join(names)
    if unanswered is None:
        raise UserError(f"{what}: {repository} has no {wanted} at revision {revision}; take another repository, {_BY_HAND}")
    reason = _line(unanswered.__cause__ or unanswered)
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub did not answer ({reason})"
    raise UserError(f"{what}: {why} and {wanted} is not in the cache {constants.HF_HUB_CACHE}; go online once, {_BY_HAND}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read_config(reference: str, path: Path) -> dict[str, Any]:
    """The fields we need of timm's config.json, each judged: nothing of them is guessed."""
    problem = f"backbone.weights={reference}: its {_CONFIG}"
    instead = "take a repository in timm's form, or download the weights and give their path"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{problem} is not JSON ({_line(error)}); {instead}") from None
    if not isinstance(config, dict):
        raise UserError(f"{problem} is not an object; {instead}")
    # Before 2023 timm wrote the fields without a group.
    fields = config.get("pretrained_cfg", config)
    if not isinstance(fields, dict):
        raise UserError(f"{problem} has a pretrained_cfg that is not an object; {instead}")
    found = {name: (config if name == "architecture" else fields).get(name) for name in _JUDGES}
    for name, (judge, allowed) in _JUDGES.items():
        if not judge(found[name]):
            raise UserError(f"{problem} has {name}={found[name]!r:.80}, allowed: {allowed}; {instead}")
    # Left out = center, timm's rule.
    if fields.get("crop_mode", "center") != "center":
        raise UserError(f"{problem} has crop_mode={fields['crop_mode']!r:.80}, allowed: center; {instead}")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_number(number) for number in value)


_JUDGES: Mapping[str, tuple[Any, str]] = {
    "architecture": (lambda value: isinstance(value, str) and value != "", "timm's name of the network"),
    "mean": (_is_triple, "three numbers"),
    "std": (lambda value: _is_triple(value) and min(value) > 0, "three positive numbers"),
    "input_size": (
        lambda value: _is_triple(value) and all(isinstance(number, int) and number > 0 for number in value),
        "channels, height and width",
    ),
    "interpolation": (lambda value: value in _INTERPOLATIONS, ", ".join(_INTERPOLATIONS)),
    "crop_pct": (lambda value: _is_number(value) and 0 < value <= 1, "a number above 0, at most 1"),
}
