"""Classifiers in ONNX: graphs that take token ids, with their tokenizer beside them, and graphs that take texts."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from .files import ONNX, ModelError

CONFIG: Final = "config.json"
TOKENIZER: Final = "tokenizer.json"
MOST_TOKENS: Final = 512
"""Tokens that a model sees at once when its configuration says nothing."""
Array: TypeAlias = "npt.NDArray[Any]"
Fed: TypeAlias = "tuple[dict[str, Array], list[int]]"
"""What a graph is given: its inputs, and for each row the place of the text that it is of."""


class _Tensor(Protocol):
    """What is used of onnxruntime's description of an input or output, which has no types."""

    name: str
    type: str
    shape: Sequence[object]


class _Session(Protocol):
    """What is used of a session of onnxruntime, which has no types."""

    def get_inputs(self) -> Sequence[_Tensor]: ...

    def get_outputs(self) -> Sequence[_Tensor]: ...

    def run(self, output_names: None, input_feed: "Mapping[str, Array]") -> Sequence[object]: ...


def load_onnx(directory: Path) -> "OnnxClassifier":
    """The classifier in a directory.

    Raises:
        ModelError: it cannot be used; the message says what is wrong with which file.
    """
    config = _config(directory / CONFIG)
    labels = _labels(config)
    session = _session(directory / ONNX)
    inputs = [each.name for each in session.get_inputs()]
    texts = [each.type for each in session.get_inputs()] == ["tensor(string)"]
    encode = _TextInput(session) if texts else _TokenInput(directory, inputs, config)
    # Graphs that take texts end in probabilities, others in logits.
    several = config.get("problem_type") == "multi_label_classification"
    scale = _clip if texts else _sigmoid if several else _softmax
    classifier = OnnxClassifier(session, encode, labels, scale, _output(session))
    classifier.check()
    return classifier


def _session(path: Path) -> _Session:
    runtime = cast("Any", onnxruntime)  # Any: it has no types
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # turns share the processors, not the parts of one window
    try:
        session = runtime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  # onnxruntime's errors have no common base
        message = f"{path.name} is not a model that onnxruntime {runtime.__version__} can load"
        raise ModelError("path", message) from None
    return cast("_Session", session)


def _output(session: _Session) -> int:
    """Which of what the graph gives are the scores."""
    for place, each in enumerate(session.get_outputs()):
        if each.type.startswith("tensor(float"):
            return place
    raise ModelError("path", f"{ONNX} gives no tensor of scores (a map of them is none: export it without ZipMap)")


class OnnxClassifier:
    """A session of onnxruntime that tells labels apart; see `Classifier`."""

    def __init__(
        self,
        session: _Session,
        encode: "_TextInput | _TokenInput",
        labels: Sequence[str],
        scale: Callable[[Array], Array],
        output: int,
    ) -> None:
        self.labels = labels
        self._session = session
        self._encode = encode
        self._scale = scale
        self._output = output

    def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """The score of each label for each text."""
        feed, owners = self._encode(texts)
        raw = self._session.run(None, feed)[self._output]
        scores = self._scale(np.asarray(raw, dtype=np.float64))
        # Of a text that is too long for the model to see at once, the part that looks worst counts.
        best = np.zeros((len(texts), scores.shape[1]))
        np.maximum.at(best, owners, scores)
        return cast("Sequence[Sequence[float]]", best.tolist())

    def check(self) -> None:
        """Sees that it works.

        Raises:
            ModelError: it does not, or tells other labels apart than its configuration says.
        """
        try:
            (scores,) = self(["A text."])
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common base
            raise ModelError("path", f"{ONNX} fails on a plain text ({type(error).__name__})") from None
        if len(scores) != len(self.labels):
            raise ModelError(
                "path", f"{ONNX} gives {len(scores)} scores, id2label in {CONFIG} has {len(self.labels)} labels"
            )


class _TextInput:
    """For graphs that take texts."""

    def __init__(self, session: _Session) -> None:
        (given,) = session.get_inputs()
        self._name = str(given.name)
        self._columns = len(given.shape) == 2

    def __call__(self, texts: Sequence[str]) -> Fed:
        array: Array = np.array(texts, dtype=object)
        return {self._name: array[:, np.newaxis] if self._columns else array}, list(range(len(texts)))


class _TokenInput:
    """For graphs that take the ids of tokens."""

    def __init__(self, directory: Path, inputs: Sequence[str], config: Mapping[str, object]) -> None:
        known = {"input_ids", "attention_mask", "token_type_ids"}
        if "input_ids" not in inputs or not known.issuperset(inputs):
            raise ModelError(
                "path", f"{ONNX} takes {', '.join(inputs)}: expected one text, or input_ids with an attention_mask"
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
        except Exception:  # noqa: BLE001  # tokenizers raises plain exceptions
            raise ModelError("path", f"{TOKENIZER} is missing or none that tokenizers can load") from None
        most = config.get("max_position_embeddings", MOST_TOKENS)
        padding = config.get("pad_token_id", 0)
        most = min(most, MOST_TOKENS) if isinstance(most, int) and most >= 8 else MOST_TOKENS
        # No part of a text goes unseen: what is too long is seen in parts that overlap.
        self._tokenizer.enable_truncation(max_length=most, stride=most // 8)  # pyright: ignore[reportUnknownMemberType]  # its stub leaves types out
        self._tokenizer.enable_padding(pad_id=padding if isinstance(padding, int) else 0)  # pyright: ignore[reportUnknownMemberType]  # here, too
        self._inputs = inputs

    def __call__(self, texts: Sequence[str]) -> Fed:
        rows = [
            (owner, part)
            for owner, encoding in enumerate(self._tokenizer.encode_batch(list(texts)))
            for part in (encoding, *encoding.overflowing)
        ]
        columns = {
            "input_ids": [part.ids for _, part in rows],
            "attention_mask": [part.attention_mask for _, part in rows],
            "token_type_ids": [part.type_ids for _, part in rows],
        }
        feed: dict[str, Array] = {name: np.array(columns[name], dtype=np.int64) for name in self._inputs}
        return feed, [owner for owner, _ in rows]


def _config(path: Path) -> Mapping[str, object]:
    try:
        config: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise ModelError("path", f"{path.name} is missing or is not JSON") from None
    if not isinstance(config, dict):
        raise ModelError("path", f"{path.name} is not an object")
    return cast("Mapping[str, object]", config)


def _labels(config: Mapping[str, object]) -> Sequence[str]:
    names = config.get("id2label")
    if not isinstance(names, dict) or not names:
        raise ModelError("path", f"{CONFIG} has no id2label: it says which score is which label's")
    by_place = {str(place): str(label) for place, label in cast("Mapping[object, object]", names).items()}
    try:
        return [by_place[str(place)] for place in range(len(by_place))]
    except KeyError:
        raise ModelError("path", f"id2label in {CONFIG} does not count from 0") from None


def _clip(scores: Array) -> Array:
    return np.clip(scores, 0.0, 1.0)


def _sigmoid(logits: Array) -> Array:
    return cast("Array", 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0))))


def _softmax(logits: Array) -> Array:
    powers: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: Array = powers.sum(axis=1, keepdims=True)
    return powers / total
