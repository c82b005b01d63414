"""What can be set about a model of another InferenceService."""

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_EXPECTED: Final = "expected grpc://host:port, grpcs://host:port (with TLS) or unix:/path/to.sock"


def _service_url(url: str) -> str:
    if url.startswith("unix:/") and len(url) > len("unix:/"):
        return url
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"grpc", "grpcs"} and bool(parts.hostname) and bool(parts.port)
        valid = valid and "@" not in parts.netloc and not (parts.path.strip("/") or parts.query or parts.fragment)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(_EXPECTED)
    return url.rstrip("/")


class RemoteOptions(BaseModel):
    """Options of the model itself. Those of a request go on to the other service, which checks them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_service_url)]
    """The service. A host name that has several addresses stands for as many replicas, which take turns."""
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")
    """What that service calls the model."""
    ca: Path | None = None
    """With grpcs: the PEM file of the authorities to trust instead of the system's."""
    context_window: int = Field(default=0, ge=0, le=2**31)
    """Tokens of prompt and answer together, told to whoever asks; 0 means unknown."""

    @property
    def target(self) -> str:
        """The service in gRPC's notation."""
        return self.url if self.url.startswith("unix:") else urlsplit(self.url).netloc

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.url.startswith("grpcs:")
