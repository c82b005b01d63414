"""Profiles follow their files: all of them or none, and no running turn notices."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import watchfiles
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from services.orchestrator.live import LiveProfiles
from shieldmesh import calls, context, metrics
from shieldmesh.profile import ProfileError, Profiles
from shieldmesh.telemetry import Name
from shieldmesh.v1 import chat_pb2
from tests.promises.observing import observed
from tests.services.orchestrator.serving import (
    TIMEOUT,
    Asked,
    Generated,
    Script,
    begun,
    ended,
    message,
    run,
    said,
    serving,
    text_of,
)

NEVER = 600.0
"""Seconds between two looks at the files: what changes is seen because the system tells of it."""


@asynccontextmanager
async def following(directory: Path, look_seconds: float = NEVER) -> AsyncGenerator[LiveProfiles]:
    """The live profiles of a directory, followed."""
    live = LiveProfiles(directory)
    async with live.following(look_seconds=look_seconds):
        yield live


def write(directory: Path, content: str, name: str = "default") -> None:
    """Writes a profile as editors do: beside, and then over the old one."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ".new").write_text(content)
    (directory / ".new").replace(directory / f"{name}.yaml")


def model(live: LiveProfiles, name: str = "default", tenant: str = "") -> str:
    """The model of a profile at this moment; "" when there is no such profile."""
    shelf = live.now.of(tenant)
    return shelf[name].policy.model if name in shelf else ""


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in the file system
            await asyncio.sleep(0.005)


async def test_an_edit_is_used_at_once(tmp_path: Path) -> None:
    """A file that is replaced, one that is new, and one that is removed: each is seen without a restart."""
    write(tmp_path, "model: one")
    async with following(tmp_path) as live:
        await changed(lambda: write(tmp_path, "model: two"), lambda: model(live) == "two")
        write(tmp_path, "extends: default\nprompt: hi", "other")
        await eventually(lambda: model(live, "other") == "two")
        (tmp_path / "other.yaml").unlink()
        await eventually(lambda: model(live, "other") == "")
    assert live.fresh.holds


async def test_tenants_profiles_are_followed_too(tmp_path: Path) -> None:
    """A tenant's directory may come and go; who has none falls back to the common ones."""
    write(tmp_path, "model: one")
    async with following(tmp_path) as live:
        own = tmp_path / "tenants" / "acme"
        await changed(lambda: write(own, "model: own"), lambda: model(live, tenant="acme") == "own")
        assert model(live, tenant="other") == "one"
        (own / "default.yaml").unlink()
        own.rmdir()
        await eventually(lambda: model(live, tenant="acme") == "one")


async def test_a_configmap_that_is_swapped(tmp_path: Path) -> None:
    """Kubernetes replaces all files at once, by turning one symbolic link: exactly that is seen."""

    def version(number: int) -> None:
        write(tmp_path / f"..{number}", f"model: m{number}")
        (tmp_path / "..data_tmp").symlink_to(f"..{number}")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    version(1)
    (tmp_path / "default.yaml").symlink_to("..data/default.yaml")
    async with following(tmp_path) as live:
        assert model(live) == "m1"
        await changed(lambda: version(2), lambda: model(live) == "m2")


async def test_a_directory_that_is_replaced(tmp_path: Path) -> None:
    """The system does not tell that another directory has taken the place of the one it watches: looking does."""
    place = tmp_path / "profiles"
    write(place, "model: one")
    async with following(place, look_seconds=0.05) as live:
        write(tmp_path / "next", "model: two")
        place.rename(tmp_path / "old")
        (tmp_path / "next").rename(place)
        await eventually(lambda: model(live) == "two")


