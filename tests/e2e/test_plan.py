"""The planner as people meet it: it needs no cluster."""

import json
import xml.etree.ElementTree as xml

import pytest

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
