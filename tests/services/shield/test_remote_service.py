"""Shields of another ShieldService: what they find is what they would find here, and what they say is checked."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.shield.inspection import Inspection
from services.shield.remote.depth import MAX_DEPTH, VALUE
from services.shield.remote.remotes import Remotes
from services.shield.spans import ShieldSpans
from shieldmesh import context
from shieldmesh.context import RequestContext
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.publishing import published_to
from shieldmesh.v1 import policy_pb2, progress_pb2, shield_pb2

from .examples import CARD, CUTS, EMAIL, cut, texts
from .remoting import OPENED, TIMEOUT, Answer, TalkingShields, real, remote, service
from .serving import spec
from .slow import hear
from .test_inspection import CATALOGUE

FLAG, REDACT, BLOCK = policy_pb2.ACTION_FLAG, policy_pb2.ACTION_REDACT, policy_pb2.ACTION_BLOCK
Requests = AsyncIterator[shield_pb2.InspectStreamRequest]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts(4), CUTS, st.sampled_from([FLAG, REDACT, BLOCK]))
async def test_a_remote_shield_does_what_it_would_do_here(
    tmp_path: Path, text: str, cuts: list[int], action: policy_pb2.Action.ValueType
) -> None:
    """The text that leaves, and the verdicts, are those of the same shield in this process, however the text is cut."""
    (local,) = await CATALOGUE.shields([spec("pii", name="remote", action=action, options={"region": "US"})])
    here = await hear([local], [text])
    async with service(tmp_path, real()) as url:
        shield = await remote(url, action=action, type="pii", options={"region": "US"})
        there = await hear([shield], cut(text, cuts))
    assert (there.text, there.blocked, there.verdicts) == (here.text, here.blocked, here.verdicts)


async def test_our_policy_decides(tmp_path: Path) -> None:
    """By kind and placeholder, about findings of a service that is asked for no action of its own."""
    async with service(tmp_path, real()) as url:
        shield = await remote(url, action=REDACT, action_by_kind={"payment_card": FLAG}, type="pii")
        heard = await hear([shield], [f"{EMAIL} and {CARD}"])
    assert heard.text == f"[EMAIL] and {CARD}"
    assert heard.verdicts == [("remote", REDACT, "email"), ("remote", FLAG, "payment_card")]


async def test_what_is_known_later_is_told_without_more_text(tmp_path: Path) -> None:
    """Text leaves as soon as a slow shield over there has cleared it, also when no more text comes."""
    go_on = asyncio.Event()

    async def talk(requests: Requests) -> AsyncGenerator[Answer]:
        await anext(requests)
        yield OPENED
        await anext(requests)
        yield Answer(clearance=shield_pb2.Clearance(watermark=0, seen=7))
        await go_on.wait()
        yield Answer(clearance=shield_pb2.Clearance(watermark=7, seen=7))
        async for _ in requests:
            pass

    news = asyncio.Event()
    async with service(tmp_path, servicer := TalkingShields(talk)) as url:
        shield = await remote(url, type="slow")
        with ShieldSpans([shield]) as spans:
            async with asyncio.timeout(TIMEOUT), Inspection([shield], spans, news=news.set) as inspection:
                news.clear()
                await inspection.put("an owl.", end=False)
                await servicer.began.wait()
                assert inspection.release().watermark == 0
                go_on.set()
                while inspection.release().watermark < 7:
                    news.clear()
                    await news.wait()
        await servicer.ended.wait()


def clearance(**fields: Any) -> Answer:
    return Answer(clearance=shield_pb2.Clearance(**fields))


def found(start: int, end: int, score: float = 1.0) -> policy_pb2.Verdict:
    finding = policy_pb2.Finding(kind="k", start=start, end=end, score=score)
    return policy_pb2.Verdict(shield="s", action=REDACT, findings=[finding])


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [clearance(watermark=6, seen=6)],
        [OPENED],
        [OPENED, OPENED],
        [OPENED, clearance(watermark=0, seen=6)],
        [OPENED, clearance(watermark=7, seen=7)],
        [OPENED, clearance(watermark=6, seen=5)],
        [OPENED, clearance(watermark=6, seen=6, lane=1)],
        [OPENED, clearance(watermark=5, seen=6), clearance(watermark=4, seen=6)],
        [OPENED, clearance(watermark=6, seen=6, verdicts=[found(2, 7)])],
        [OPENED, clearance(watermark=6, seen=6, verdicts=[found(3, 2)])],
        [OPENED, clearance(watermark=6, seen=6, verdicts=[found(2, 2)])],
        [OPENED, clearance(watermark=6, seen=6, verdicts=[found(2, 3, float("nan"))])],
        [OPENED, clearance(watermark=4, seen=6), clearance(watermark=6, seen=6, verdicts=[found(3, 5)])],
    ],
)
async def test_what_breaks_the_contract_is_no_answer(tmp_path: Path, answers: list[Answer]) -> None:
    """Marks that go back or beyond the text, findings in what was cleared, no last word: the shield has failed."""

    async def talk(requests: Requests) -> AsyncGenerator[Answer]:
        async for request in requests:
            if request.text.end:
                break
        for answer in answers:
            yield answer

    async with service(tmp_path, TalkingShields(talk)) as url:
        heard = await hear([await remote(url, type="t")], ["an owl"])
    assert (heard.text, heard.verdicts) == ("", [("remote", BLOCK, "SHIELD_BROKEN")])


async def test_scores_and_kinds_are_brought_into_form(tmp_path: Path) -> None:
    """A score beyond 1 is 1, and a kind that no policy could name is made one."""

    async def talk(requests: Requests) -> AsyncGenerator[Answer]:
        async for _ in requests:
            pass
        yield OPENED
        finding = policy_pb2.Finding(kind="Ünïcode Kind!", start=0, end=2, score=7.0)
        verdict = policy_pb2.Verdict(action=REDACT, findings=[finding])
        yield clearance(watermark=6, seen=6, verdicts=[verdict])

    async with service(tmp_path, TalkingShields(talk)) as url:
        heard = await hear([await remote(url, type="t")], ["an owl"])
    assert (heard.text, heard.verdicts) == ("[N_CODE_KIND] owl", [("remote", REDACT, "n_code_kind")])


@pytest.mark.parametrize(
    ("error", "reason"), [("SHIELD_TIMEOUT", "SHIELD_TIMEOUT"), ("my secret\n is …", "SHIELD_FAILED")]
)
async def test_the_failure_of_a_shield_over_there_is_one_here(tmp_path: Path, error: str, reason: str) -> None:
    """Its reason is told on, when it is one; whatever the service does about it."""

    async def talk(requests: Requests) -> AsyncGenerator[Answer]:
        await anext(requests)
        yield OPENED
        verdict = policy_pb2.Verdict(shield="t", action=FLAG, error=error)
        yield clearance(watermark=0, seen=0, verdicts=[verdict])
        async for _ in requests:
            pass

    async with service(tmp_path, TalkingShields(talk)) as url:
        heard = await hear([await remote(url, type="t")], ["an owl"])
    assert heard.verdicts == [("remote", BLOCK, reason)]


async def test_a_type_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The service says INVALID_ARGUMENT, and the shield fails; that is no sign that the service is in trouble."""
    async with service(tmp_path, real()) as url:
        remotes = Remotes([url], failures=1)
        for _ in range(2):
            heard = await hear([await remote(url, type="no_such_type", remotes=remotes)], ["an owl"])
            assert heard.verdicts == [("remote", BLOCK, "SHIELD_REFUSED")]
        assert not (await hear([await remote(url, type="pii", remotes=remotes)], ["an owl"])).verdicts


