"""The curves of a study's trials for the tools people watch training with: `python -m fteng.events WORKDIR`. Imports no jax.

What a trial tells is read from its files, so a study that runs, or ended months ago, is told alike, and training waits for nobody.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fteng import paths, steer
from fteng.errors import UserError, says_user_errors
from fteng.paths import StudyPaths, TrialPaths
from fteng.race.record import read_race
from fteng.record import read_study

_HELP = """\
Tell a study's trials to a tracking tool: loss and validation scores of every epoch, test scores at the end. The study may still be
running: give the command again, or --follow, and what is new is added.

  tensorboard   event files, written without TensorFlow (pip install 'fteng[tracking]'); look at them with: tensorboard --logdir=OUT
  mlflow        a run for each trial in the store of MLFLOW_TRACKING_URI (pip install 'fteng[mlflow]')
  wandb         a run for each trial; offline with WANDB_MODE=offline (pip install 'fteng[wandb]')
"""
_EXAMPLE = """\
example:
  python -m fteng.events runs/digits
  tensorboard --logdir=runs/digits/events
"""
_SECONDS_BETWEEN_LOOKS = 10.0


class Line(NamedTuple):
    """What is told of one step: numbers by name, such as `val/auc`."""

    step: int
    values: Mapping[str, float]


class News(NamedTuple):
    """What a trial has said since it was last told of. folder: for the tool's files, there already; settings: `id` and what else
    study.json says of the trial; study: a name; ended: nothing will follow."""

    folder: Path
    settings: Mapping[str, Any]
    study: str
    lines: Sequence[Line]
    ended: bool


Tell = Callable[[News], None]


@says_user_errors
def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.events", description=_HELP, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the --workdir of a study, running or finished")
    parser.add_argument("--to", choices=tuple(TOOLS), default="tensorboard", help="the tool (default: tensorboard)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write below (default: WORKDIR/events)")
    parser.add_argument("--follow", action="store_true", help="go on until every trial has ended")
    given = parser.parse_args(arguments)
    out = given.out or given.workdir / "events"
    try:
        while True:
            told, running = tell_study(given.workdir, out, TOOLS[given.to])
            print(f"{told} new lines in {out}; {running} trials have not ended", flush=True)
            if not given.follow or not running:
                return 0
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    except KeyboardInterrupt:
        return 0


def tell_study(workdir: Path, out: Path, tell: Tell) -> tuple[int, int]:
    """Tell what every trial has said since the last call with the same `out`; returns (new lines, trials that have not ended).

    Raises UserError where there is no study, the tool is not installed or `out` cannot be written.
    """
    study = StudyPaths(workdir)
    told = running = 0
    record = read_study(study, "trials", "config")
    race = read_race(study, record)
    # Of a race that is over, those without a result never get one.
    never = {*steer.read(study).stopped, *(race["trials"] if race and race["over"] else ())}
    for row in record["trials"]:
        trial = study.trial(row["id"])
        # Before the lines: a trial that ends in between is told whole at the next look.
        ended = trial.result.exists()
        running += not (ended or row["id"] in never)
        told += _tell_trial(trial, News(out / row["id"], row, workdir.resolve().name, (), ended), tell)
    return told, running


def _tell_trial(trial: TrialPaths, news: News, tell: Tell) -> int:
    seen, again = news.folder / "told.json", f"delete {news.folder} to tell its trial anew"
    before = paths.read_record(seen, "step", "status", mend=again) if seen.exists() else {"step": -1, "status": ""}
    lines = [line for line in read_lines(trial.metrics) if line.step > before["step"]]
    # One that was stopped may go on later, and end otherwise.
    result = trial.read_result("status", "steps", "test") if news.ended else None
    status = before["status"] if result is None else result["status"]
    if result is not None and status != before["status"]:
        lines.append(Line(result["steps"], _numbers("test", result["test"])))
    if not lines:
        return 0
    try:
        news.folder.mkdir(parents=True, exist_ok=True)
        tell(news._replace(lines=lines))
        paths.write_json(seen, {"step": lines[-1].step, "status": status})
    except OSError as error:
        raise UserError(f"--out: cannot write to {news.folder} ({error.strerror}); make room, or name another folder") from None
    return len(lines)


def read_lines(metrics: Path) -> list[Line]:
    """The whole lines of a trial's metrics.jsonl; none where there is no file yet. One that is being written is left for later."""
    if not metrics.exists():
        return []
    lines = []
    for text in metrics.read_text(encoding="utf-8").splitlines():
        try:
            value = json.loads(text)
            lines.append(Line(value["step"], {"loss": value["loss"]} | _numbers("val", value["val"])))
        except (ValueError, KeyError, TypeError):
            break
    return lines


def _numbers(split: str, metrics: Mapping[str, float | None]) -> dict[str, float]:
    """What is undefined is not told."""
    return {f"{split}/{name}": value for name, value in metrics.items() if value is not None}


def _tensorboard(news: News) -> None:
    """An event file of these lines beside those of earlier calls."""
    writers = _need("tensorboardX.event_file_writer", "tracking")
    event_pb2, summary_pb2 = (_need(f"tensorboardX.proto.{name}_pb2", "tracking") for name in ("event", "summary"))
    # Names go by the second, and two calls may fall into one.
    writer = writers.EventsWriter(str(news.folder / "events"), f".{news.lines[-1].step}.{os.getpid()}")
    now = time.time()
    for line in news.lines:
        values = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in line.values.items()]
        writer.write_event(event_pb2.Event(wall_time=now, step=line.step, summary=summary_pb2.Summary(value=values)))
    writer.close()


def _mlflow(news: News) -> None:
    """A run of an experiment called like the study; later lines go to the same run."""
    tracking, entities = _need("mlflow.tracking", "mlflow"), _need("mlflow.entities", "mlflow")
    client, kept, now = tracking.MlflowClient(), news.folder / "mlflow.json", int(time.time() * 1000)
    if not kept.exists():
        found = client.get_experiment_by_name(news.study)
        experiment = found.experiment_id if found else client.create_experiment(news.study)
        run = client.create_run(experiment, run_name=news.settings["id"]).info.run_id
        client.log_batch(run, params=[entities.Param(name, str(value)) for name, value in news.settings.items()])
        paths.write_json(kept, {"run": run})
    run = paths.read_json(kept)["run"]
    for line in news.lines:
        client.log_batch(run, [entities.Metric(name, value, now, line.step) for name, value in line.values.items()])
    if news.ended:
        client.set_terminated(run)


def _wandb(news: News) -> None:
    """A run of a project called like the study; later lines go to the same run, offline as one more folder to sync."""
    wandb = _need("wandb", "wandb")
    id_ = paths.digest([str(news.folder.resolve()), news.settings["id"]])[:16]
    settings = wandb.Settings(silent=True)
    run = wandb.init(
        project=news.study,
        id=id_,
        name=news.settings["id"],
        dir=str(news.folder),
        resume="allow",
        config=dict(news.settings),
        settings=settings,
    )
    for line in news.lines:
        # Validation and test scores of the last step are two lines of one step.
        run.log(dict(line.values), step=line.step)
    run.finish()


TOOLS: Mapping[str, Tell] = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def _need(module: str, extra: str) -> Any:
    """The module. Raises UserError that says what brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f"{package} cannot be imported ({error}); pip install 'fteng[{extra}]'") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
