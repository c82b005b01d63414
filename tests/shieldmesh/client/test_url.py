"""URLs of a mesh."""

import pytest

from shieldmesh.client.url import parse_url


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("mesh.example", "mesh.example:50051"),
        ("mesh://host:7", "host:7"),
        ("grpc://host", "host:50051"),
        ("grpc://host:7/", "host:7"),
        ("mesh://[::1]:7", "[::1]:7"),
        ("[::1]", "[::1]:50051"),
        ("dns:///orchestrator:7", "dns:///orchestrator:7"),
        ("unix:/run/mesh.sock", "unix:/run/mesh.sock"),
        ("unix:///run/mesh.sock", "unix:/run/mesh.sock"),
        ("unix:mesh.sock", "unix:mesh.sock"),
        ("mesh://10.0.0.1,10.0.0.2:7", "ipv4:10.0.0.1:50051,10.0.0.2:7"),
        ("[::1]:7,[::2]", "ipv6:[::1]:7,[::2]:50051"),
        ("meshs://host", "tls:host:50051"),
        ("grpcs://host:7/", "tls:host:7"),
        ("meshs://host:7?ca=/dev/null", "tls:host:7?ca=/dev/null"),
    ],
)
def test_every_form_becomes_a_target(url: str, target: str) -> None:
    """A URL becomes gRPC's notation, with the usual port where none is given."""
    assert parse_url(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://host:7",
        "mesh://",
        "mesh://user@host:7",
        "mesh://host:7/path",
        "host:0",
        "host:65536",
        "host:port",
        "one.example,two.example",
        "127.0.0.1:7,[::1]:7",
        "127.0.0.1:7,",
        "::1",
        "grpcs://host:7?ca=/no/such/file",
        "meshs://host:7?cert=x",
        "unix:",
        "unix://relative",
        "unix:/" + "x" * 107,
        "ho st:7",
    ],
)
def test_what_names_no_mesh_is_refused(url: str) -> None:
    """Anything else is a ValueError with a sentence about it."""
    with pytest.raises(ValueError, match=r"'|socket path"):
        parse_url(url)
