"""P1, profiles: many over one model, and none ever sees another's prompt."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from services.inference.admission import Admission
from services.inference.backend import GenerationRequest
from services.inference.registry import Registry, ServedModel
from services.inference.replay import Replay, ReplayBackend, ReplayOptions
from tests.promises import mesh

PROFILES = 100
TURNS = 200


class Listening(ReplayBackend):
    """An engine that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(ReplayOptions(echo=True))
        self.asked: list[GenerationRequest] = []

    def generate(self, request: GenerationRequest) -> Replay:
        self.asked.append(request)
        return super().generate(request)


async def test_100_profiles_over_one_model_keep_their_prompts_apart(tmp_path: Path) -> None:
    """Each of 200 turns at once brings the engine its own profile's prompt with its own variables, and no other."""
    engine = Listening()
    policies: dict[str, dict[str, object]] = {
        f"p{number}": {
            "prompt": {"template": f"Rule {number} for {{{{ who }}}}.", "variables": {"who": {}}},
            "sampling": {"max_tokens": 50 + number},
        }
        for number in range(PROFILES)
    }
    order = list(range(TURNS))
    random.Random(5).shuffle(order)
    async with _mesh(engine, tmp_path, policies) as running:

        async def turn(number: int) -> str:
            ask = running.client.chat(
                f"turn {number}",
                profile=f"p{number % PROFILES}",
                variables={"who": f"caller {number}"},
                timeout=mesh.TIMEOUT,
            )
            return (await ask.result()).text

        answers = await asyncio.gather(*map(turn, order))

    assert answers == [f"turn {number}" for number in order]
    assert len(engine.asked) == TURNS
    for request in engine.asked:
        system, user = request.messages
        number = int(user.text.removeprefix("turn "))
        assert (system.role, system.text) == ("system", f"Rule {number % PROFILES} for caller {number}.")
        assert request.sampling.max_tokens == 50 + number % PROFILES


@asynccontextmanager
async def _mesh(
    engine: ReplayBackend, directory: Path, policies: dict[str, dict[str, object]]
) -> AsyncGenerator[mesh.Mesh]:
    """A mesh over this engine."""
    models: Sequence[ServedModel] = [
        ServedModel("echo", "replay", engine, Admission("echo", max_running=16, max_waiting=TURNS))
    ]
    registry = Registry({model.name: model for model in models})
    async with mesh.running(directory, profiles=policies, models=registry) as running:
        yield running
