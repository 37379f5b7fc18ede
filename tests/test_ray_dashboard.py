"""The dashboard of a job's own Ray, which comes up beside the work."""

import contextlib
import logging
import urllib.request
from collections.abc import Iterator

import psutil
import pytest
import ray
from ray._private import ray_constants
from ray._private.worker import get_dashboard_url

from raypt.ray_dashboard import wait_for_dashboard
from raypt.ray_session import RaySection, session

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _own_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "raypt"):
        yield caplog


def dashboards() -> set[int]:
    """Processes of this one that are dashboards of Ray."""
    out = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "dashboard.py" in " ".join(process.cmdline()):
                out.add(process.pid)
    return out


def test_work_begins_before_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    # A dashboard that Ray cannot find: it looks for it for as long as that.
    monkeypatch.setattr(ray_constants, "DASHBOARD_ADDRESS", b"nowhere")
    monkeypatch.setattr(ray_constants, "RAY_DASHBOARD_STARTUP_TIMEOUT_S", 6)
    with session(RaySection(num_cpus=1)):
        assert ray.get(ray.put(1)) == 1
        assert get_dashboard_url() is None


def test_it_answers_where_it_is_said_to_be_and_ends_with_the_job(said: pytest.LogCaptureFixture) -> None:
    before = dashboards()
    with session(RaySection(num_cpus=1)):
        wait_for_dashboard()
        url = f"http://{get_dashboard_url()}"
        assert f"Ray's dashboard: {url}" in said.messages
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
        assert dashboards() > before
    assert dashboards() == before


def test_nothing_is_said_of_one_that_was_not_asked_for(said: pytest.LogCaptureFixture) -> None:
    with session(RaySection(num_cpus=1, dashboard=False)):
        wait_for_dashboard()
        assert not any("Ray's dashboard" in message for message in said.messages)


def test_a_job_goes_on_without_one_that_does_not_start(
    said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_constants, "RAY_DASHBOARD_STARTUP_TIMEOUT_S", 0)
    with session(RaySection(num_cpus=1)):
        wait_for_dashboard()
        assert any("Ray's dashboard did not start" in message for message in said.messages)
        assert ray.get(ray.put(1)) == 1
