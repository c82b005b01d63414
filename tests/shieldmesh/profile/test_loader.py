"""Profiles load as what they say, or say what is wrong with them and where."""

from pathlib import Path

import pytest

from shieldmesh import profile
from shieldmesh.profile import ProfileError
from shieldmesh.profile.options import SHIELD_TYPES
from shieldmesh.v1 import policy_pb2
from tests.shieldmesh.profile.writing import complaints, parse, problems, write

TENANTS = ("acme", "umbrella", "other", "")
SHIPPED = Path(__file__).parents[3] / "profiles"


def test_the_shipped_profiles_load() -> None:
    """`default` guards both ways; `echo` has every output shield, no input shield and no overrides."""
    profiles = profile.load(SHIPPED).common
    assert {"default", "echo"} <= profiles.keys()
    assert profiles["default"].policy.input.shields
    echo = profiles["echo"].policy
    assert {shield.type for shield in echo.output.shields} == {
        name for name, each in SHIELD_TYPES.items() if each.kind == "match"
    }
    assert (echo.input.shields, echo.allow_overrides) == ((), ())


def test_all_problems_of_a_file_are_told_with_line_and_field() -> None:
    """Each wrong value is named with the line it stands in, whatever else is wrong."""
    content = """\
model: a
sampling:
  temperature: 9
  magic: true
output:
  shields:
    - type: pii
      action: blok
      actions: {passport: block}
      options:
        kinds: [email, passport]
    - {type: magic, action: redact}
    - action: redact
    - type: deny_list
      action: block
"""
    built_in = "pii secrets deny_list url invisible json_schema language classifier injection judge remote"
    types = ", ".join(map(repr, built_in.split()))
    kinds = "'email', 'phone', 'payment_card', 'iban', 'ip_address' or 'national_id'"
    assert problems(content) == [
        "p.yaml:3: sampling.temperature: input should be less than or equal to 2",
        "p.yaml:4: sampling.magic: there is no such field here",
        "p.yaml:8: output.shields[0].action: input should be 'allow', 'flag', 'redact' or 'block'",
        f"p.yaml:9: output.shields[0].actions.passport: input should be {kinds}",
        f"p.yaml:11: output.shields[0].options.kinds[1]: input should be {kinds}",
        f"p.yaml:12: output.shields[1].type: expected one of {types}",
        "p.yaml:13: output.shields[2].type: it is missing",
        "p.yaml:14: output.shields[3].options: it is missing",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            "model: a\noutput: {shields: [{type: url, action: flag, options: {allow: ['https://example.com/']}}]}",
            "p.yaml:2: output.shields[0].options.allow[0]: expected the name of a host alone, such as example.com",
        ),
        ("", "p.yaml: it is empty; a profile names at least its model"),
        ("model: [", "p.yaml:1: it is not valid YAML: expected the node content, but found '<stream end>'"),
        ("model: a\nmodel: b", "p.yaml:2: model: it stands there twice, first in line 1"),
        ("model: a\nsampling: {seed: 1,\n seed: 1}", "p.yaml:3: sampling.seed: it stands there twice, first in line 2"),
        ("prompt: hi", "p.yaml:1: model: it is missing"),
        ("- model", "p.yaml:1: input should be a valid dictionary or instance of Policy"),
        (b"model: a\nprompt: \xff", "p.yaml:2: it is not UTF-8 text"),
        ("model: a\nprompt: \x07", "p.yaml: it holds characters that YAML forbids"),
        ("model: !!python/name:os.system", "p.yaml:1: it is not valid YAML: could not determine a constructor for"),
        ("a: 1\n---\nb: 2", "p.yaml:2: it is not valid YAML: but found another document"),
        ("model: a\nmodel_options: &o {o: *o}", "p.yaml: its aliases contain themselves or repeat too much"),
        ("model: 2026-13-45", "p.yaml: it holds a value that cannot be read"),
        (
            "model: a\ninput: {shields: [{type: pii, action: flag}, {type: pii, action: flag}]}",
            "p.yaml:2: input.shields: ",
        ),
        ("model: a\nallow_overrides: [seed, seed]", "p.yaml:2: allow_overrides: seed stands there more than once"),
    ],
)
def test_files_that_are_no_profiles_are_refused(content: str | bytes, problem: str) -> None:
    """What is not valid YAML, or not a profile, is told in a sentence with its line."""
    first, *more = problems(content)
    assert first.startswith(problem)
    assert not more


