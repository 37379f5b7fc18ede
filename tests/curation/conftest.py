"""Lists the figures that the tests of curation measured at the end of the run."""

import pytest

from tests.curation.figures import FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("measured on labelled text")
        for line in FIGURES:
            terminalreporter.write_line(line)
