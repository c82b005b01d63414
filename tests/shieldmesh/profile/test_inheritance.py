"""A profile that extends another is what both say, and what is wrong with it is told where it stands."""

import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shieldmesh import profile
from shieldmesh.profile.entry import Scale
from shieldmesh.profile.policy import DenyListEntry, PiiEntry
from tests.shieldmesh.profile.writing import complaints, problems, write

Tree: TypeAlias = Any
"""JSON of any shape, a map at the top."""

_LEAF = st.one_of(st.integers(0, 9), st.booleans(), st.none(), st.lists(st.integers(0, 9), max_size=2))
_KEYS = st.sampled_from("abc")
_INNER = st.recursive(_LEAF, lambda inner: st.dictionaries(_KEYS, inner, max_size=3), max_leaves=6)
_TREE = st.dictionaries(_KEYS, _INNER)

BASE = """\
model: a
prompt: be kind
sampling: {temperature: 0.5, stop: [x]}
allow_overrides: [seed]
model_options: {deep: {one: 1, list: [1, 2]}}
output:
  shields:
    - type: pii
      action: {block: 0.9, flag: 0.5}
      actions: {email: redact, phone: {flag: 0.1}}
      timeout: 2
      options: {region: US, countries: [us]}
    - type: deny_list
      name: codenames
      action: block
      options: {terms: [bluebird]}
"""


def child(directory: Path, content: str, **others: str) -> profile.Policy:
    """The policy of a profile that extends `BASE` and says this."""
    write(directory, base=BASE, child=f"extends: base\n{content}", **others)
    return profile.load(directory).common["child"].policy


def test_a_profile_that_says_nothing_is_its_parent(tmp_path: Path) -> None:
    """Extending alone changes nothing, not even the version."""
    write(tmp_path, base=BASE, child="extends: base")
    profiles = profile.load(tmp_path).common
    assert profiles["child"].policy == profiles["base"].policy
    assert profiles["child"].version == profiles["base"].version


def test_maps_merge_and_all_else_replaces(tmp_path: Path) -> None:
    """However deep: a key that both have is the child's, a list too; what the child does not name stays."""
    policy = child(
        tmp_path,
        "prompt: be brief\nsampling: {temperature: 0, stop: [y, z]}\nallow_overrides: []\n"
        "model_options: {deep: {two: 2, list: [3]}}",
    )
    assert (policy.model, policy.prompt) == ("a", "be brief")
    assert (policy.sampling.temperature, policy.sampling.stop) == (0, ("y", "z"))
    assert policy.allow_overrides == ()
    assert policy.model_options == {"deep": {"one": 1, "two": 2, "list": [3]}}


def test_shields_merge_by_name_and_new_ones_follow(tmp_path: Path) -> None:
    """A shield of an inherited name changes what it says; others come behind, in their order."""
    policy = child(
        tmp_path,
        "output:\n  shields:\n    - {type: url, action: flag}\n    - {name: codenames, on_error: open}\n"
        "    - {type: pii, options: {countries: [gb]}}",
    )
    pii, codenames, url = policy.output.shields
    assert isinstance(pii, PiiEntry)
    assert (pii.timeout, pii.options.region, pii.options.countries) == (2, "US", ("gb",))
    assert isinstance(codenames, DenyListEntry)
    assert (codenames.action, codenames.on_error, codenames.options.terms) == ("block", "open", ("bluebird",))
    assert url.name == "url"


def test_an_action_replaces_an_action_with_all_its_scores(tmp_path: Path) -> None:
    """Scores of one scale never mix with another's, nor a plain action with a scale."""
    policy = child(
        tmp_path,
        "output: {shields: [{type: pii, action: {redact: 0.7}, actions: {phone: {block: 1}, iban: block}}]}",
    )
    pii = policy.output.shields[0]
    assert isinstance(pii, PiiEntry)
    assert pii.action == Scale(redact=0.7)
    assert pii.actions == {"email": "redact", "phone": Scale(block=1), "iban": "block"}


