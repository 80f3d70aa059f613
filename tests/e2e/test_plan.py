"""The planner as people meet it: it needs no cluster."""

import json
import pathlib
import re
import subprocess
import tomllib
import xml.etree.ElementTree as xml

import pytest

from cluster import BINARY
from test_cli import COLUMNS, on_terminal, run, widest


def test_a_preset_is_printed_edited_and_answered(tmp_path):
    printed = run("plan", "--preset", "reference", "--print")
    assert printed.returncode == 0
    plan = tmp_path / "plan.toml"
    plan.write_text(printed.stdout)
    answer, of_preset = (run("plan", file) for file in (plan, "--preset=reference"))
    assert (answer.returncode, answer.stdout) == (0, of_preset.stdout)
    assert "KEYSPACE CREATE profiles ACK async PLACE us=1,eu=1,asia=1" in answer.stdout

    plan.write_text(printed.stdout.replace("asia = 410.0", "asia = 100.0"))
    refused = run("plan", plan)
    assert refused.returncode == 1
    assert "promises.write_ms_max.asia = 401 (it is 100)" in refused.stdout


def test_a_layout_is_judged_with_what_is_claimed_of_it(tmp_path):
    judged = run("plan", "check", "--preset", "reference-as-drawn", "--json")
    assert judged.returncode == 1
    document = json.loads(judged.stdout)
    assert document["layout"]["replication_factor"] == 7
    assert {f["kind"] for f in document["findings"]} == {"broken", "claim", "note"}

    layout = tmp_path / "layout.toml"
    printed = run("plan", "check", "--preset", "reference-as-drawn", "--print").stdout
    layout.write_text(printed.replace('preset = "reference"', ""))
    nowhere = run("plan", "check", layout)
    assert nowhere.returncode == 1 and "add --plan FILE.toml" in nowhere.stderr
    plan = tmp_path / "plan.toml"
    plan.write_text(run("plan", "--preset", "reference", "--print").stdout)
    again = json.loads(run("plan", "check", layout, "--plan", plan, "--json").stdout)
    assert again == document


@pytest.mark.parametrize(
    "command", ["plan --preset reference", "plan --help", "plan check --help"]
)
def test_what_is_shown_fits_80_columns(command):
    assert widest(on_terminal(*command.split())) <= COLUMNS


def test_a_report_is_one_file_whose_drawings_can_be_read(tmp_path):
    page = tmp_path / "plan.html"
    assert run("plan", "--preset", "reference", "--report", page).returncode == 0
    text = page.read_text()
    assert "http" not in text and "src=" not in text
    drawings = ["<svg" + part.split("</svg>")[0] + "</svg>" for part in text.split("<svg")[1:]]
    # A map and bars for each of the three best.
    assert len(drawings) == 6
    for drawing in drawings:
        xml.fromstring(drawing)


def test_wrong_calls_say_what_to_do(tmp_path):
    assert "--preset reference --print" in (alone := run("plan")).stderr
    assert alone.returncode == 2
    assert "use reference" in run("plan", "--preset", "mars").stderr
    missing = run("plan", tmp_path / "none.toml")
    assert missing.returncode == 1 and "can't read" in missing.stderr
    bad = tmp_path / "bad.toml"
    printed = run("plan", "--preset", "reference", "--print").stdout
    bad.write_text(printed.replace("writes_per_s = 10000.0", "writes_per_s = -1"))
    said = run("plan", bad).stderr
    assert "load.writes_per_s is -1: give 0 or more" in said and "bad.toml" in said


def test_a_plan_is_written_and_what_was_written_is_sound(tmp_path):
    there = tmp_path / "deployment"
    written = run("plan", "--preset", "reference", "--write", there, "--domain", "db.example")
    assert written.returncode == 0 and f"demo --plan {there}/demo.toml" in written.stdout
    nodes = sorted(path.parent.name for path in there.glob("nodes/*/node.toml"))
    assert nodes == [f"{region}-{n}" for region in ("asia", "eu", "us") for n in (1, 2, 3)]
    config = tomllib.loads((there / "nodes/eu-2/node.toml").read_text())
    assert config["advertise_client_addr"] == "eu-2.db.example:7001"
    assert len(config["cluster"]["peers"]) == 8
    checked = run("plan", "check", there / "layout.toml", "--plan", there / "plan.toml")
    assert checked.returncode == 0, checked.stdout
    again = run("plan", "--preset", "reference", "--write", there)
    assert again.returncode == 1 and "is there already" in again.stderr


def test_every_member_of_the_json_is_documented():
    docs = (pathlib.Path(__file__).parents[2] / "docs/planner.md").read_text()
    documented = set(re.findall(r"`(\w+)`", docs))

    def members(value):
        if isinstance(value, dict):
            yield from value
            value = list(value.values())
        for each in value if isinstance(value, list) else []:
            yield from members(each)

    for words in ("plan --preset reference", "plan check --preset reference-as-drawn"):
        document = json.loads(run(*words.split(), "--json").stdout)
        assert set(members(document)) - documented == {"down_min_per_year_by_cause"}


def test_questions_end_in_a_command_line():
    chosen = subprocess.run(
        [BINARY, "choose", "orders"],
        input="us=3,eu=2\n2\n\n\n4\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert chosen.returncode == 0, chosen
    assert chosen.stdout.splitlines()[-1] == (
        "quire keyspace create orders ACK semi-sync:1 PLACE us=3,eu=2"
        " ON_TIMEOUT block FAILOVER safe SHARDS 4"
    )


def test_a_preset_is_spelled_out_where_the_keyspace_is_shown(shared):
    create = ["KEYSPACE", "CREATE"]
    client = shared.redis("us-1")
    assert client.execute_command(*create, "hub", "PRESET", "github", "SHARDS", 2)
    facts = client.execute_command("KEYSPACE", "SHOW", "hub")
    facts = dict(zip(facts[::2], facts[1::2]))
    assert (facts["ack"], facts["on_timeout"], facts["timeout_ms"]) == ("semi-sync:1", "degrade", 500)
    assert facts["placement"] == "us=3,asia=2,eu=2" and facts["shards"] == 2
    for name, says in {"spanner": "TOPOLOGY consensus", "mars": "use rds, aurora-like"}.items():
        with pytest.raises(Exception, match=says):
            client.execute_command(*create, "other", "PRESET", name)
