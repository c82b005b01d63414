"""What docs/shields.md shows can be used as it stands there."""

import re
from pathlib import Path

from shieldmesh import profile

DOCUMENT = Path(__file__).parents[3] / "docs" / "shields.md"


def test_the_policies_of_the_document_load(tmp_path: Path) -> None:
    """Every block that is headed as a file of the profiles is one, and does what is said about it."""
    files = re.findall(r"```yaml\n# profiles/(\S+)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    for name, content in files:
        (tmp_path / name).write_text(content)
    profiles = profile.load(tmp_path).common
    assert {"clinic", "support"} <= profiles.keys()
    assert "guarded" not in profiles
    clinic = profiles["clinic"].policy
    assert [(shield.name, shield.action) for shield in clinic.output.shields] == [
        ("pii", "redact"),
        ("invisible", "redact"),
    ]
    assert clinic.wants_pseudonyms
