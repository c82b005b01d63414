"""`shieldmesh shields` with a real shield service."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shieldmesh.cli import build_app
from shieldmesh.cli.shields.policies import find
from tests.services.shield.serving import serving

CARD = "My card is 4111 1111 1111 1111, ok?"
LIVE = """\
model: m
input:
  shields: [{type: secrets, action: block}]
output:
  shields:
    - {type: pii, action: redact}
    - {type: deny_list, action: block, options: {terms: [project bluebird]}}
"""
DRAFT = "extends: live\noutput: {shields: [{type: deny_list, action: flag}]}\n"
TRANSCRIPT = """\
{"turn": "harmless", "text": "Hello there."}
{"turn": "card", "deltas": ["My card is 41", "11 1111 1111", " 1111", "."]}
{"turn": "plan", "deltas": [{"text": "Ask about project", "at": 0}, {"text": " bluebird now", "at": 0.01}]}
"""


def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(build_app(), ["shields", *arguments], input=stdin)


async def shields(directory: Path, command: str, *arguments: str, stdin: bytes | None = None) -> Result:
    """The command, with the service and the profiles of the directory."""
    (directory / "live.yaml").write_text(LIVE)
    (directory / "draft.yaml").write_text(DRAFT)
    (directory / "t.jsonl").write_text(TRANSCRIPT)
    profiles = [] if command == "list" else ["--profiles", str(directory)]
    async with serving(directory):
        url = f"unix:{directory}/shield.sock"
        return await asyncio.to_thread(invoke, command, "--url", url, *profiles, *arguments, stdin=stdin)


async def test_list_shows_the_types(tmp_path: Path) -> None:
    """Each with its kind, what it finds, and the kinds of its findings."""
    result = await shields(tmp_path, "list")
    assert (result.exit_code, result.stderr) == (0, "")
    line = next(line for line in result.stdout.splitlines() if line.startswith("deny_list"))
    assert line.split()[:4] == ["deny_list", "match", "Finds", "words"]
    assert "denied_term" in result.stdout


async def test_list_as_json(tmp_path: Path) -> None:
    """--json prints what a program needs."""
    types = json.loads((await shields(tmp_path, "list", "--json")).stdout)
    (url,) = (each for each in types if each["type"] == "url")
    assert (url["kind"], url["finding_kinds"]) == ("match", ["url"])


async def test_test_underlines_what_is_seen(tmp_path: Path) -> None:
    """The spans stand below the text, with shield, kind, place, score and action; and what would leave."""
    result = await shields(tmp_path, "test", "--profile", "live", CARD)
    assert (result.exit_code, result.stderr) == (0, "")
    head, text, line, _, row, *rest = result.stdout.splitlines()
    assert head.endswith("output, 2 shields: pii, deny_list")
    assert (text, line) == (CARD, " " * 11 + "1" + "━" * 18)
    assert row.split() == ["1", "pii", "payment_card", "11-30", "1.00", "redact"]
    assert rest == ["saw nothing: deny_list", "leaves: My card is [PAYMENT_CARD], ok?"]


async def test_test_shows_what_lies_behind_a_block(tmp_path: Path) -> None:
    """A finding that ends the text hides none of the others; what leaves ends before it."""
    text = f"About project bluebird. {CARD}"
    result = await shields(tmp_path, "test", "--profile", str(tmp_path / "live.yaml"), "-", stdin=text.encode())
    assert "denied_term   6-22   1.00   block" in result.stdout
    assert "payment_card  35-54  1.00   redact" in result.stdout
    assert result.stdout.endswith("■ deny_list blocks from character 6 on\nleaves: About \n")


async def test_test_of_the_way_in(tmp_path: Path) -> None:
    """--direction input takes the input's shields; a block there refuses the request."""
    arguments = ("test", "--profile", "live", "--direction", "input", "key AKIAIOSFODNN7EXAMPLE")
    assert "■ secrets blocks the request" in (await shields(tmp_path, *arguments)).stdout
    told = json.loads((await shields(tmp_path, *arguments, "--json")).stdout)
    assert (told["blocked"], told["leaves"], told["direction"]) == (True, "", "input")
    assert [each["action"] for each in told["findings"]] == ["block"]


async def test_test_gives_actions_by_kind_and_score(tmp_path: Path) -> None:
    """Each finding has the action that the policy gives to its kind and score; what is allowed is shown, too."""
    (tmp_path / "mixed.yaml").write_text(
        "model: m\noutput: {shields: [{type: pii, action: {block: 1.0, flag: 0.5}, actions: {email: allow, "
        "payment_card: redact}}]}\n"
    )
    text = "a@example.org, 4111 1111 1111 1111, 192.0.2.1"
    told = json.loads((await shields(tmp_path, "test", "--profile", "mixed", "--json", text)).stdout)
    assert {each["kind"]: each["action"] for each in told["findings"]} == {
        "email": "allow",
        "payment_card": "redact",
        "ip_address": "block",
    }


@pytest.mark.parametrize(("score", "action"), [(0.4, "allow"), (0.5, "flag"), (0.9, "block")])
def test_actions_follow_scores(tmp_path: Path, score: float, action: str) -> None:
    """Each is taken from its score on, as the shield service does it."""
    path = tmp_path / "p.yaml"
    path.write_text("model: m\noutput: {shields: [{type: pii, action: {block: 0.9, flag: 0.5}}]}\n")
    assert find(str(path), tmp_path, "output").action_for("pii", "email", score) == action


