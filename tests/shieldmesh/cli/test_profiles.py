"""`shieldmesh profiles` as people type it."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from shieldmesh.cli import build_app
from tests.shieldmesh.profile.writing import write

GUARDED = "model: small\noutput: {shields: [{type: pii, action: redact}]}\n"
WELCOMING = "extends: base\nprompt: {template: 'Greet {{ who }}.', variables: {who: {}}}\nallow_overrides: [seed]\n"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build_app(), ["profiles", *map(str, arguments)])


def test_list_tells_what_each_profile_is(tmp_path: Path) -> None:
    """Inherited things count, tenants' profiles have their place in the name, and variables are what callers set."""
    write(tmp_path, base=GUARDED, hello=WELCOMING, tenants__acme__base="extends: base\nmodel: large\n")
    result = invoke("list", "--json", tmp_path)
    rows = {row.pop("name"): row for row in json.loads(result.stdout)}
    assert list(rows) == ["base", "hello", "tenants/acme/base"]
    assert (rows["hello"]["model"], rows["hello"]["output_shields"]) == ("small", ["pii"])
    assert rows["hello"]["callers_may_set"] == ["seed", "variables.who"]
    assert rows["tenants/acme/base"]["model"] == "large"
    readable = invoke("list", tmp_path)
    assert readable.exit_code == 0
    assert "hello" in readable.stdout


def test_check_tells_all_that_is_wrong(tmp_path: Path) -> None:
    """Each problem has its file, line and field, and the exit status is 1."""
    write(tmp_path, one="model: a\nmodle: b\n", other="model: a\nlimits: {duration: -1}\n")
    result = invoke("check", tmp_path)
    assert result.exit_code == 1
    assert "one.yaml:2: modle: there is no such field here" in result.stderr
    assert "other.yaml:2: limits.duration: input should be greater than 0" in result.stderr


def test_check_lets_good_profiles_pass_and_tells_what_may_surprise(tmp_path: Path) -> None:
    """A notice is no failure."""
    write(tmp_path, base=GUARDED, late=f"{GUARDED[:-2]}, latency_budget: {{time: 1, over: fail}}}}\n")
    result = invoke("check", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "✓ 2 profiles\n")
    assert "the budget is never spent" in result.stderr


def test_diff_compares_what_profiles_mean(tmp_path: Path) -> None:
    """Comments, layout and where a value comes from make no difference; a value does, and so does a missing profile."""
    before = write(tmp_path / "before", base=GUARDED, child="extends: base\n", gone="model: a\n")
    after = write(tmp_path / "after", base=f"# The same.\n{GUARDED}", child=GUARDED)
    unchanged = invoke("diff", before / "child.yaml", after / "child.yaml")
    assert (unchanged.exit_code, unchanged.stdout) == (0, "")
    write(after, child="extends: base\nmodel: large\n")
    result = invoke("diff", before, after)
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert {"-model: small", "+model: large", "+++ /dev/null", "-model: a"} <= set(lines)
    assert not any(line.startswith("--- base") for line in lines)


def test_places_that_hold_no_profiles(tmp_path: Path) -> None:
    """What was expected is said."""
    assert "there is no" in invoke("list", tmp_path / "nowhere").stderr
    assert "it holds no profiles" in invoke("check", tmp_path).stderr
    file = write(tmp_path / "some", base=GUARDED) / "base.yaml"
    assert "expected two directories or two files" in invoke("diff", tmp_path, file).stderr
