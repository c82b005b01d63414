"""What is told of a turn when it has ended, however it ended: one log line that says it all, and its metrics."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Literal, cast

import structlog
from google.protobuf.duration_pb2 import Duration
from opentelemetry import trace

from shieldmesh import context
from shieldmesh.errors import MeshError, seconds
from shieldmesh.metrics import Labels, instruments
from shieldmesh.profile import Profile
from shieldmesh.telemetry import Name
from shieldmesh.v1 import chat_pb2, generation_pb2, policy_pb2

from .account import Account
from .lanes import Lanes

Outcome = Literal["finished", "cancelled", "failed"]

NOBODY: Final = "none"
"""The tenant of turns that belong to none, and the profile of those that were refused before they had one."""

_EARLY: Final = 0.01
"""Seconds that a timer may fire before its time: event loops count in milliseconds."""

_log = structlog.stdlib.get_logger("shieldmesh.turn")


@contextmanager
def refused() -> Generator[None]:
    """Around the checks before a turn: one that they refuse has a line and a duration as well."""
    try:
        yield
    except MeshError as error:
        # What was asked for is the caller's text: the reason says enough.
        _log.warning("turn failed", error=error.reason)
        instruments().turns.record(0.0, _labels(NOBODY, NOBODY, "failed"))
        raise


@contextmanager
def reported(profile: Profile, account: Account, lanes: Lanes) -> Generator[None]:
    """Around a turn; no ContextVar changes hands, so it may stand around a `yield`."""
    meters = instruments()
    running = meters.labels({Name.PROFILE: profile.name})
    meters.running_turns.add(1, running)
    outcome: Outcome = "failed"
    error = ""
    try:
        yield
        outcome = "cancelled" if account.reason == generation_pb2.FINISH_REASON_CANCELLED else "finished"
    except (asyncio.CancelledError, GeneratorExit):
        outcome, error = ("failed", "DEADLINE_EXCEEDED") if late() else ("cancelled", "")
        raise
    except BaseException as failure:
        error = _reason(failure)
        raise
    finally:
        meters.running_turns.add(-1, running)
        told = None if outcome == "failed" else account.summary
        summary = account.finished(lanes) if told is None else told
        about = {Name.PROFILE: profile.name, Name.PROFILE_VERSION: profile.version, Name.OUTCOME: outcome}
        span = trace.get_current_span()
        # That of the call has ended when the turn's caller left it to another reader.
        if span.is_recording():
            span.set_attributes(about)
        _measure(profile, account, summary, outcome)
        _tell(profile, account, summary, outcome, error)


def _measure(profile: Profile, account: Account, summary: chat_pb2.TurnFinished, outcome: Outcome) -> None:
    meters = instruments()
    labels = _labels(profile.name, account.model, outcome)
    meters.turns.record(seconds(summary.timings.total), labels)
    meters.held.record(summary.receipt.most_held_characters, labels)
    meters.longest_hold.record(seconds(summary.receipt.longest_hold), labels)
    usage = summary.usage
    owner = {name: label for name, label in labels.items() if name != Name.OUTCOME} | {Name.OPERATION: "chat"}
    for kind, tokens in (
        ("input", usage.prompt_tokens),
        ("cache_read", usage.cached_tokens),
        ("output", usage.completion_tokens),
    ):
        meters.tokens.record(tokens, {**owner, Name.TOKEN_TYPE: kind})


def _labels(profile: str, model: str, outcome: Outcome) -> Labels:
    tenant = context.current().tenant_id or NOBODY
    return instruments().labels({Name.TENANT: tenant, Name.PROFILE: profile, Name.MODEL: model, Name.OUTCOME: outcome})


def _tell(profile: Profile, account: Account, summary: chat_pb2.TurnFinished, outcome: Outcome, error: str) -> None:
    usage, receipt, timings = summary.usage, summary.receipt, summary.timings
    tell = _log.warning if outcome == "failed" else _log.info
    tell(
        f"turn {outcome}",
        profile=profile.name,
        profile_version=profile.version,
        model=account.model,
        **({"error": error} if error else {}),
        reason=_word(generation_pb2.FinishReason.Name(summary.reason), "FINISH_REASON_"),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        generated_characters=receipt.generated_characters,
        released_characters=receipt.released_characters,
        redacted_characters=receipt.redacted_characters,
        withheld_characters=receipt.withheld_characters,
        most_held_characters=receipt.most_held_characters,
        longest_hold_ms=_milliseconds(receipt.longest_hold),
        **{f"{phase.name}_ms": _milliseconds(value) for phase, value in timings.ListFields()},
        input_shields=list(receipt.input_shields),
        output_shields=list(receipt.output_shields),
        verdicts={
            f"{shield} {_word(policy_pb2.Action.Name(action), 'ACTION_').lower()}": count
            for (shield, action), count in account.verdicts.items()
        },
    )


def late() -> bool:
    """Whether what cancels a turn is its deadline and not its caller."""
    remaining = context.current().remaining()
    return remaining is not None and remaining < _EARLY


def _reason(error: BaseException) -> str:
    """The reason of the first typed error in a group, or of the error itself."""
    if isinstance(error, BaseExceptionGroup):
        reasons = [_reason(part) for part in cast("BaseExceptionGroup[BaseException]", error).exceptions]
        return next((reason for reason in reasons if reason != "INTERNAL"), "INTERNAL")
    return error.reason if isinstance(error, MeshError) else "INTERNAL"


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)


def _milliseconds(value: Duration) -> float:
    return round(seconds(value) * 1000, 1)
