"""A profile in the words of the contract."""

import pytest

from shieldmesh import profile
from shieldmesh.profile import Policy, Profile
from shieldmesh.v1 import generation_pb2


def test_the_words_are_those_of_the_policy_and_made_once() -> None:
    """Every call on behalf of a profile says the same, without translating the policy again."""
    policy = Policy.model_validate(
        {
            "model": "m",
            "model_options": {"seed": 7},
            "sampling": {"temperature": 0.5},
            "input": {"shields": [{"type": "secrets", "action": "block"}]},
            "output": {"shields": [{"type": "pii", "action": "redact"}, {"type": "url", "action": "flag"}]},
        }
    )
    given = Profile("p", "0" * 12, policy)
    assert given.wording is given.wording
    assert list(given.wording.input_shields) == [profile.shield_spec(each) for each in policy.input.shields]
    assert [spec.type for spec in given.wording.output_shields] == ["pii", "url"]
    assert given.wording.sampling == generation_pb2.Sampling(temperature=0.5)
    assert given.wording.model_options["seed"] == pytest.approx(7)
