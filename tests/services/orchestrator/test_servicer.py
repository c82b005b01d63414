"""Who may use which profile."""

from pathlib import Path
from types import MappingProxyType

import pytest

from shieldmesh import context
from shieldmesh.context import RequestContext
from shieldmesh.errors import NotFoundError
from shieldmesh.profile import Profiles
from tests.services.orchestrator.serving import Script, Stub, profile, run, serving

COMMON = profile("default"), profile("open")
OWN = profile("default", model="own"), profile("secret")
PROFILES = Profiles(
    common={each.name: each for each in COMMON},
    tenants=MappingProxyType({"acme": {each.name: each for each in OWN}, "umbrella": {}}),
)


async def model(stub: Stub, tenant: str, name: str) -> str:
    """The model that answers a tenant's turn."""
    with context.use(RequestContext(tenant_id=tenant)):
        first, *_ = await run(stub, profile=name)
    return first.started.model


async def test_a_tenant_with_profiles_of_its_own_uses_those(tmp_path: Path) -> None:
    """Under the same name everybody gets what is theirs; "" is the default one."""
    async with serving(Script(), tmp_path, live=lambda: PROFILES) as stub:
        assert await model(stub, "acme", "") == "own"
        assert await model(stub, "acme", "secret") == "scripted"
        assert await model(stub, "other", "") == "scripted"
        assert await model(stub, "", "open") == "scripted"


@pytest.mark.parametrize(
    ("tenant", "name", "seen"),
    [
        ("acme", "open", "expected one of default, secret"),
        ("other", "secret", "expected one of default, open"),
        ("", "secret", "expected one of default, open"),
        ("umbrella", "default", "you have none"),
    ],
)
async def test_what_is_another_tenants_is_not_there(tmp_path: Path, tenant: str, name: str, seen: str) -> None:
    """Its profiles are refused like any that does not exist, and the message names only what the caller may use."""
    async with serving(Script(), tmp_path, live=lambda: PROFILES) as stub:
        with pytest.raises(NotFoundError) as failure:
            await model(stub, tenant, name)
    assert failure.value.message == f"there is no such profile: {seen}"
    assert (failure.value.field, failure.value.reason) == ("profile", "PROFILE_NOT_FOUND")