def test_shields_can_be_left_out_and_replaced(tmp_path: Path) -> None:
    """`without` takes inherited shields away; one of the same name is new then, even of another type."""
    policy = child(tmp_path, "output: {without: [pii]}")
    assert [shield.name for shield in policy.output.shields] == ["codenames"]
    policy = child(tmp_path, "output: {without: [pii], shields: [{type: secrets, name: pii, action: flag}]}")
    assert [(shield.name, shield.type) for shield in policy.output.shields] == [
        ("codenames", "deny_list"),
        ("pii", "secrets"),
    ]


def test_a_long_line_of_ancestors(tmp_path: Path) -> None:
    """Each generation adds to the one before, whatever the order of their names; hundreds are no trouble."""
    files = {f"p{age}": f"extends: p{age - 1}\nmodel_options: {{o{age}: {age}}}" for age in range(1, 200)}
    write(tmp_path, p0="model: a", **files)
    youngest = profile.load(tmp_path).common["p199"].policy
    assert len(youngest.model_options) == 199


def test_abstract_profiles_are_for_extending_alone(tmp_path: Path) -> None:
    """They may lack their model, and nobody can use them; that does not pass to those that extend them."""
    write(
        tmp_path,
        guards="abstract: true\noutput: {shields: [{type: secrets, action: block}]}",
        use="extends: guards\nmodel: a",
    )
    profiles = profile.load(tmp_path)
    assert list(profiles.common) == ["use"]
    assert profiles.common["use"].policy.output.shields[0].name == "secrets"


def test_what_is_wrong_is_told_where_it_stands(tmp_path: Path) -> None:
    """A wrong value of a parent is told once, in the parent's file; a child's in its own, with its own index there."""
    write(
        tmp_path,
        base="model: a\noutput:\n  shields:\n    - {type: pii, action: blok}\n    - {type: url, action: flag}",
        middle="extends: base\nsampling:\n  seed: -1",
        last="extends: middle\noutput:\n  shields:\n  - {type: secrets, action: flag}\n  - name: url\n    timeout: 99",
    )
    assert complaints(tmp_path) == [
        "base.yaml:4: output.shields[0].action: input should be 'allow', 'flag', 'redact' or 'block'",
        "last.yaml:6: output.shields[1].timeout: input should be less than or equal to 60",
        "middle.yaml:3: sampling.seed: input should be greater than or equal to 0",
    ]


def test_what_two_files_make_wrong_together(tmp_path: Path) -> None:
    """A child that makes its parent's shields redact in front of a parallel input is told so at the parent's mode."""
    write(
        tmp_path,
        base="model: a\ninput:\n  mode: parallel\n  shields: [{type: pii, action: flag}]",
        child="extends: base\ninput: {shields: [{name: pii, action: redact}]}",
    )
    (problem,) = complaints(tmp_path)
    assert problem.startswith("base.yaml:3: input.mode: parallel lets the model read the text before pii can redact")


def test_what_is_missing_is_told_at_the_child(tmp_path: Path) -> None:
    """A model that nobody names is missing in the profile that is to be used."""
    write(tmp_path, guards="abstract: true\nprompt: b", use="# here\nextends: guards")
    assert complaints(tmp_path) == ["use.yaml:2: model: it is missing"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("extends: bas", "child.yaml:1: extends: there is no profile bas here: expected one of base"),
        ("extends: child", "child.yaml:1: extends: child extends child: no profile can extend itself"),
        ("prompt: b\nextends: [base]", "child.yaml:2: extends: input should be a valid string"),
        ("abstract: perhaps", "child.yaml:1: abstract: input should be a valid boolean, unable to interpret input"),
        (
            "extends: base\noutput:\n  without: [codenames, url]",
            "child.yaml:3: output.without[1]: no such shield is inherited: expected one of codenames, pii",
        ),
        ("extends: base\ninput:\n  without: [pii]", "child.yaml:3: input.without[0]: no shield is inherited"),
        (
            "extends: base\noutput:\n  without: pii",
            "child.yaml:3: output.without: expected a list of names of inherited shields",
        ),
        ("model: b\noutput: {without: [pii]}", "child.yaml:2: output.without[0]: no shield is inherited"),
        (
            "extends: base\noutput:\n  shields:\n  - {name: codenames, type: url}",
            "child.yaml:4: output.shields[0].type: codenames is of type deny_list in base.yaml:13: choose another name",
        ),
        (
            "extends: base\noutput:\n  shields:\n  - {type: pii}\n  - {type: pii}",
            "child.yaml:5: output.shields[1].action: it is missing",
        ),
    ],
)
def test_wrong_inheritance_is_told_with_its_place(tmp_path: Path, content: str, problem: str) -> None:
    """Missing parents, wrong words and shields that are not there: file, line, field."""
    write(tmp_path, base=BASE, child=content)
    first, *more = complaints(tmp_path)
    assert first.startswith(problem)
    assert not more