def test_aliases_cannot_blow_a_file_up() -> None:
    """A small file whose aliases write out to billions of values is refused."""
    levels = [f"  - &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 12)]
    content = "\n".join(["model: a", "model_options:", " x:", "  - &l0 [0]", *levels])
    assert problems(content) == ["p.yaml: its aliases contain themselves or repeat too much"]


def test_input_waits_for_shields_that_redact() -> None:
    """Redaction has to happen before the model reads: that is the default, and its opposite an error."""
    entry = "input:\n  shields: [{type: pii, action: flag, actions: {email: redact}}]"
    assert parse(f"model: a\n{entry}").input.mode == "gate"
    assert parse("model: a\ninput:\n  shields: [{type: pii, action: block}]").input.mode == "parallel"
    (problem,) = problems(f"model: a\n{entry}\n  mode: parallel")
    assert problem.startswith("p.yaml:4: input.mode: parallel lets the model read the text before pii can redact it")


def test_the_version_follows_the_content_alone() -> None:
    """Comments and order do not change the version, a value does."""
    one, same, other = (
        profile.parse("p", "p.yaml", content)
        for content in (b"model: a\nprompt: b", b"# new\nprompt: 'b'\nmodel: a", b"model: a\nprompt: c")
    )
    assert one.version == same.version != other.version


def test_problems_of_all_files_are_told_together(tmp_path: Path) -> None:
    """A directory loads whole or not at all, and files that would be overlooked are errors."""
    (tmp_path / "a.yaml").write_text("model: [")
    (tmp_path / "b.yaml").write_text("model: ''")
    (tmp_path / "c.yml").write_text("model: a")
    with pytest.raises(ProfileError) as caught:
        profile.load(tmp_path)
    assert [Path(problem.file).name for problem in caught.value.problems] == ["a.yaml", "b.yaml", "c.yml"]


def test_a_directory_without_profiles_is_an_error(tmp_path: Path) -> None:
    """An empty directory and one that is not there are told apart."""
    with pytest.raises(ProfileError, match="it holds no profiles"):
        profile.load(tmp_path)
    with pytest.raises(ProfileError, match="No such file or directory"):
        profile.load(tmp_path / "nowhere")


def test_a_policy_in_the_words_of_the_contract() -> None:
    """Entries become specifications with all that they say, sampling carries what is set."""
    policy = parse(
        "model: a\nsampling: {temperature: 0, stop: [x]}\n"
        "output: {shields: [{type: secrets, name: keys, action: redact, actions: {jwt: block},"
        " on_error: open, timeout: 1.5, options: {kinds: [jwt]}}]}"
    )
    spec = profile.shield_spec(policy.output.shields[0])
    assert (spec.name, spec.type, spec.action, dict(spec.action_by_kind)) == (
        "keys",
        "secrets",
        policy_pb2.ACTION_REDACT,
        {"jwt": policy_pb2.ACTION_BLOCK},
    )
    assert (spec.on_error, spec.timeout.ToMilliseconds()) == (policy_pb2.ON_ERROR_OPEN, 1500)
    assert spec.options == profile.struct({"kinds": ["jwt"]})
    sampling = profile.sampling(policy.sampling)
    assert (sampling.HasField("temperature"), sampling.HasField("top_p"), list(sampling.stop)) == (True, False, ["x"])


def test_tenants_with_profiles_of_their_own_see_no_others(tmp_path: Path) -> None:
    """A tenant's directory is all that it sees, and only it; who has none sees the common ones."""
    write(tmp_path, default="model: a", tenants__acme__own="model: b", tenants__umbrella__default="model: c")
    profiles = profile.load(tmp_path)
    seen = {tenant: {name: each.policy.model for name, each in profiles.of(tenant).items()} for tenant in TENANTS}
    assert seen == {"acme": {"own": "b"}, "umbrella": {"default": "c"}, "other": {"default": "a"}, "": {"default": "a"}}


def test_tenants_profiles_extend_their_own_and_common_ones(tmp_path: Path) -> None:
    """Their own come first, but a profile of a common one's name extends that; common ones never see a tenant's."""
    write(
        tmp_path,
        default="model: a\nprompt: common",
        base="model: a\nprompt: common base",
        uses_base="extends: base",
        tenants__acme__default="extends: default\nmodel: b",
        tenants__acme__base="model: c\nprompt: own base",
        tenants__acme__other="extends: base",
        tenants__acme__through="extends: uses_base",
        tenants__umbrella__other="extends: base",
    )
    acme, umbrella = (profile.load(tmp_path).of(tenant) for tenant in ("acme", "umbrella"))
    assert (acme["default"].policy.model, acme["default"].policy.prompt) == ("b", "common")
    assert acme["other"].policy.prompt == "own base"
    assert acme["through"].policy.prompt == umbrella["other"].policy.prompt == "common base"


def test_no_profile_extends_another_tenants(tmp_path: Path) -> None:
    """What lies in another tenant's directory is not there, for messages neither."""
    write(
        tmp_path,
        a="model: a\nextends: secret",
        tenants__acme__secret="model: b",
        tenants__umbrella__b="extends: secret",
    )
    assert complaints(tmp_path) == [
        "a.yaml:2: extends: there is no profile secret here: it is the only one",
        "tenants/umbrella/b.yaml:1: extends: there is no profile secret here: expected one of a",
    ]


def test_what_is_wrong_with_tenants_directories(tmp_path: Path) -> None:
    """Files beside the directories, names that no tenant can have, and directories without profiles are told."""
    write(tmp_path, a="model: a", tenants__stray="model: b", **{"tenants__two words__a": "model: b"})
    (tmp_path / "tenants" / "empty").mkdir()
    (tmp_path / "tenants" / ".hidden").mkdir()
    assert complaints(tmp_path) == [
        "tenants/empty: it holds no profiles (NAME.yaml)",
        "tenants/stray.yaml: tenants holds a directory for each tenant: move it into one",
        "tenants/two words: no tenant can be called so: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -",
    ]


def test_hidden_files_are_no_profiles(tmp_path: Path) -> None:
    """What editors leave beside a file while they write it is passed over."""
    write(tmp_path, a="model: a", **{".a": "model: ["})
    (tmp_path / ".#a.yaml").symlink_to("nobody@nowhere")
    assert list(profile.load(tmp_path).common) == ["a"]