async def test_test_shows_shields_that_fail(tmp_path: Path) -> None:
    """A shield that cannot do its work is named with the reason, and what its policy makes of that happens."""
    (tmp_path / "json.yaml").write_text(
        "model: m\noutput: {shields: [{type: json_schema, action: block, options: {schema: {}}}]}\n"
    )
    result = await shields(tmp_path, "test", "--profile", "json", "[" * 300)
    assert "✗ json_schema failed: TEXT_TOO_DEEP" in result.stdout
    assert "■ json_schema blocks from character 0 on" in result.stdout


async def replayed(directory: Path, *arguments: str) -> Any:
    """What `replay --json` says of the policies live and draft."""
    result = await shields(
        directory, "replay", str(directory / "t.jsonl"), "--policy", "live", "--policy", "draft", "--json", *arguments
    )
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


@pytest.mark.parametrize("pace", ["recorded", "fast"])
async def test_replay_compares_policies(tmp_path: Path, pace: str) -> None:
    """Differences name turn, shield, kind, span and each policy's action; costs are told for each policy."""
    told = await replayed(tmp_path, "--pace", pace)
    assert told["differences"] == [
        {
            "turn": "plan",
            "shield": "deny_list",
            "kind": "denied_term",
            "start": 10,
            "end": 26,
            "actions": {"live": "block", "draft": "flag"},
        }
    ]
    live, draft = told["policies"]
    assert (told["turns"], live["blocked"], draft["blocked"]) == (3, 1, 0)
    assert (live["redacted"], draft["redacted"], live["failures"]) == (1, 1, 0)
    assert (live["held_most"], draft["held_most"]) == (20, 20)  # the card, as long as a digit could follow
    assert 0 < draft["wait_mean"] <= draft["wait_most"]


async def test_replay_as_a_table(tmp_path: Path) -> None:
    """People get the costs and below them the differences."""
    result = await shields(
        tmp_path, "replay", str(tmp_path / "t.jsonl"), "--policy", "live", "--policy", "draft", "--pace", "fast"
    )
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["turns", "blocked", "1", "0"] in lines
    assert ["plan", "deny_list", "denied_term", "10-26", "block", "flag"] in lines


async def test_an_observing_policy_holds_nothing(tmp_path: Path) -> None:
    """Its text leaves at once, whatever its shields say later."""
    (tmp_path / "watch.yaml").write_text("model: m\noutput: {mode: observe, shields: [{type: pii, action: block}]}\n")
    result = await shields(tmp_path, "replay", str(tmp_path / "t.jsonl"), "--policy", "watch", "--json")
    (watch,) = json.loads(result.stdout)["policies"]
    assert (watch["blocked"], watch["held_most"], watch["wait_most"]) == (1, 0, 0.0)


async def test_the_shipped_transcript_works(tmp_path: Path) -> None:
    """examples/transcript.jsonl can be replayed with the shipped profiles."""
    async with serving(tmp_path):
        arguments = ("--policy", "profiles/default.yaml", "--policy", "profiles/echo.yaml", "--json")
        url = f"unix:{tmp_path}/shield.sock"
        result = await asyncio.to_thread(invoke, "replay", "examples/transcript.jsonl", "--url", url, *arguments)
    assert {each["kind"] for each in json.loads(result.stdout)["differences"]} == {"denied_term", "url"}


def test_without_a_mesh_it_says_what_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a mesh on this machine nor a URL, or nobody at the URL, is a sentence and exit code 1."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for arguments in (["list"], ["list", "--url", f"unix:{tmp_path}/nowhere.sock"]):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert "start a mesh with `shieldmesh up`" in result.stderr


async def test_the_mesh_of_this_machine_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL the service of the one mesh that runs is asked; of several, one must be chosen."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = tmp_path / "shieldmesh-a", tmp_path / "shieldmesh-b"
    first.mkdir()
    second.mkdir()
    async with serving(first):
        assert (await asyncio.to_thread(invoke, "list")).exit_code == 0
        async with serving(second):
            result = await asyncio.to_thread(invoke, "list")
    assert result.exit_code == 1
    assert "2 meshes run on this machine: choose one with --url" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test", "--profile", "nobody", "hi"], "there is no profile nobody"),
        (["test", "--profile", "broken", "hi"], "broken.yaml:1: modell"),
        (["replay", "t.jsonl", "--policy", "live"], "t.jsonl:1: "),
        (["replay", "twice.jsonl", "--policy", "live"], "more than one turn 1"),
    ],
)
def test_bad_files_are_told_with_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """What is wrong with a profile or a transcript is told before any service is asked."""
    monkeypatch.chdir(tmp_path)
    Path("live.yaml").write_text(LIVE)
    Path("broken.yaml").write_text("modell: m\n")
    Path("t.jsonl").write_text("{}")
    Path("twice.jsonl").write_text('{"turn": "1", "text": ""}\n' * 2)
    result = invoke(*arguments, "--profiles", str(tmp_path))
    assert result.exit_code == 1
    assert message in result.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["test"], None),
        (["test", "-"], b"\xff"),
        (["test", "hi", "--direction", "sideways"], None),
        (["list", "--url", "http://host"], None),
        (["replay", "nowhere.jsonl", "--policy", "a"], None),
        (["replay", "examples/transcript.jsonl"], None),
        (["replay", "examples/transcript.jsonl", "--policy", "a", "--policy", "a"], None),
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], stdin: bytes | None) -> None:
    """What the command line cannot mean is refused before anything happens."""
    assert invoke(*arguments, stdin=stdin).exit_code == 2


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install of the client alone cannot read policies, and says what it lacks."""
    monkeypatch.setattr("shieldmesh.cli.policies.NEEDED", ("pydantic_of_tomorrow",))
    result = invoke("test", "hi")
    assert result.exit_code == 1
    assert "not installed (pydantic_of_tomorrow)" in result.stderr
    assert "pip install 'shieldmesh[services]'" in result.stderr
