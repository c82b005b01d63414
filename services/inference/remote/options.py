"""What can be set about a model of another InferenceService."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from services.inference.pool.options import MOST_ENDPOINTS, Circuit, endpoints

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


Url = Annotated[str, AfterValidator(_service_url)]


class RemoteOptions(BaseModel):
    """Options of the model itself. Those of a request go on to the other service, which checks them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Url | None = None
    """The service. A host name that has several addresses stands for as many replicas, which take turns."""
    urls: Annotated[tuple[Url, ...], Field(max_length=MOST_ENDPOINTS)] = ()
    """Instead of `url`: several services that have the same model, all with TLS or none."""
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")
    """What that service calls the model."""
    ca: Path | None = None
    """With grpcs: the PEM file of the authorities to trust instead of the system's."""
    context_window: int = Field(default=0, ge=0, le=2**31)
    """Tokens of prompt and answer together, told to whoever asks; 0 means unknown."""

    circuit: Circuit = Circuit(pause=2.0)

    @model_validator(mode="after")
    def _some_endpoint(self) -> Self:
        if len({url.startswith("grpcs:") for url in endpoints(self.url, self.urls)}) > 1:
            raise ValueError("urls: some are with TLS and some are not; make two models of them")
        return self

    @property
    def targets(self) -> Sequence[str]:
        """The services in gRPC's notation."""
        urls = endpoints(self.url, self.urls)
        return [url if url.startswith("unix:") else urlsplit(url).netloc for url in urls]

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return endpoints(self.url, self.urls)[0].startswith("grpcs:")