def test_circles_are_told_at_each_profile_in_them(tmp_path: Path) -> None:
    """Those in the circle are wrong; one that extends one of them adds nothing."""
    write(tmp_path, a="extends: b", b="model: x\nextends: c", c="extends: a", d="extends: a")
    assert complaints(tmp_path) == [
        "a.yaml:1: extends: a extends b extends c extends a: no profile can extend itself",
        "b.yaml:2: extends: b extends c extends a extends b: no profile can extend itself",
        "c.yaml:1: extends: c extends a extends b extends c: no profile can extend itself",
    ]


def test_a_parent_that_cannot_be_read_is_the_only_problem(tmp_path: Path) -> None:
    """Those that extend it are not blamed for it."""
    write(tmp_path, a="extends: b", b="model: [")
    assert [problem.partition(":")[0] for problem in complaints(tmp_path)] == ["b.yaml"]


def test_a_text_alone_extends_nothing() -> None:
    """What is parsed without a directory has nobody to extend."""
    assert problems("model: a\nextends: b") == [
        "p.yaml:2: extends: there is no other profile here that it could extend"
    ]


@given(st.lists(_TREE, min_size=1, max_size=4))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_generations_of_maps_merge_as_they_do_one_by_one(tmp_path: Path, trees: list[Tree]) -> None:
    """Whatever each generation says, the youngest is all of it, later words over earlier ones."""
    expected: Tree = {}
    for age, tree in enumerate(trees):
        head = f"extends: p{age - 1}" if age else "model: a"
        write(tmp_path, **{f"p{age}": f"{head}\nmodel_options: {json.dumps(tree)}"})
        expected = merged(expected, tree)
    youngest = profile.load_file(tmp_path / f"p{len(trees) - 1}.yaml")
    assert youngest.policy.model_options == expected


def merged(before: Tree, now: Tree) -> Tree:
    """Rule 1, said once more."""
    both = before.keys() & now.keys()
    deeper = {key: merged(before[key], now[key]) for key in both if {type(before[key]), type(now[key])} == {dict}}
    return {**before, **now, **deeper}


def test_keys_that_yaml_merges_give_way_to_keys_of_their_own(tmp_path: Path) -> None:
    """What `<<` brings in, in either file, counts less than what stands beside it, and is merged like it."""
    policy = child(
        tmp_path, "x: &x {temperature: 1, seed: 7}\nsampling: {<<: *x, seed: 8}".replace("x: &x", "model_options: &x")
    )
    assert (policy.sampling.temperature, policy.sampling.seed, policy.sampling.stop) == (1, 8, ("x",))
    (problem,) = problems("model: a\nmodel_options: &x {seed: 7}\nsampling: {<<: *x,\n  seed: -8}")
    assert problem.startswith("p.yaml:4: sampling.seed: ")


def test_one_file_is_loaded_with_those_beside_it(tmp_path: Path) -> None:
    """A single profile is what it is among the others, whatever is wrong with those it has nothing to do with."""
    write(tmp_path, base=BASE, child="extends: base\nmodel: b", broken="model: [")
    assert profile.load_file(tmp_path / "child.yaml").policy.model == "b"
    with pytest.raises(profile.ProfileError, match="cannot be read: No such file"):
        profile.load_file(tmp_path / "nowhere.yaml")
