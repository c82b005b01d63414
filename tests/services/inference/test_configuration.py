"""The models' configuration is read whole, or refused with the place of what is wrong."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.inference.configuration import Configuration, ConfigurationError, OpenAIModel, load
from services.inference.openai.options import OpenAIOptions
from services.inference.registry import open_models
from services.inference.remote.options import RemoteOptions

ROOT = Path(__file__).parents[3]


def test_the_shipped_configuration_has_the_three_models() -> None:
    """`models.yaml` of the repository loads."""
    configuration = load(ROOT / "models.yaml")
    assert {model.name: model.backend for model in configuration.models} == {
        "smollm2": "llamacpp",
        "echo": "replay",
        "script": "replay",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:\n- name: a\n  backend: replay\n  options: {text: x, pace: -1}\n", ":4: models[0].options.pace: "),
        ("models:\n- name: a\n  backend: magic\n", ":2: models[0]: "),
        ("models:\n- {name: a, backend: llamacpp, gpu: 1}\n", ":2: models[0].gpu: "),
        ("models:\n- {name: a, backend: llamacpp}\n- {name: a, backend: llamacpp}\n", "2 models have the name a"),
        ("models:\n- name: a\n  backend: openai\n  options: {url: x, model: m}\n", ":4: models[0].options.url: "),
        ("models:\n- {name: a, backend: openai, options: {url: 'http://h/v1'}}\n", ":2: models[0].options.model: "),
        ("models:\n- {name: a, backend: grpc, options: {url: 'http://h:1', model: m}}\n", "models[0].options.url: "),
        ("models: []\n", "at least one model is needed"),
        ("models: [\n", ":2: it is not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_field(tmp_path: Path, text: str, expected: str) -> None:
    """Each mistake says where it is."""
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_documented_example_is_right(tmp_path: Path) -> None:
    """What docs/models.md shows loads as it stands there."""
    # Those behind the first are more entries of its list.
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)
    file = tmp_path / "models.yaml"
    file.write_text("".join(examples))
    models = load(file, {"VLLM_KEY": "sk"}).models
    assert [model.backend for model in models] == ["openai", "openai", "openai", "grpc", "openai"]


OPENAI = "models:\n- name: a\n  backend: openai\n  options:\n    url: https://h/v1\n    model: m\n    api_key: "


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("sk-secret", "a key is given by reference"),
        ("{env: KEY, file: x}", "a key is given by reference"),
        ("{env: OTHER}", "there is no such environment variable"),
        ("{env: EMPTY}", "no key"),
        ("{env: STRANGE}", "no key"),
        ("{file: /nowhere/key}", "it cannot be read: No such file"),
    ],
)
def test_a_key_that_cannot_be_had_is_named_and_never_quoted(tmp_path: Path, reference: str, expected: str) -> None:
    """The message says where the reference stands and what is wrong with it."""
    file = tmp_path / "models.yaml"
    file.write_text(OPENAI + reference)
    with pytest.raises(ConfigurationError) as caught:
        load(file, {"KEY": "sk-secret", "EMPTY": " ", "STRANGE": "sk-secret\nx: y"})
    assert f"{file}:7: models[0].options.api_key: " in str(caught.value)
    assert expected in str(caught.value)
    assert "secret" not in str(caught.value)


def test_keys_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    """Blanks around them do not count, and no text form of the configuration shows them."""
    file, key = tmp_path / "models.yaml", tmp_path / "key"
    key.write_text("sk-secret\n")
    for reference in ("{env: KEY}", f"{{file: {key}}}"):
        file.write_text(OPENAI + reference)
        configuration = load(file, {"KEY": "sk-secret"})
        (model,) = configuration.models
        assert isinstance(model, OpenAIModel)
        assert model.options.api_key is not None
        assert model.options.api_key.now() == "sk-secret"
        assert "secret" not in f"{configuration!r} {configuration.model_dump()} {configuration.model_dump_json()}"


@pytest.mark.parametrize(
    "url",
    ["http://user:sk-secret@h/v1", "http://h/v1?key=x", "ftp://h/v1", "http:///v1", "http://h:99999/v1", "h/v1", ""],
)
def test_urls_that_name_no_server_are_refused(url: str) -> None:
    """Also those with credentials, which would show up in logs."""
    with pytest.raises(ValidationError) as caught:
        OpenAIOptions(url=url, model="m")
    assert "secret" not in caught.value.json(include_input=False)


@pytest.mark.parametrize(
    ("url", "target"),
    [("grpc://h:1", "h:1"), ("grpcs://[::1]:443/", "[::1]:443"), ("unix:/run/x.sock", "unix:/run/x.sock")],
)
def test_urls_of_services_become_targets(url: str, target: str) -> None:
    """In gRPC's own notation."""
    assert RemoteOptions(url=url, model="m").targets == [target]


