"""A model with several endpoints answers while one of them does."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.inference.admission import Admission
from services.inference.backend import Backend, FinishReason, GenerationRequest, Message, Step, Usage
from services.inference.openai.backend import OpenAIBackend
from services.inference.openai.options import OpenAIOptions
from services.inference.registry import Registry, ServedModel
from services.inference.remote.backend import RemoteBackend
from services.inference.remote.options import RemoteOptions
from services.inference.replay import ReplayBackend, ReplayOptions
from shieldmesh import channels, context, http
from shieldmesh.context import RequestContext
from shieldmesh.errors import InternalError, UnavailableError
from shieldmesh.telemetry import Name, tracer
from tests.promises import clock
from tests.promises.observing import observed
from tests.services.inference.openai.playing import REQUEST, failure, play_all
from tests.services.inference.openai.upstream import (
    WHOLE,
    Play,
    Upstream,
    answer,
    broken,
    hung_up,
    refused,
    said,
    silent,
    stalled,
    upstream,
)
from tests.services.inference.serving import TIMEOUT, eventually, serving

WELL = ("one two", FinishReason.STOP)
whole = answer(*WHOLE)


def pool(*servers: Upstream, **changes: Any) -> OpenAIBackend:
    given: dict[str, Any] = {"urls": [server.url for server in servers], "model": "m", "retries": {"pause": 60}}
    return OpenAIBackend("m", OpenAIOptions.model_validate(given | changes))


@pytest.mark.parametrize("play", [hung_up, broken(), refused(500), refused(429, retry_after="3600")])
async def test_what_fails_before_its_first_token_goes_to_another_endpoint_at_once(play: Play) -> None:
    """No pause, whatever the first one asked for: the other has not been asked."""
    async with upstream(play) as bad, upstream(whole) as good:
        model = pool(bad, good, circuit={"failures": 1000}, retries={"budget": 1000, "pause": 60})
        for _ in range(6):
            assert await play_all(model.generate(REQUEST)) == WELL
    assert len(good.heard) == 6


@pytest.mark.parametrize("play", [silent, stalled()])
def test_an_endpoint_that_hangs_is_left_for_another_after_its_part_of_the_time(play: Play) -> None:
    """`timeouts.attempt`, not all of `first_token`."""

    async def main(loop: clock.SteppedLoop) -> None:
        async with upstream(play) as bad, upstream(whole) as good:
            model = pool(bad, good, timeouts={"attempt": 7, "first_token": 60})

            async def until_asked() -> tuple[str, FinishReason]:
                while True:
                    result = await play_all(model.generate(REQUEST))
                    if bad.heard:
                        return result

            task = asyncio.create_task(until_asked())
            await clock.until(lambda: bool(bad.heard))
            begun = loop.time()
            loop.ring_next()
            await clock.until(task.done)
            assert loop.time() - begun == pytest.approx(7)
            assert await task == WELL
            await http.close()

    clock.run(main)


async def test_an_endpoint_that_is_not_there_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """After some failures nobody asks it, and the log has said so once; all requests succeed."""
    async with upstream(whole) as gone:
        pass
    async with upstream(whole) as good:
        model = pool(gone, good, circuit={"failures": 2, "pause": 3600})
        for _ in range(20):
            assert await play_all(model.generate(REQUEST)) == WELL
    assert [member.breaker.is_open for member in model.members.all] == [True, False]
    assert caplog.text.count("left alone") == 1
    assert len(good.heard) == 20


async def test_an_endpoint_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its pause one request at a time tries it, and its success admits it again."""
    now = [1000.0]
    monkeypatch.setattr("circuitbreaker.monotonic", lambda: now[0])
    async with upstream(refused(500), whole) as ill, upstream(whole) as good:
        model = pool(ill, good, circuit={"failures": 1, "pause": 10})
        while not ill.heard:
            assert await play_all(model.generate(REQUEST)) == WELL
        for _ in range(10):
            assert await play_all(model.generate(REQUEST)) == WELL
        assert len(ill.heard) == 1
        now[0] += 11
        while len(ill.heard) < 5:
            assert await play_all(model.generate(REQUEST)) == WELL


async def test_when_all_are_left_alone_the_caller_hears_when_to_come_back() -> None:
    """CIRCUIT_OPEN, with the shortest of the pauses; nobody is asked."""
    async with upstream(refused(500)) as one, upstream(refused(500)) as two:
        model = pool(one, two, circuit={"failures": 1, "pause": 30})
        _, error = await failure(model.generate(REQUEST))
        assert (error.reason, len(one.heard), len(two.heard)) == ("UPSTREAM_FAILED", 1, 1)
        _, error = await failure(model.generate(REQUEST))
        assert (error.reason, len(one.heard), len(two.heard)) == ("CIRCUIT_OPEN", 1, 1)
    assert isinstance(error, UnavailableError)
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 30


async def test_after_the_first_token_nothing_is_asked_again() -> None:
    """What came stays, and the error is told, though another endpoint would answer."""
    async with upstream(broken(said("one"))) as one, upstream(broken(said("one"))) as two:
        texts, error = await failure(pool(one, two).generate(REQUEST))
        assert (texts, error.reason) == (["one"], "UPSTREAM_TRUNCATED")
        assert len(one.heard) + len(two.heard) == 1


