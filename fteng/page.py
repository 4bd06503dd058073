"""The end of a study: from the records to the page, where it is not of these very records already."""

from typing import Any

from fteng import explain, report, summary
from fteng.paths import StudyPaths
from fteng.progress import Reporter


def make_page(files: StudyPaths, reporter: Reporter) -> dict[str, Any]:
    """The summary of the page. Raises UserError where there is no study."""
    collected = summary.current(files)
    if collected is None:
        reporter.phase("report", 1)
        collected = summary.collect(files.root)
        explain.explain(files, collected, reporter)
        collected["explained"] = summary.explained(files, collected["explainable"])
        reporter.phase("page", 1)
        report.write(files.report, collected)
        reporter.advance(1)
    return collected