@pytest.mark.parametrize(("levels", "verdicts"), [(MAX_DEPTH, []), (MAX_DEPTH + 1, ["SHIELD_TOO_DEEP"])])
async def test_services_that_ask_themselves_stop(tmp_path: Path, levels: int, verdicts: list[str]) -> None:
    """A service that is told to ask itself, and so on, ends at the depth limit with an error that says so."""
    url = f"unix:{tmp_path}/remote.sock"
    remotes = Remotes([url])
    options: dict[str, Any] = {"type": "pii"}
    for _ in range(levels - 1):
        options = {"type": "remote", "options": {"url": url, **options}}
    async with service(tmp_path, real(remotes)):
        shield = await remote(url, remotes=remotes, **options)
        heard = await hear([shield], [f"{EMAIL} wrote"])
    assert [reason for _, _, reason in heard.verdicts] == (verdicts or ["email"])
    assert heard.text == ("" if verdicts else "[EMAIL] wrote")


@pytest.mark.parametrize("count", ["4", "99", "-1", "many", ""])
async def test_a_count_of_depth_that_is_none_is_too_deep(tmp_path: Path, count: str) -> None:
    """What another service made of the count does not begin it anew."""
    with context.use(RequestContext(values={VALUE: count})):
        heard = await hear([await remote(f"unix:{tmp_path}/none.sock", type="pii")], ["an owl"])
    assert heard.verdicts == [("remote", BLOCK, "SHIELD_TOO_DEEP")]


