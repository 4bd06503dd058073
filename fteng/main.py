"""Run a study: how similar are my data to what the network saw, and how deep should I fine-tune?

    python -m fteng.main --config=configs/demo.py --workdir=runs/demo [--config.KEY=VALUE ...] [--dry_run]

A study profiles the data under the network, probes every stage, trains at every freeze depth, and ends with a page that says
which depth to use: WORKDIR/report/index.html. Stopped at any point (Ctrl-C, SIGTERM, a crash), the same command goes on where
it was. Finished trials are never run again, so adding depths, rates or seeds to a config and running again trains only those.

Bring your own images: a folder with one sub-folder a class, then

    python -m fteng.main --config=configs/folder.py --config.data.path=MY_IMAGES --workdir=runs/mine
"""

import io
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from absl import flags

from fteng import command_line, distributed
from fteng import config as schema
from fteng.errors import Interrupted, UserError, says_user_errors
from fteng.process import DISK_ERRORS, STOPPED, begin_with_huge_pages, prepare_process, stop_on_signal

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this study; made if it is not there.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would be run and what each trial would cost, then stop.")


@says_user_errors
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 2 the user can mend it (one line says what), 143 stopped on request with everything saved."""
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(argv[1:]):
        print(help_text())
        return 0
    try:
        config = command_line.parse(argv)
        if not _WORKDIR.value:
            raise UserError("--workdir is missing; give a folder for this study, for example --workdir=runs/demo")
        return _run(config, Path(str(_WORKDIR.value)).expanduser(), shlex.join(["python", "-m", "fteng.main", *argv[1:]]))
    except KeyboardInterrupt:
        print("fteng: stopped at once; the same command goes on from the last checkpoint", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = error.filename or _WORKDIR.value
        advice = "finished trials are kept: make room, run the same command again"
        print(f"fteng: {error.strerror} ({where}); {advice}", file=sys.stderr)
        return 2


def help_text() -> str:
    """What `--help` prints: the docstring above, the flags, and every key of a config."""
    lines = [str(__doc__), "Flags:"]
    for name in ("config", _WORKDIR.name, _DRY_RUN.name):
        lines.append(f"  --{name:<28} {flags.FLAGS[name].help}")
    lines += ["", "Keys of a config, as --config.KEY=VALUE; a list is written 0,4,all:"]
    for key in schema.every_key():
        choices = key.field.metadata["choices"]
        allowed = "|".join(choices) if choices else schema.type_name(key.type)
        default = ",".join(map(str, key.field.default)) if isinstance(key.field.default, tuple) else key.field.default
        lines.append(f"  {key.name:<24} {key.field.metadata['help']} [{allowed}; default: {default!r}]")
    return "\n".join(lines)


def _run(config: schema.Config, workdir: Path, command: str) -> int:
    """Imports the heavy half only now, so that --help and a mistyped key answer at once."""
    started = time.perf_counter()
    prepare_process(config)
    distributed.start()
    from fteng import bill, ground, page, paths, study, summary
    from fteng.progress import PlainReporter, make_reporter

    reporter = make_reporter() if distributed.is_main() else PlainReporter(io.StringIO())
    try:
        if _DRY_RUN.value:
            print(bill.bill(ground.lay_ground(config, reporter), paths.StudyPaths(workdir), reporter))
            return 0
        alone = paths.work_directory(workdir) if distributed.is_main() else nullcontext(paths.StudyPaths(workdir))
        with alone as files:
            study.run(config, files, command, reporter, distributed.agreed(stop_on_signal()))
            if not distributed.is_main():
                distributed.wait()
                return 0
            collected = page.make_page(files, reporter)
            reporter.close()
        distributed.wait()
    except Interrupted as stopped:
        reporter.stop()
        if distributed.is_main():
            print(f"fteng: stopped, {stopped}; the same command goes on from there", file=sys.stderr)
        return STOPPED
    except BaseException:
        reporter.stop()
        raise
    print(summary.headline(collected))
    print(f"report: {files.page.resolve()}   ({time.perf_counter() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    begin_with_huge_pages()
    sys.exit(distributed.leave(main(sys.argv)))
