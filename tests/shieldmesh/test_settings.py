"""Settings of a service: from the environment, under names of its own."""

import pytest
from pydantic_settings import SettingsConfigDict

from shieldmesh import settings
from shieldmesh.settings import ServiceSettings


class Own(ServiceSettings):
    """A service's."""

    model_config = SettingsConfigDict(env_prefix="SHIELDMESH_OWN_")

    listen: str = "127.0.0.1:1"


def test_each_comes_from_the_variable_with_the_services_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not said there is the default."""
    monkeypatch.setenv("SHIELDMESH_OWN_WORKERS", "3")
    told = settings.load(Own)
    assert (told.workers, told.listen) == (3, "127.0.0.1:1")


@pytest.mark.parametrize("kind", [Own, ServiceSettings])
def test_what_others_call_by_such_a_name_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, kind: type[ServiceSettings]
) -> None:
    """`WORKERS`, `LISTEN` and the like belong to other programs, such as the `make` that started this one."""
    for name in ServiceSettings.model_fields:
        monkeypatch.setenv(name.upper(), "nothing that would be taken")
    assert kind(listen="127.0.0.1:2") == kind.model_construct(listen="127.0.0.1:2")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("SHIELDMESH_OWN_WORKERS", "0", "SHIELDMESH_OWN_WORKERS: Input should be greater than or equal to 1"),
        ("SHIELDMESH_OWN_WORKER", "2", "unknown setting SHIELDMESH_OWN_WORKER: expected one of SHIELDMESH_OWN_CALL"),
        ("SHIELDMESH_OWN_METRICS_LISTEN", "9464", "SHIELDMESH_OWN_METRICS_LISTEN: '9464' is no address"),
    ],
)
def test_a_wrong_one_ends_the_process_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    """The message says which variable, and what was expected."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as told:
        settings.load(Own)
    assert complaint in str(told.value)
