"""The demo itself: it says what is wrong, and leaves nothing behind."""

import signal
import socket
import subprocess
import time

from cluster import BASE_PORT, BINARY, NODES, eventually


def test_a_port_that_is_taken_is_named(unstarted):
    with socket.create_server(("127.0.0.1", BASE_PORT + 3)):
        try:
            unstarted.start()
            raise AssertionError("it started on a port that is taken")
        except AssertionError as error:
            assert f"port {BASE_PORT + 3}" in str(error) and "--base-port" in str(error), error
    assert not any(unstarted.pid(node) for node in NODES)


def test_a_second_demo_is_told_of_the_first(cluster):
    second = subprocess.run(
        [BINARY, "demo", "--dir", str(cluster.dir), "--base-port", str(BASE_PORT)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 1 and not second.stdout, second
    assert second.stderr.startswith(f"quire: another demo runs in {cluster.dir}"), second.stderr


def test_stopped_twice_and_started_again(unstarted):
    for n in range(3):
        unstarted.start()
        client = unstarted.redis("us-1")
        assert client.get("times") == (str(n) if n else None)
        client.incr("times")
        unstarted.demo.send_signal(signal.SIGINT)
        began = time.monotonic()
        unstarted.demo.wait(10)
        assert time.monotonic() - began < 5.5
        assert unstarted.demo.returncode == 0 and "stopped" in unstarted.said()
        unstarted.stop()


def test_nodes_end_with_a_demo_that_was_killed(cluster):
    cluster.demo.kill()
    cluster.demo.wait()
    eventually(lambda: not any(cluster.pid(node) for node in NODES), 6, "the nodes end")