async def test_the_context_travels_to_the_service(tmp_path: Path) -> None:
    """The service works for the same session and turn, one level deeper."""
    seen: list[RequestContext] = []

    async def talk(requests: Requests) -> AsyncGenerator[Answer]:
        seen.append(context.current())
        yield OPENED
        async for _ in requests:
            pass
        yield clearance(watermark=6, seen=6)

    ours = RequestContext(session_id="s", request_id="r", tenant_id="t", values={"tone": "calm"})
    async with service(tmp_path, TalkingShields(talk)) as url:
        shield = await remote(url, type="t")
        with context.use(ours):
            assert (await hear([shield], ["an owl"])).text == "an owl"
    (there,) = seen
    assert (there.session_id, there.request_id, there.tenant_id) == ("s", "r", "t")
    assert dict(there.values) == {"tone": "calm", VALUE: "1"}


async def test_interim_results_pass(tmp_path: Path) -> None:
    """What the service publishes goes on to whom this call is for, and changes nothing else."""
    passed: list[str] = []

    def take(result: progress_pb2.Progress) -> bool:
        passed.append(result.name)
        return True

    async def talk(requests: Requests) -> AsyncGenerator[Answer]:
        yield OPENED
        async for _ in requests:
            yield Answer(progress=progress_pb2.Progress(name="looks"))
        yield clearance(watermark=6, seen=6)

    async with service(tmp_path, TalkingShields(talk)) as url:
        shield = await remote(url, type="t")
        with published_to(take):
            assert (await hear([shield], ["an owl"])).text == "an owl"
    assert set(passed) == {"looks"}


async def test_a_lane_that_is_left_leaves_nothing_behind(tmp_path: Path) -> None:
    """When nobody waits for the text any more, the stream ends over there, and no task stays here."""

    async def talk(requests: Requests) -> AsyncGenerator[Answer]:
        yield OPENED
        await asyncio.Event().wait()
        async for _ in requests:
            yield OPENED

    before = asyncio.all_tasks()
    async with service(tmp_path, servicer := TalkingShields(talk)) as url, asyncio.timeout(TIMEOUT):
        shield = await remote(url, type="t")
        at_work = asyncio.all_tasks()
        with ShieldSpans([shield]) as spans:
            async with Inspection([shield], spans) as inspection:
                await inspection.put("an owl", end=False)
                await servicer.began.wait()
        await servicer.ended.wait()
        # Those of grpc.aio that were cancelled need a moment to end; one that stays runs into the timeout.
        left = {task for task in asyncio.all_tasks() - at_work if "AioServer" not in repr(task)} - before
        await asyncio.gather(*left, return_exceptions=True)


URLS = ["http://detectors:8000/pii", "grpc://shields:50052", "unix:/run/shields"]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://detectors:8000/pii", True),
        ("http://Detectors:8000/pii/", True),
        ("http://detectors:8000/pii/v2", True),
        ("http://detectors:8000/piist", False),
        ("http://detectors:8000", False),
        ("http://detectors:80001/pii", False),
        ("https://detectors:8000/pii", False),
        ("grpc://shields:50052", True),
        ("grpcs://shields:50052", False),
        ("grpc://shields:5005", False),
        ("unix:/run/shields/a.sock", True),
        ("unix:/run/shields.sock", False),
        ("http://169.254.169.254", False),
    ],
)
async def test_only_urls_that_were_set_are_called(url: str, *, allowed: bool) -> None:
    """A specification, which comes over the wire, can name no other place; the error tells what to set."""
    options: dict[str, Any] = {"detector_id": "d"} if url.startswith("http") else {"type": "pii"}

    async def build(urls: list[str]) -> None:
        await remote(url, allowed=urls, **options)

    checks: list[Callable[[], Any]] = [lambda: build([])] if allowed else [lambda: build([]), lambda: build(URLS)]
    if allowed:
        await build(URLS)
    for check in checks:
        with pytest.raises(InvalidArgumentError) as caught:
            await check()
        assert caught.value.field == "shields[0].options.url"
        assert "80001" in url or "SHIELDMESH_SHIELD_REMOTES" in caught.value.message
