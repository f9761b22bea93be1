"""The base of every section of the configuration."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic.fields import FieldInfo


def _number(value: Any) -> Any:
    """Return the number that a string holds, because YAML 1.1 reads `1e-4` as a string; other values as they are."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number)]


class Section(BaseModel):
    """A section of the configuration. Unknown keys and wrong types are errors; an empty section means the defaults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, values: Any) -> Any:
        return {} if values is None else values

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the fields by the keys that YAML uses."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}
