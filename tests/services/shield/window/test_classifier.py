"""The shield `classifier`: models from files, what their labels mean, and those that cannot be used."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline  # pyright: ignore[reportUnknownVariableType]  # it has no types
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from services.shield.catalogue import Catalogue
from services.shield.shield import Shield
from services.shield.window.building import Means
from services.shield.window.models.files import ModelFiles
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import policy_pb2
from tests.services.shield.serving import spec
from tests.services.shield.slow import hear

LABELS = {"0": "fine", "1": "rude"}
WORDS = ["[UNK]", "you", "are", "stupid", "kind", "the", "weather", "is"]


def catalogue(directory: Path | None) -> Catalogue:
    """A catalogue whose models lie in a directory."""
    return Catalogue(capacity=8, default_timeout=30.0, means=Means(ModelFiles(directory)))


async def classifier(models: Catalogue, path: str, **options: Any) -> Shield:
    """A shield that redacts what a model calls rude."""
    given = {"path": path, "labels": {"rude": "insult"}, "window": {"size": 1, "overlap": 0}, **options}
    (shield,) = await models.shields([spec("classifier", options=given)])
    return shield


def write_onnx(place: Path, **config: object) -> None:
    """A model that calls a text rude when it says `stupid` and not `kind`, with its tokenizer."""
    place.mkdir()
    weights = np.zeros((len(WORDS), 2), np.float32)
    weights[WORDS.index("stupid")] = [-4, 4]
    weights[WORDS.index("kind")] = [2, -2]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["counted"]),
            helper.make_node("ReduceSum", ["counted", "middle"], ["logits"], keepdims=0),
        ],
        "bag",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "m"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.array([2], np.int64), "last"),
            onnx.numpy_helper.from_array(np.array([1], np.int64), "middle"),
        ],
    )
    save(graph, place)
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(place / "tokenizer.json"))
    (place / "config.json").write_text(json.dumps({"id2label": LABELS, **config}))


def write_text_onnx(place: Path) -> None:
    """A model that takes texts: rude is what equals one text."""
    place.mkdir()
    graph = helper.make_graph(
        [
            helper.make_node("Equal", ["text", "insult"], ["is"]),
            helper.make_node("Cast", ["is"], ["rude"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["one", "rude"], ["fine"]),
            helper.make_node("Concat", ["fine", "rude"], ["probabilities"], axis=1),
        ],
        "equal",
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["n", 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_tensor("insult", TensorProto.STRING, [1], cast("Any", ["you are stupid."])),
            onnx.numpy_helper.from_array(np.array([1], np.float32), "one"),
        ],
    )
    save(graph, place)
    (place / "config.json").write_text(json.dumps({"id2label": LABELS}))


def save(graph: Any, place: Path) -> None:  # its type has many names
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    model.ir_version = 9
    (place / "model.onnx").write_bytes(model.SerializeToString())


def write_skops(path: Path) -> None:
    """A pipeline of scikit-learn that learned what is rude."""
    texts = ["you are stupid", "stupid you", "you are kind", "the weather is kind"]
    pipeline: Any = make_pipeline(CountVectorizer(), LogisticRegression(C=100))
    skops.io.dump(pipeline.fit(texts, ["rude", "rude", "fine", "fine"]), path)


@pytest.mark.parametrize("name", ["onnx", "text", "it.skops"])
async def test_a_classifier_judges_sentence_by_sentence(tmp_path: Path, name: str) -> None:
    """The sentence that a model of any form calls rude is redacted, however the text is cut; the others leave."""
    {"onnx": write_onnx, "text": write_text_onnx, "it.skops": write_skops}[name](tmp_path / name)
    shield = await classifier(catalogue(tmp_path), name)
    for pieces in (
        ["the weather is kind.\nyou are stupid.\nyou are kind."],
        ["the weather is ki", "nd.\nyou ", "are stupid.\nyou are kind."],
    ):
        heard = await hear([shield], pieces)
        assert heard.text == "the weather is kind.\n[INSULT]\nyou are kind."


async def test_no_part_of_a_window_goes_unseen(tmp_path: Path) -> None:
    """What is longer than the model can see at once is seen part by part."""
    write_onnx(tmp_path / "short", max_position_embeddings=8)
    shield = await classifier(catalogue(tmp_path), "short")
    assert (await hear([shield], ["the weather is kind " * 5 + "you are stupid"])).text == "[INSULT]"


async def test_several_labels_have_scores_of_their_own(tmp_path: Path) -> None:
    """A model of several labels at once is read label by label, and not as if one excluded the others."""
    write_onnx(tmp_path / "multi", problem_type="multi_label_classification")
    shield = await classifier(catalogue(tmp_path), "multi", min_score=0.99)
    assert (await hear([shield], ["you are stupid"])).text == "you are stupid"  # sigmoid(4) = 0.982
    write_onnx(tmp_path / "single")
    shield = await classifier(catalogue(tmp_path), "single", min_score=0.99)
    assert (await hear([shield], ["you are stupid"])).text == "[INSULT]"  # softmax(-4, 4) = 0.9997


async def test_a_model_is_loaded_once(tmp_path: Path) -> None:
    """Shields with other options share the model, also by another way to the same place."""
    write_onnx(tmp_path / "one")
    files = ModelFiles(tmp_path)
    assert files.load("one") is files.load("../" + tmp_path.name + "/one/")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "'nothing' holds no model: it does not exist"),
        ("../elsewhere", "it leads out of the service's directory of models"),
        ("/etc", "it leads out of the service's directory of models"),
        ("link", "it leads out of the service's directory of models"),
        ("a\0b", "it is not a path"),
        ("empty", "'empty' holds no model: expected a directory with model.onnx, or a .skops file"),
        ("broken", "model.onnx is not a model that onnxruntime"),
        ("unlabelled", "config.json has no id2label"),
        ("gaps", "id2label in config.json does not count from 0"),
        ("many", "model.onnx gives 2 scores, id2label in config.json has 3 labels"),
        ("mute", "tokenizer.json is missing"),
        ("list.skops", "its model tells no probabilities"),
        ("broken.skops", "it is not a file of skops"),
        ("evil.skops", "it holds types that are not trusted"),
    ],
)
async def test_a_model_that_cannot_be_used_is_told_with_its_place(tmp_path: Path, path: str, message: str) -> None:
    """The error names the option and says what is wrong with which file; nothing outside the directory is looked at."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "link").symlink_to(tmp_path)
    (models / "empty").mkdir()
    configs: dict[str, dict[str, str] | None] = {
        "broken": None,
        "unlabelled": {},
        "gaps": {"0": "fine", "2": "rude"},
        "many": {"0": "a", "1": "b", "2": "rude"},
        "mute": None,
    }
    for name, labels in configs.items():
        write_onnx(models / name, **({} if labels is None else {"id2label": labels}))
    (models / "broken/model.onnx").write_bytes(b"no model")
    (models / "mute/tokenizer.json").unlink()
    skops.io.dump([1, 2], models / "list.skops")
    (models / "broken.skops").write_bytes(b"no file of skops")
    skops.io.dump(Path.unlink, models / "evil.skops")
    with pytest.raises(InvalidArgumentError) as refused:
        await classifier(catalogue(models), path)
    assert refused.value.field == "shields[0].options.path"
    assert message in refused.value.message


async def test_labels_and_the_directory_are_checked(tmp_path: Path) -> None:
    """A label that the model does not know is named with those that it knows; without a directory there is no model."""
    write_onnx(tmp_path / "one")
    with pytest.raises(InvalidArgumentError, match=r"options.labels: .* no label 'angry': expected some of fine, rude"):
        await classifier(catalogue(tmp_path), "one", labels={"angry": "insult"})
    with pytest.raises(InvalidArgumentError, match="set SHIELDMESH_SHIELD_MODELS to their directory"):
        await classifier(catalogue(None), "one")


async def test_kinds_of_a_classifier_have_actions_of_their_own(tmp_path: Path) -> None:
    """What the policy says about a kind holds for the labels that mean it."""
    write_onnx(tmp_path / "one")
    asked = spec("classifier", options={"path": "one", "labels": {"rude": "insult", "fine": "praise"}})
    asked.action_by_kind["praise"] = policy_pb2.ACTION_FLAG
    (shield,) = await catalogue(tmp_path).shields([asked])
    heard = await hear([shield], ["the weather is kind"])
    assert heard.verdicts == [("classifier", policy_pb2.ACTION_FLAG, "praise")]
