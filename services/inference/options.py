"""How a backend refuses options of a request, in words for the caller."""

from pydantic import BaseModel, ValidationError

from shieldmesh.errors import InvalidArgumentError

_LONGEST_NAME = 64


def refused(error: ValidationError, kind: type[BaseModel]) -> InvalidArgumentError:
    """The error for a request's `options` that `kind` does not accept; it never quotes a value."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(["options", *(str(part)[:_LONGEST_NAME] for part in first["loc"])])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(kind.model_fields)) or "none"
        return InvalidArgumentError(f"{field} is no option of this model; it knows: {known}", field=field)
    return InvalidArgumentError(f"{field}: {first['msg']}", field=field)