async def test_the_budget_of_a_model_is_that_of_all_its_endpoints() -> None:
    """When most requests fail, no endpoint gets more than one attempt of each."""
    async with upstream(refused(500)) as one, upstream(refused(500)) as two:
        model = pool(one, two, circuit={"failures": 1000}, retries={"attempts": 2, "budget": 4, "pause": 0.001})
        for _ in range(5):
            await failure(model.generate(REQUEST))
        assert len(one.heard) + len(two.heard) == 6


async def test_load_is_spread_and_let_go() -> None:
    """Generations that run count at their endpoint, from the first byte to the end or to their reader's going."""
    async with upstream(stalled(said("one"))) as one, upstream(stalled(said("one"))) as two:
        model = pool(one, two)
        running = [model.generate(REQUEST).batches() for _ in range(8)]
        for each in running:
            await anext(each)
        assert [member.running for member in model.members.all] == [4, 4]
        for each in running:
            await each.aclose()
        assert [member.running for member in model.members.all] == [0, 0]


async def test_a_session_keeps_its_endpoint_and_another_tenants_may_have_another() -> None:
    """The turns of a conversation meet the cache that knows it."""
    async with upstream(whole) as one, upstream(whole) as two:
        model = pool(one, two)
        homes: set[tuple[bool, bool]] = set()
        for number in range(12):
            before = len(one.heard), len(two.heard)
            for _ in range(3):
                with context.use(RequestContext(session_id="s", tenant_id=f"t{number}")):
                    await play_all(model.generate(REQUEST))
            homes.add((len(one.heard) == before[0], len(two.heard) == before[1]))
    assert homes == {(True, False), (False, True)}


async def test_stop_while_another_endpoint_is_tried_ends_it() -> None:
    """The batches just end, and no connection stays."""
    async with upstream(hung_up) as bad, upstream(silent) as slow:
        model = pool(bad, slow, circuit={"failures": 1000})
        generation = model.generate(REQUEST)
        task = asyncio.create_task(collect(generation.batches()))
        await eventually(lambda: bool(slow.heard))
        generation.stop()
        async with asyncio.timeout(TIMEOUT):
            assert await task == 0
        await eventually(lambda: slow.open == 0)


async def test_the_span_says_which_endpoint_answered() -> None:
    """The last that was asked, by its address; each attempt is a span of its own."""
    async with upstream(refused(500)) as bad, upstream(whole) as good:
        model = pool(bad, good)
        with observed() as seen:
            while not bad.heard:
                with tracer().start_as_current_span("call"):
                    await play_all(model.generate(REQUEST))
    calls = [span for span in seen.spans.ended if span.name == "call"]
    address = good.url.removeprefix("http://").removesuffix("/v1")
    assert all((span.attributes or {}).get(Name.ENDPOINT) == address for span in calls)
    assert sum(span.name == "POST" for span in seen.spans.ended) == len(calls) + 1


async def test_services_of_grpc_stand_in_for_one_another(tmp_path: Path) -> None:
    """One that is gone costs no turn; one that fails by itself is not asked twice, and what it cost is counted."""
    say = ReplayBackend(ReplayOptions(text="one two"))
    gone = f"unix:{tmp_path / 'gone.sock'}"
    async with served(say, tmp_path) as url:
        model = RemoteBackend("m", RemoteOptions(urls=(gone, url), model="m"))
        for _ in range(12):
            assert await play_all(model.generate(REQUEST)) == WELL
        await channels.close()
    other = tmp_path / "other"
    other.mkdir()
    async with served(ReplayBackend(ReplayOptions(text="one two", fail_after=0)), other) as url:
        model = RemoteBackend("m", RemoteOptions(urls=(gone, url), model="m"))
        generation = model.generate(GenerationRequest((Message("user", "hi"),)))
        with pytest.raises(InternalError):
            await play_all(generation)
        assert generation.usage.prompt == 1
        await channels.close()


async def test_what_attempts_cost_that_failed_is_counted(tmp_path: Path) -> None:
    """A service that has read the prompt and then ends costs what it says; the one that answers costs its own."""
    costly = Costly()
    (tmp_path / "costly").mkdir()
    (tmp_path / "good").mkdir()
    async with (
        served(costly, tmp_path / "costly") as bad,
        served(ReplayBackend(ReplayOptions(text="one two")), tmp_path / "good") as good,
    ):
        model = RemoteBackend("m", RemoteOptions(urls=(bad, good), model="m"))
        usages: list[Usage] = []
        while not costly.asked:
            generation = model.generate(REQUEST)
            assert await play_all(generation) == WELL
            usages.append(generation.usage)
        assert usages[-1] == Usage(prompt=12, completion=2)
        await channels.close()


class Costly:
    """A backend, and each of its generations: reads a prompt of 11 tokens and ends."""

    context_window = 0
    generated_tokens = 0
    usage = Usage(prompt=11)

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, request: GenerationRequest) -> "Costly":
        del request
        return self

    async def batches(self) -> AsyncGenerator[Sequence[Step]]:
        self.asked += 1
        raise UnavailableError("the engine ends", reason="ENGINE_GONE")
        yield []

    def stop(self) -> None:
        pass

    async def close(self) -> None:
        pass


async def collect(batches: AsyncGenerator[Any]) -> int:
    async with aclosing(batches):
        return len([batch async for batch in batches])


@asynccontextmanager
async def served(backend: Backend, directory: Path) -> AsyncGenerator[str]:
    """The URL of a service with this model."""
    models = Registry({"m": ServedModel("m", "any", backend, Admission("m", max_running=2, max_waiting=0))})
    async with serving(models, directory):
        yield f"unix:{directory / 'inference.sock'}"
