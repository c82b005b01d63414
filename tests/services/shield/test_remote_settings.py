"""Settings about remote shields: credentials by reference, and a sentence for whatever is wrong."""

from pathlib import Path

import pytest

from services.shield.__main__ import ShieldSettings, remotes
from services.shield.remote.remotes import Remotes
from shieldmesh import settings

PREFIX = "SHIELDMESH_SHIELD_"
URL = "https://detectors.example:443"


def given(patch: pytest.MonkeyPatch, **values: str) -> Remotes:
    """What the service makes of these variables."""
    for name, value in values.items():
        patch.setenv(f"{PREFIX}{name}", value)
    return remotes(settings.load(ShieldSettings))


def test_none_may_be_called_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default allows nothing."""
    assert not given(monkeypatch).allow(URL)
    assert given(monkeypatch, REMOTES=f'["{URL}"]').allow(f"{URL}/v1")


def test_credentials_are_named_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a variable or a file; the settings themselves hold no secret."""
    monkeypatch.setenv("DETECTORS", "Bearer secret")
    set_ = given(monkeypatch, REMOTE_AUTHORIZATIONS=f'{{"{URL}": {{"env": "DETECTORS"}}}}')
    assert set_.authorization(f"{URL}/v1") == "Bearer secret"
    assert "secret" not in repr(settings.load(ShieldSettings))
    (tmp_path / "key").write_text("Bearer other\n")
    set_ = given(monkeypatch, REMOTE_AUTHORIZATIONS=f'{{"{URL}": {{"file": "{tmp_path}/key"}}}}')
    assert (set_.authorization(URL), set_.authorization("https://other:443")) == ("Bearer other", "")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("REMOTES", URL, "SHIELDMESH_SHIELD_REMOTES: expected a list or a map in JSON"),
        ("REMOTES", '["ftp://x:1"]', "ftp://x:1: expected grpc://host:port"),
        ("REMOTE_AUTHORIZATIONS", f'{{"{URL}": {{}}}}', 'expected {"env": NAME} or {"file": PATH}'),
        ("REMOTE_AUTHORIZATIONS", f'{{"{URL}": {{"env": "NOT_SET"}}}}', "the environment variable NOT_SET must hold"),
        ("REMOTE_AUTHORIZATIONS", f'{{"{URL}": {{"env": "TWO_LINES"}}}}', "variable TWO_LINES must hold one line"),
        ("REMOTE_AUTHORIZATIONS", f'{{"{URL}": {{"file": "/no/file"}}}}', "the file /no/file cannot be used: No such"),
        ("REMOTE_AUTHORIZATIONS", '{"grpc://a:1": {"env": "DETECTORS"}}', "grpc://a:1: credentials of a ShieldService"),
        ("REMOTE_FAILURES", "0", "SHIELDMESH_SHIELD_REMOTE_FAILURES: Input should be greater"),
    ],
)
def test_wrong_settings_end_the_process_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """It names the setting and quotes no secret."""
    monkeypatch.setenv("DETECTORS", "Bearer secret")
    monkeypatch.setenv("TWO_LINES", "Bearer secret\nx: y")
    with pytest.raises(SystemExit) as caught:
        given(monkeypatch, **{name: value})
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
