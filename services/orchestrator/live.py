"""The profiles of the moment, kept in step with their files."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
import watchfiles

from shieldmesh import context
from shieldmesh import profile as profiles
from shieldmesh.conditions import Condition
from shieldmesh.metrics import instruments
from shieldmesh.profile import ProfileError, Profiles
from shieldmesh.profile.loader import TENANTS
from shieldmesh.profile.source import Problem
from shieldmesh.telemetry import Name

from .flows.catalogue import NO_FLOWS, Catalogue
from .waiting import until_done

LOOK_SECONDS: Final = 5.0
"""How often the files are looked at, whatever the system tells: it does not tell that a directory was replaced."""
_QUIET_MS: Final = 200
"""How long nothing must have changed before the files are read: changes come in groups."""
_LONGEST_MS: Final = 2_000
"""How long changes may go on before the files are read all the same."""

_log = structlog.stdlib.get_logger("shieldmesh.profiles")


class LiveProfiles:
    """All profiles, replaced as a whole when their files have changed and are right.

    A set of profiles never changes: who works with one keeps what it began with.

    Attributes:
        now: The profiles of this moment.
        fresh: Holds while they are what the files say.
    """

    def __init__(self, directory: Path, flows: Catalogue = NO_FLOWS) -> None:
        """Loads the profiles, which may name these flows.

        Raises:
            ProfileError: the directory has no profiles or some are wrong; it tells all problems of all files.
        """
        self._directory = directory
        self._flows = flows
        self._fingerprint = profiles.fingerprint(directory)
        self.now = _loaded(directory, flows)
        self.fresh = Condition()

    @asynccontextmanager
    async def following(self, *, look_seconds: float = LOOK_SECONDS) -> AsyncGenerator[None]:
        """Follows the files inside the block."""
        # The library tells of every change it sees; what comes of one is told here.
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        work = asyncio.create_task(self._follow(look_seconds), context=context.detached())
        try:
            yield
        finally:
            work.cancel()
            await until_done(work)

    def tell(self) -> None:
        """Says what is noticed about the profiles at the start."""
        instruments().stale.set(0)
        for notice in sorted(_notices(self.now)):
            _log.warning("profile noticed", notice=notice)

    async def reload(self) -> None:
        """Reads the files, and uses what they say from now on; where they are wrong, says so and changes nothing."""
        self._fingerprint = await context.run_in_thread(profiles.fingerprint, self._directory)
        try:
            loaded = await context.run_in_thread(_loaded, self._directory, self._flows)
        except ProfileError as error:
            _log.error("profiles refused: those from before stay in use", problems=list(map(str, error.problems)))
            await self._note(fresh=False)
        except Exception:  # noqa: BLE001  # a defect must not end the watch: the next change may not meet it
            _log.exception("profiles refused: those from before stay in use")
            await self._note(fresh=False)
        else:
            before, self.now = self.now, loaded
            _tell_changes(before, loaded)
            await self._note(fresh=True)

    async def _follow(self, look_seconds: float) -> None:
        polling: bool | None = None  # the library finds out
        while True:
            try:
                async with aclosing(self._looks(look_seconds, polling=polling)) as looks:
                    async for changes in looks:
                        if changes or await self._looks_changed():
                            await self.reload()
            except Exception as error:  # noqa: BLE001  # whatever is wrong with watching, the files are looked after
                _log.warning("profiles cannot be watched: polling them", error_type=type(error).__name__)
                polling = True
                await asyncio.sleep(look_seconds)
                if await self._looks_changed():
                    await self.reload()

    def _looks(self, seconds: float, *, polling: bool | None) -> AsyncGenerator[set[tuple[watchfiles.Change, str]]]:
        """Yields what has changed, as soon as it has; nothing, when it has not for that long."""
        return watchfiles.awatch(  # pyright: ignore[reportUnknownMemberType]  # it names types of trio
            self._directory,
            watch_filter=None,
            debounce=_LONGEST_MS,
            step=_QUIET_MS,
            rust_timeout=round(seconds * 1000),
            yield_on_timeout=True,
            force_polling=polling,
        )

    async def _looks_changed(self) -> bool:
        return await context.run_in_thread(profiles.fingerprint, self._directory) != self._fingerprint

    async def _note(self, *, fresh: bool) -> None:
        instruments().reloads.add(1, {Name.RELOAD: "loaded" if fresh else "refused"})
        instruments().stale.set(0 if fresh else 1)
        await self.fresh.set(holds=fresh)


def _loaded(directory: Path, flows: Catalogue) -> Profiles:
    """The profiles, ready for their first turn: putting thousands of terms into words takes too long for the loop."""
    loaded = profiles.load(directory)
    if problems := [
        Problem(str(Path(directory, *([TENANTS, tenant] if tenant else []), f"{each.name}.yaml")), 0, field, message)
        for tenant, each, field, message in flows.complaints(loaded)
    ]:
        raise ProfileError(problems)
    for _, each in loaded:
        _ = each.wording
    return loaded


def _tell_changes(before: Profiles, now: Profiles) -> None:
    old, new = _versions(before), _versions(now)
    names = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
    }
    _log.info("profiles loaded", **{what: which for what, which in names.items() if which})
    for notice in sorted(_notices(now) - _notices(before)):
        _log.warning("profile noticed", notice=notice)


def _versions(of: Profiles) -> dict[str, str]:
    return {f"{tenant}/{each.name}" if tenant else each.name: each.version for tenant, each in of}


def _notices(of: Profiles) -> set[str]:
    return {str(notice) for _, each in of for notice in each.notices}
