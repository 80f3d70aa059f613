"""One cluster at a time. Tests that leave it as good as new share one (`shared`) and run first;
those that hurt it get one of their own (`cluster`)."""

import os
import shutil

import pytest

from cluster import BINARY, Cluster, NODES


class Only:
    """The one cluster that runs."""

    now = None

    @classmethod
    def end(cls):
        cluster, cls.now = cls.now, None
        if cluster:
            cluster.stop()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: "shared" not in item.fixturenames)


def pytest_sessionstart():
    assert BINARY.is_file(), f"{BINARY} is not there: cargo build --release, or set QUIRE_BIN"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and Only.now:
        for node in NODES:
            log = Only.now.dir / node / "log"
            if log.exists():
                lines = log.read_text(errors="replace").splitlines()[-15:]
                report.sections.append((f"log of {node}", "\n".join(lines)))
        report.sections.append(("demo", Only.now.said()[-2000:]))


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory):
    Only.now = Cluster(tmp_path_factory.mktemp("shared") / "c").start()
    yield Only.now


@pytest.fixture
def shared(session_cluster):
    assert Only.now is session_cluster, "a test that shares runs behind one that doesn't"
    return session_cluster


@pytest.fixture
def unstarted(tmp_path):
    """A cluster of the test's own, which it starts itself."""
    Only.end()
    Only.now = Cluster(tmp_path / "c")
    yield Only.now
    try:
        Only.end()
    finally:
        if not os.environ.get("QUIRE_KEEP"):
            shutil.rmtree(tmp_path / "c", ignore_errors=True)


@pytest.fixture
def cluster(unstarted):
    return unstarted.start()


@pytest.fixture
def set_clock(tmp_path, monkeypatch):
    """Sets the wall clock of a node of a cluster that is started later so many ms ahead."""
    directory = tmp_path / "clocks"
    directory.mkdir()
    monkeypatch.setenv("QUIRE_TEST_CLOCKS", str(directory))

    def set_clock(node, ms):
        (directory / "new").write_text(str(ms))
        (directory / "new").rename(directory / node)

    return set_clock


def pytest_sessionfinish():
    Only.end()