async def test_a_system_that_cannot_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where watching fails, as it does when a machine has no watches left, the files are polled."""
    asked: list[Any] = []
    real = watchfiles.awatch  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]  # it names types of trio

    def failing(*paths: Path, **options: Any) -> AsyncGenerator[set[Any]]:
        asked.append(options["force_polling"])
        if not options["force_polling"]:
            raise OSError(28, "no watches left")
        return real(*paths, poll_delay_ms=10, **options)

    monkeypatch.setattr(watchfiles, "awatch", failing)
    write(tmp_path, "model: one")
    async with following(tmp_path, look_seconds=0.05) as live:
        write(tmp_path, "model: two")
        await eventually(lambda: model(live) == "two")
    assert asked == [None, True]


async def test_a_broken_file_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    """All stays as it was, the right files too; log, metric and health say so, until the files are right again."""
    told: list[bool] = []

    async def tell(holds: bool) -> None:
        told.append(holds)

    with observed() as seen:
        write(tmp_path, "model: one")
        live = LiveProfiles(tmp_path)
        await live.fresh.follow(tell)
        live.tell()
        assert stale(seen.reader) == 0
        write(tmp_path, "model: [")
        write(tmp_path, "model: a\nprompts: b", "other")
        before = live.now
        await live.reload()
        assert live.now is before
        assert stale(seen.reader) == 1
        write(tmp_path, "model: two")
        write(tmp_path, "model: a", "other")
        await live.reload()
        assert (model(live), model(live, "other"), stale(seen.reader)) == ("two", "a", 0)
        assert reloads(seen.reader) == {"refused": 1, "loaded": 1}
    assert told == [True, False, True]
    (refusal,) = seen.warnings()
    assert refusal["event"] == "profiles refused: those from before stay in use"
    assert [problem.partition(str(tmp_path))[2][:20] for problem in refusal["problems"]] == [
        "/default.yaml:1: it ",
        "/other.yaml:2: promp",
    ]
    (loaded,) = [line for line in seen.lines() if line["event"] == "profiles loaded"]
    assert (loaded["changed"], loaded["added"]) == (["default"], ["other"])


async def test_what_may_surprise_is_told_once(tmp_path: Path) -> None:
    """Notices are logged at the start with their places, and on a reload those that are new."""
    write(tmp_path, "model: one\noutput:\n  latency_budget: {time: 1, over: fail}")
    with observed() as seen:
        live = LiveProfiles(tmp_path)
        live.tell()
        write(tmp_path, "extends: default", "other")
        await live.reload()
        write(tmp_path, "model: one\noutput: {latency_budget: {time: 1, over: fail}}", "third")
        await live.reload()
    notices = [line["notice"].partition(str(tmp_path))[2] for line in seen.warnings()]
    assert [notice.partition(": no shield")[0] for notice in notices] == [
        "/default.yaml:3: output.latency_budget",
        "/third.yaml:2: output.latency_budget",
    ]


async def test_a_broken_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    """There is nothing from before that could stay in use."""
    write(tmp_path, "model: [")
    with pytest.raises(ProfileError):
        LiveProfiles(tmp_path)


async def test_a_defect_does_not_end_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with one change, the next one is seen."""

    def broken(_: Path) -> Profiles:
        raise ZeroDivisionError

    write(tmp_path, "model: one")
    async with following(tmp_path) as live:
        with monkeypatch.context() as patch:
            patch.setattr("shieldmesh.profile.load", broken)
            await changed(lambda: write(tmp_path, "model: two"), lambda: not live.fresh.holds)
        write(tmp_path, "model: three")
        await eventually(lambda: model(live) == "three")
    assert live.fresh.holds


async def test_a_running_turn_keeps_its_policy(tmp_path: Path) -> None:
    """While its profile changes under it, a turn stays what it was; the next one is under the new policy."""
    changed_now = asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        yield begun()
        yield said("a ")
        if opening.model == "one":
            await changed_now.wait()
        yield said(f"{opening.model} {context.current().profile_version}")
        yield ended(2)

    sockets = tmp_path / "s"
    sockets.mkdir()
    write(tmp_path / "p", "model: one")
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(following(tmp_path / "p"))
        stub = await stack.enter_async_context(serving(Script(generate=generate), sockets, live=lambda: live.now))
        old = live.now.common["default"].version
        events: list[chat_pb2.ChatEvent] = []
        request = chat_pb2.ChatRequest(messages=[message("hi")])
        async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
            async for event in stream:
                events.append(event)
                if text_of(events) == "a ":
                    shields = "output: {shields: [{type: pii, action: block}]}"
                    edit = partial(write, tmp_path / "p", f"model: two\n{shields}")
                    await changed(edit, lambda: model(live) == "two")
                    changed_now.set()
        later = await run(stub, profile="default")
    new = live.now.common["default"].version
    assert new != old
    assert events[0].started.profile_version == old
    assert text_of(events) == f"a one {old}"
    assert not events[-1].finished.receipt.output_shields
    assert later[0].started.profile_version == new
    assert text_of(later) == f"a two {new}"
    assert list(later[-1].finished.receipt.output_shields) == ["pii"]


async def changed(change: Callable[[], None], seen: Callable[[], bool]) -> None:
    """Makes the first change, which may come before the watch has begun: it is made until it is seen."""
    async with asyncio.timeout(TIMEOUT):
        while not seen():
            change()
            for _ in range(50):
                if not seen():
                    await asyncio.sleep(0.01)


def stale(reader: InMemoryMetricReader) -> float:
    (point,) = points(reader, metrics.STALE)
    return point.value


def reloads(reader: InMemoryMetricReader) -> dict[str, float]:
    return {str((point.attributes or {})[Name.RELOAD]): point.value for point in points(reader, metrics.RELOADS)}


def points(reader: InMemoryMetricReader, metric: metrics.Metric) -> list[NumberDataPoint]:
    data = reader.get_metrics_data()
    assert data is not None
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    found = [
        point
        for scope in scopes
        for each in scope.metrics
        if each.name == metric.name
        for point in each.data.data_points
    ]
    return [point for point in found if isinstance(point, NumberDataPoint)]
