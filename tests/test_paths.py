import os
import subprocess
import sys

import pytest

from fteng import paths
from fteng.errors import UserError


def test_write_is_whole_or_absent(tmp_path):
    target = tmp_path / "a" / "x.json"
    paths.write_json(target, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        paths.write_json(target, {"a": float("nan")})
    assert paths.read_json(target) == {"a": 1}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.json"]


def test_who_is_reading_keeps_what_it_began_with(tmp_path):
    file = tmp_path / "record.json"
    paths.write_text(file, "before")
    with file.open() as reader:
        paths.write_text(file, "after")
        assert reader.read() == "before"
    assert file.read_text() == "after"


@pytest.mark.parametrize("content", ["{", "[]", '{"steps": 3}', '{"status": null}'])
def test_a_result_that_does_not_say_how_it_ended_is_named(tmp_path, content):
    where = paths.TrialPaths(tmp_path)
    assert where.status() is None
    where.result.write_text(content)
    with pytest.raises(UserError, match=r"result\.json is .*delete it, and its trial is run again"):
        where.status()
    where.result.write_text('{"status": "done"}')
    assert where.status() == "done"


def test_a_cut_off_file_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"x\.json is not JSON"):
        paths.read_json(tmp_path / "x.json")


def test_digest_is_of_content_not_order():
    assert paths.digest({"a": 1, "b": [2]}) == paths.digest({"b": [2], "a": 1})
    assert paths.digest({"a": 1}) != paths.digest({"a": 1.5})


def test_a_work_directory_has_one_holder(tmp_path):
    code = f"from fteng import paths; import pathlib\nwith paths.work_directory(pathlib.Path({str(tmp_path)!r})): pass"
    with paths.work_directory(tmp_path):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert f"another study (process {os.getpid()}) is running" in second.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_work_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the work directory"), paths.work_directory(tmp_path / "file" / "x"):
        pass
