"""Parts of a study as processes run them: the survey that is cancelled, the watch, and one rank of several that cannot go on."""

import faulthandler
import os
import socket
import subprocess
import sys
import time

import pytest

from fteng import paths
from fteng.config import Config, to_dict
from fteng.errors import Interrupted
from fteng.jobs import run
from fteng.jobs.files import JobFiles
from fteng.paths import StudyPaths
from tests.study_runs import ROOT


@pytest.fixture
def files(tmp_path):
    found = JobFiles(StudyPaths(tmp_path).launch)
    paths.write_json(found.config, {"config": to_dict(Config()), "command": "x"})
    return found


def test_a_survey_stops_where_the_study_is_cancelled(files, monkeypatch):
    def surveying(config, here, command, reporter, should_stop):  # noqa: ARG001 - what run_survey gets
        if should_stop():
            raise Interrupted("nothing")
        return []

    monkeypatch.setattr(run.study, "run_survey", surveying)
    paths.write_text(files.cancelled, "")
    with pytest.raises(Interrupted):
        run.survey(files.root.parent, "w", lambda: False)
    files.cancelled.unlink()
    run.survey(files.root.parent, "w", lambda: False)
    assert files.plan.exists()


@pytest.mark.parametrize("watched", [True, False])
def test_who_is_not_watched_may_stand_still(watched, files, monkeypatch):
    asked = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: asked.append(1))
    monkeypatch.setattr(run.study, "run_survey", lambda *_: [])
    run.survey(files.root.parent, "w", lambda: False, watched=watched)
    assert bool(asked) == watched
    beat = paths.read_json(files.worker("w"))
    # Over: nobody waits for a step of it.
    assert (beat["unit"], beat["at_work"]) == ("survey", False)


@pytest.mark.slow
def test_one_rank_that_cannot_go_on_ends_the_others(files):
    """No plan: the first process alone looks for one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    given = os.environ | {"FTENG_COORDINATOR": address, "FTENG_PROCESSES": "2"}
    command, began = [sys.executable, "-m", "fteng.jobs", str(files.root.parent), "work"], time.monotonic()
    both = [
        subprocess.Popen(command, cwd=ROOT, env=given | {"FTENG_PROCESS": str(index)}, stderr=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert both[0].returncode == 2, said
    assert "holds no plan yet" in said[0]
    assert both[1].returncode != 0
    assert time.monotonic() - began < 60
