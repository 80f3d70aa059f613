"""What ships beside the binary: the unit, the Containerfile, the example of a configuration, and
what the Debian package is made of. Nothing of it is built here."""

import pathlib
import signal
import subprocess
import sys
import tomllib
import urllib.request

from cluster import BINARY, eventually

ROOT = pathlib.Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"


def test_systemd_takes_the_unit(tmp_path):
    unit = tmp_path / "quire.service"
    unit.write_text((PACKAGING / "quire.service").read_text().replace("/usr/bin/quire", str(BINARY)))
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60
    )
    assert (told.returncode, told.stderr) == (0, "")


def test_a_linter_finds_nothing_in_the_containerfile():
    hadolint = pathlib.Path(sys.executable).parent / "hadolint"
    told = subprocess.run(
        [hadolint, PACKAGING / "Containerfile"], capture_output=True, text=True, timeout=60
    )
    assert (told.returncode, told.stdout) == (0, "")


def test_the_example_starts_a_node(tmp_path):
    text = (PACKAGING / "node.toml").read_text().replace("/var/lib/quire", str(tmp_path / "data"))
    for port in ("001", "021", "041"):
        text = text.replace(f"127.0.0.1:7{port}", f"127.0.0.1:19{port}")
    config = tmp_path / "node.toml"
    config.write_text(text)
    with open(tmp_path / "log", "wb") as log:
        node = subprocess.Popen([BINARY, "server", "--config", config], stdout=log, stderr=log)
    try:

        def is_healthy():
            try:
                with urllib.request.urlopen("http://127.0.0.1:19041/health", timeout=1) as reply:
                    return reply.status == 200
            except OSError:
                return False

        eventually(is_healthy, 30, "the node is healthy")
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=30) == 0
    finally:
        node.kill()


def test_what_the_debian_package_is_made_of_is_there(tmp_path):
    package = tomllib.loads((ROOT / "crates/quire/Cargo.toml").read_text())["package"]
    deb = package["metadata"]["deb"]
    missing = []
    for source, _, _ in deb["assets"]:
        # The binary, and what it makes of itself (deb.sh).
        if not source.startswith(("target/", "../../packaging/made/")):
            found = list((ROOT / "crates/quire").glob(source))
            missing += [] if found else [source]
    assert missing == []
    assert (ROOT / "crates/quire" / deb["license-file"][0]).is_file()
    subprocess.run([BINARY, "man", tmp_path], check=True, timeout=60)
    assert (tmp_path / "quire-server.1").stat().st_size > 500
    for shell in ("bash", "zsh", "fish"):
        script = subprocess.run(
            [BINARY, "completions", shell], check=True, capture_output=True, timeout=60
        )
        assert b"keyspace" in script.stdout
