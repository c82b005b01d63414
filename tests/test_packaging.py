import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout so that nothing left over from another build can be in it."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for name in ("shieldmesh", "services", "gateway", "tests"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    # Isolation would fetch setuptools; the environment has the locked one.
    _python("-m", "build", "--wheel", "--no-isolation", str(checkout))
    (built,) = (checkout / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_the_library_alone(wheel: Path) -> None:
    """Services, gateway and tests run from a checkout or an image; the wheel is for those who call the mesh."""
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"shieldmesh", f"shieldmesh-{_project()['version']}.dist-info"}


def test_the_wheel_holds_every_file_of_the_library(wheel: Path) -> None:
    """Nothing is missing: all modules, the marker that says they are typed, and the types of the generated ones."""
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "shieldmesh").rglob("*.py*") if path.suffix != ".pyc"}
    names = set(ZipFile(wheel).namelist())
    assert source | {"shieldmesh/py.typed"} <= names
    assert "shieldmesh/v1/chat_pb2.pyi" in names


def test_the_library_needs_its_own_dependencies_only(wheel: Path, tmp_path: Path) -> None:
    """Where nothing but the wheel and its dependencies is installed, the client and the command line work."""
    ZipFile(wheel).extractall(tmp_path)
    for name in _needed(_project()["dependencies"]):
        _link(metadata.distribution(name), tmp_path)
    script = f"""
import sys
sys.path.append({str(tmp_path)!r})
import shieldmesh, shieldmesh.cli
shieldmesh.connect
shieldmesh.cli.main()
"""
    # Isolated and without site-packages: of the environment that runs the tests only the standard library is left.
    result = _python("-I", "-S", "-c", script, "version")
    assert result.startswith(f"shieldmesh {_project()['version']} ")


@pytest.mark.parametrize("lock", ["dev", "services"])
def test_the_lock_files_fulfil_the_project_file(lock: str) -> None:
    """A dependency that was added or raised without `make lock` is missed here, not by the next who installs."""
    extras: dict[str, list[str]] = _project()["optional-dependencies"]
    base: list[str] = _project()["dependencies"]
    wanted = [*base, *extras["services"], *(extras["dev"] if lock == "dev" else [])]
    locked = dict(_locked(ROOT / f"requirements/{lock}.txt"))
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in requirements/{lock}.txt: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: locked is {version}"


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.stem)
def test_a_lock_file_says_nothing_about_where_packages_come_from(path: Path) -> None:
    """Lock files hold names, versions and hashes: no address, and no option that would set one."""
    lines = [line.strip() for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in lines if "://" in line or (line.startswith("-") and not line.startswith("--hash="))]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _needed(requirements: list[str]) -> set[str]:
    """The names of the distributions that the requirements need here, with all that those need."""
    names: set[str] = set()
    todo = list(requirements)
    while todo:
        requirement = Requirement(todo.pop())
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and requirement.name not in names:
            names.add(requirement.name)
            todo += metadata.requires(requirement.name) or []
    return names


def _link(distribution: metadata.Distribution, directory: Path) -> None:
    """Installs a distribution of this environment into a directory."""
    for file in distribution.files or []:
        if ".." not in file.parts and file.suffix != ".pyc":
            target = directory / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(str(file.locate())))


def _locked(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        name, separator, version = line.partition("==")
        if separator and not line.startswith((" ", "#")):
            yield canonicalize_name(name), version.split()[0]


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603  # this Python
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
