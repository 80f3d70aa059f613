"""The primary's disk is full: writes are refused, reads go on, and so does it once there is room."""

import os
import subprocess

import pytest
import redis

from cluster import NODES, eventually

SIZE_MB = 256


@pytest.fixture
def small_disk(unstarted):
    """us-1's data on a file system of its own."""
    data = unstarted.dir / "us-1" / "data"
    data.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "quire-test", data],
        capture_output=True, text=True,
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield data
    unstarted.stop()
    subprocess.run(["umount", "-l", data], check=True)


def test_full_disk(small_disk, unstarted):
    cluster = unstarted.start()
    us1 = cluster.redis("us-1")
    far = cluster.redis("eu-1")
    us1.set("before", 1)
    ballast = small_disk / "ballast"
    with open(ballast, "wb") as file:
        chunk = b"x" * (1 << 20)
        left = os.statvfs(small_disk)
        for _ in range(left.f_bavail * left.f_bsize // len(chunk) - 2):
            file.write(chunk)
    acknowledged, error = {}, None
    for n in range(4000):
        try:
            us1.set(f"fill:{n}", f"{n}:" + "y" * 100_000)
            acknowledged[f"fill:{n}"] = n
        except redis.ResponseError as refused:
            error = str(refused)
            if error.startswith("MISCONF"):
                break
            # The one that found the disk full.
            assert error.startswith("UNKNOWN") and "full" in error, error
    assert error and error.startswith("MISCONF") and "full" in error, error
    # Refused here and from elsewhere, not shown, and read as ever.
    with pytest.raises(redis.ResponseError, match="^MISCONF"):
        far.set("far", 1)
    with pytest.raises(redis.ResponseError, match="^MISCONF"):
        us1.set("before", 2)
    assert us1.get("before") == "1" and us1.ping()
    for key, n in acknowledged.items():
        assert us1.get(key).startswith(f"{n}:"), key
    assert "err" in us1.info("persistence")["aof_last_write_status"]
    eventually(lambda: far.get("before") == "1", 5, "eu-1 reads")
    assert cluster.status("us-1") and cluster.pid("us-1")

    ballast.unlink()
    eventually(lambda: us1.set("after", 1), 10, "writes go on once there is room")
    assert us1.get("before") == "1"
    cluster.caught_up()
    # It was no accident: everything is there after a crash as well.
    cluster.kill("us-1")
    cluster.server("us-1")
    again = cluster.redis("us-1")
    eventually(lambda: again.set("again", 1), 15, "writes go on")
    for key, n in acknowledged.items():
        assert again.get(key).startswith(f"{n}:"), key
    assert again.get("after") == "1"
    for node in NODES:
        client = cluster.redis(node)
        eventually(lambda: client.get("again") == "1", 10, f"{node} catches up")
    cluster.caught_up()
