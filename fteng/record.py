"""study.json: what was run, on what, and whether a work directory belongs to the config at hand. Imports no jax at the top."""

import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from fteng import locks, paths
from fteng.config import Config, to_dict, undecided
from fteng.errors import UserError
from fteng.paths import StudyPaths

_PACKAGES = ("fteng", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# What may change between runs of one study: more depths, rates or seeds, another way to judge, other places and paces.
_FREE = ("experiment", "sweep.", "judge.", "launch.", *sorted(undecided()))


def write_study(study: StudyPaths, config: Config, described: dict[str, Any], command: str) -> None:
    """Write study.json, or check that the one there is of the same network, data and recipe and bring its sweep up to date.

    Raises UserError that names the keys in which the work directory differs.
    """
    now = {"config": to_dict(config), **described}
    runs = check_study(study, config, described)["runs"] if study.study.exists() else []
    machine = {"versions": versions(), "device": device(), "cpu": cpu(), "git": git_revision()}
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    paths.write_json(study.study, {**now, **machine, "command": command, "started": started, "runs": runs})


def check_study(study: StudyPaths, config: Config, described: dict[str, Any]) -> dict[str, Any]:
    """study.json as it stands. Raises UserError that names the keys in which it is of another network, data or recipe."""
    before = read_study(study, "config", "weights", "source_profile", "dataset", "runs")
    try:
        _check_same(study, before, {"config": to_dict(config), **described})
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{study.study} is damaged, or another version of fteng wrote it; put it back, or choose another --workdir"
        ) from None
    return before


def read_study(study: StudyPaths, *names: str) -> dict[str, Any]:
    """study.json, which has `names`. Raises UserError where there is none, or a damaged one."""
    if not study.study.exists():
        raise UserError(f"{study.root} holds no study.json; give the --workdir of a study, or start one with python -m fteng.main")
    return paths.read_record(study.study, *names, mend="put it back, or run the study's command again in an empty folder")


def read_survey(study: StudyPaths) -> dict[str, Any]:
    """probes/result.json: `probes`, one row a tap, `chosen`, the tap that stands for them, `profile`, `asked`.

    Raises UserError on a damaged one, or another version's.
    """
    file, mend = study.surveyed, f"delete {study.probes} and run the study again"
    found = paths.read_record(file, "profile", "probes", "chosen", "asked", mend=mend)
    if not found["probes"]:
        raise UserError(f"{file} is damaged (it has no probe); {mend}")
    return found


def append_run(study: StudyPaths, seconds: dict[str, float], kept: list[dict[str, Any]], predicted_bytes: int) -> None:
    """Note what this run of the study took. kept: which activations were cached, and why; predicted_bytes: of memory, see
    `sweep.memory`; 0: none."""
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # Parts of a study may end at the same moment.
    with locks.held(study.study.with_suffix(".lock")):
        value = paths.read_json(study.study)
        taken = {"seconds_by_phase": seconds, "peak_bytes": peak, "predicted_bytes": predicted_bytes, "prefix": kept}
        value["runs"].append({"started": value["started"], **taken})
        paths.write_json(study.study, value)


def _check_same(study: StudyPaths, before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = _flat(before["config"]), _flat(now["config"])
    differing = _differing(old, new)
    differing += [] if before["weights"]["sha256"] == now["weights"]["sha256"] else ["the content of the weights file"]
    if before["weights"]["preprocess"] != json.loads(json.dumps(now["weights"]["preprocess"])):
        differing.append("how the weights want their images")
    same = before["source_profile"].get("sha256") == now["source_profile"].get("sha256")
    differing += [] if same else ["the content of the source profile"]
    if not differing:
        differing += [] if before["dataset"]["digest"] == now["dataset"]["digest"] else ["the images or their split"]
    if differing:
        changes = ", ".join(f"{key} ({old[key]!r} -> {new[key]!r})" if key in old and key in new else key for key in differing)
        raise UserError(
            f"{study.root} holds a study with other settings: {changes}; choose another --workdir, or delete this one to start anew"
        )


def differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Keys, as `key (old -> new)`, in which two configs are not of one study."""
    old, new = _flat(before), _flat(now)
    return [f"{key} ({old.get(key)!r} -> {new.get(key)!r})" for key in _differing(old, new)]


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and not key.startswith(_FREE)]


def _flat(nested: dict[str, Any], head: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{head}{name}.") if isinstance(value, dict) else {f"{head}{name}": value}
    return flat


def versions() -> dict[str, str]:
    """Of Python and the packages that decide numbers."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _PACKAGES}


def device() -> str:
    """Number and kind of the accelerators, for example `1 x cpu`."""
    import jax

    found = jax.devices()
    return f"{len(found)} x {found[0].device_kind}"


def cpu() -> str:
    """Model name and number of the cores this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor()}, {cores} cores"


def git_revision() -> str:
    """Commit of the source tree, `+` where it has uncommitted changes; `none` outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