def test_a_key_that_is_rotated_in_its_file_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that cannot be read stays what it was; no text of a key is logged."""
    caplog.set_level("DEBUG")
    file, key = tmp_path / "models.yaml", tmp_path / "key"
    key.write_text("sk-first")
    file.write_text(f"{OPENAI}{{file: {key}}}")
    (model,) = load(file).models
    assert isinstance(model, OpenAIModel)
    used = model.options.api_key
    assert used is not None
    seen: list[str] = []
    for rotated in ("sk-second\n", "no key sk-third", "", None, "sk-fourth"):
        other = tmp_path / "other"
        if rotated is None:
            key.unlink()
        else:
            other.write_text(rotated)
            other.replace(key)
        seen.append(used.now())
    assert seen == ["sk-second"] * 4 + ["sk-fourth"]
    assert caplog.text.count("stays in use") == 3
    assert "sk-" not in caplog.text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "either url or urls is needed"),
        ({"url": "http://a/v1", "urls": ["http://b/v1"]}, "either url or urls is needed"),
        ({"urls": ["http://a/v1", "http://a/v1/"]}, "more than once"),
        ({"urls": ["http://a/v1", "ftp://b"]}, "expected the URL"),
        ({"urls": [f"http://h{number}/v1" for number in range(65)]}, "at most 64"),
    ],
)
def test_a_model_has_one_endpoint_or_several(options: dict[str, Any], expected: str) -> None:
    """Each once, in one notation."""
    with pytest.raises(ValidationError, match=expected):
        OpenAIOptions.model_validate({"model": "m", **options})


def test_services_of_one_model_are_all_behind_tls_or_none() -> None:
    """They are asked alike."""
    with pytest.raises(ValidationError, match="some are with TLS and some are not"):
        RemoteOptions(urls=("grpc://a:1", "grpcs://b:1"), model="m")


def test_other_services_can_be_asked_for_diagnostics() -> None:
    """Each once, those behind TLS not."""
    urls = {"a": "grpc://h:1", "b": "grpc://h:1", "c": "unix:/x.sock", "d": "grpcs://h:2"}
    models = [{"name": name, "backend": "grpc", "options": {"url": url, "model": "m"}} for name, url in urls.items()]
    configuration = Configuration.model_validate({"models": models})
    assert configuration.callees == {"a": "h:1", "c": "unix:/x.sock"}


def test_each_endpoint_can_be_asked_for_diagnostics() -> None:
    """Under the model's name and its place in the list."""
    options = {"urls": ["grpc://h:1", "grpc://h:2"], "model": "m"}
    model = {"name": "a", "backend": "grpc", "options": options}
    assert Configuration.model_validate({"models": [model]}).callees == {"a-1": "h:1", "a-2": "h:2"}


@pytest.mark.parametrize("url", ["grpc://h", "h:1", "grpc://u@h:1", "grpc://h:1/x", "unix:", "http://h:1"])
def test_urls_that_name_no_service_are_refused(url: str) -> None:
    """The message says what is expected."""
    with pytest.raises(ValidationError, match="expected grpc://host:port"):
        RemoteOptions(url=url, model="m")


async def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """With the model and the file."""
    file = tmp_path / "models.yaml"
    file.write_text("models:\n- {name: a, backend: grpc, options: {url: 'grpcs://h:1', model: m, ca: /nowhere.pem}}\n")
    with pytest.raises(ConfigurationError, match=r"the model a cannot be opened: /nowhere\.pem: No such file"):
        async with open_models(load(file)):
            pytest.fail("it opened")


def test_a_missing_configuration_is_one_sentence(tmp_path: Path) -> None:
    """The file that is not there is named."""
    with pytest.raises(ConfigurationError, match=r"none\.yaml: No such file"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(("content", "expected"), [(None, "there is no model file"), ("text", "cannot load")])
async def test_a_model_file_that_is_missing_or_broken_is_named(
    tmp_path: Path, content: str | None, expected: str
) -> None:
    """Opening the models fails with the model, the file and the reason."""
    weights = tmp_path / "weights.gguf"
    if content is not None:
        weights.write_text(content)
    file = tmp_path / "models.yaml"
    file.write_text(f"models:\n- {{name: big, backend: llamacpp, options: {{path: {weights}}}}}\n")
    with pytest.raises(ConfigurationError, match=f"the model big .*{expected}.*weights.gguf"):
        async with open_models(load(file)):
            pytest.fail("it opened")
