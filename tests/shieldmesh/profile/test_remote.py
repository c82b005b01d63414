"""Options of remote shields: one place has one URL, and what belongs to the other kind of remote is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from shieldmesh.profile.options import RemoteOptions, remote_url

from .writing import parse, problems

DETECTOR = "type: remote, action: flag, options: {url: 'http://here', detector_id: d"


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("grpc://Shields.Example:50052", "grpc://shields.example:50052"),
        ("grpcs://shields:05052/", "grpcs://shields:5052"),
        ("http://detectors", "http://detectors:80"),
        ("https://detectors/Pii/v2/", "https://detectors:443/Pii/v2"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("unix:/run/shield.sock", "unix:/run/shield.sock"),
        ("unix:///run/shield.sock", "unix:/run/shield.sock"),
    ],
)
def test_a_place_has_one_url(written: str, normal: str) -> None:
    """However it was written, and normal once it is normal."""
    assert remote_url(written) == normal == remote_url(normal)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "shields:50052",
        "grpc://shields",
        "grpc://shields:0",
        "grpc://shields:65536",
        "grpc://shields:50052/path",
        "ftp://host:21",
        "file:///etc/passwd",
        "unix:relative",
        "unix:/",
        "http://user:password@host",
        "http://allowed.example@evil.example",
        "http://host/?q",
        "http://host/#f",
        "http://host/a/../b",
        "http://host/%2e%2e/b",
        "http://host//b",
        "http://host\\@evil",
        "http://host\n",
        " http://host",
        "http://höst",
        "unix:/run/../etc/x",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(written: str) -> None:
    """Users, queries, escapes, dots and whatever else could hide where a URL leads."""
    with pytest.raises(ValueError, match=r"expected|leave"):
        remote_url(written)


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({}, "url", "Field required"),
        ({"url": "grpc://a:1"}, "type", "it is required for a ShieldService"),
        ({"url": "grpc://a:1", "type": "pii", "window": "sentences"}, "window", "a detector (http) has it alone"),
        ({"url": "grpc://a:1", "type": "pii", "detector_id": "d"}, "detector_id", "a detector (http) has it alone"),
        ({"url": "http://a"}, "detector_id", "it is required for a detector"),
        ({"url": "http://a", "detector_id": "d", "type": "pii"}, "type", "a ShieldService (grpc) has it alone"),
        ({"url": "http://a", "detector_id": "d", "options": {"a": 1}}, "options", "a ShieldService (grpc) has it"),
        ({"url": "http://a", "detector_id": "d\r\nx: y"}, "detector_id", "String should match"),
    ],
)
def test_options_of_the_other_kind_are_refused(options: dict[str, Any], field: str, message: str) -> None:
    """Each with its field."""
    with pytest.raises(ValidationError) as caught:
        RemoteOptions.model_validate(options)
    (error,) = caught.value.errors()
    assert error["loc"] == (field,)
    assert message in error["msg"]


def test_a_profile_says_what_a_remote_shield_is() -> None:
    """With kinds of its own; one that sees whole texts alone is of that kind, so the loader can say so."""
    whole = parse(f"model: a\noutput: {{shields: [{{{DETECTOR}}}, actions: {{any_kind: block}}}}]}}")
    assert [shield.kind for shield in whole.output.shields] == ["whole"]
    sentences = parse(f"model: a\noutput: {{shields: [{{{DETECTOR}, window: sentences}}}}]}}")
    assert [shield.kind for shield in sentences.output.shields] == ["window"]
    assert problems("model: a\noutput: {shields: [{type: remote, action: flag, options: {url: 'grpc://a:1'}}]}") == [
        "p.yaml:2: output.shields[0].options.type: it is required for a ShieldService"
    ]
