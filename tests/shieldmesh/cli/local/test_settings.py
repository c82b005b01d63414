"""The settings of `shieldmesh up`."""

from pathlib import Path

import pytest

from shieldmesh.cli.local.settings import SettingsError, load


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting comes from the last of file, environment and flag that gives it."""
    (tmp_path / "shieldmesh.yaml").write_text("listen: file:1\nlog_format: json\n")
    monkeypatch.chdir(tmp_path)
    assert load({}, []).listen == "file:1"
    monkeypatch.setenv("SHIELDMESH_LISTEN", "variable:1")
    assert load({"listen": None}, []).listen == "variable:1"
    settings = load({"listen": "flag:1"}, ["SHIELDMESH_LISTEN"])
    assert (settings.listen, settings.log_format) == ("flag:1", "json")


def test_defaults_without_any_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without file, variables and flags, the mesh serves on the usual port and logs for people."""
    monkeypatch.chdir(tmp_path)
    settings = load({}, [])
    assert (settings.listen, settings.log_format, settings.profiles) == ("127.0.0.1:50051", "text", None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("listn: host:1\n", "the setting listn in shieldmesh.yaml is unknown: expected one of flows, listen, "),
        ("log_format: xml\n", r"the setting log_format \(in shieldmesh.yaml, SHIELDMESH_LOG_FORMAT or --log-format\)"),
        ("profiles: /nowhere\n", "the setting profiles .* does not point to a directory"),
        ("listen: [\n", '"shieldmesh.yaml", line 2, column 1 is wrong'),
        ("- listen\n", "shieldmesh.yaml is wrong: expected a list of settings"),
        ("just words\n", "shieldmesh.yaml is wrong: expected a list of settings"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str) -> None:
    """A name or value that is wrong, and YAML that is none, name the place."""
    (tmp_path / "shieldmesh.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=complaint):
        load({}, [])


def test_an_unknown_variable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is named; those of the services and of other subcommands are theirs."""
    monkeypatch.chdir(tmp_path)
    load({}, ["SHIELDMESH_SHIELD_LOG_LEVEL", "SHIELDMESH_URL", "PATH"])
    with pytest.raises(SettingsError, match="SHIELDMESH_LISTN is unknown: expected one of SHIELDMESH_FLOWS"):
        load({}, ["SHIELDMESH_LISTN"])
