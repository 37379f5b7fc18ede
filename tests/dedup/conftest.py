from collections.abc import Callable

import pytest

TABLES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def show(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Have a table of measured figures printed at the end of the test run."""
    return pytestconfig.stash.setdefault(TABLES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tables = config.stash.get(TABLES, [])
    if tables:
        terminalreporter.section("deduplication, measured")
        terminalreporter.write_line("\n\n".join(tables))
