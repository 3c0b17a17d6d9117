"""Values of settings from environment variables."""

from collections.abc import Mapping
from typing import Any

import msgspec

from app.config.allowed import allowed_values

SECRETS = frozenset(
    {"api_key", "admin_api_key", "database_url", "mlflow_tracking_uri", "mlflow_registry_uri", "mlflow_webhook_secret"}
)
"""Fields whose values may hold a password or a key, and so are never printed."""

NEVER_EMPTY = SECRETS | {"api_host"}
"""Fields that decide who has access and where data goes. An empty value is an error: a container's configuration sets
one where a variable is missing, and the default would open the service to everybody."""

QUOTES = "\"'"
"""Quotes around a value: a shell and a .env file remove them, `docker run --env-file` does not."""


def values_of(settings: type[msgspec.Struct], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Values of the settings that have one, by field, and a line for each bad value, without any secret.

    Args:
        settings: The struct of all settings.
        environ: Variables by name.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in msgspec.structs.fields(settings):
        name = field.name.upper()
        text = environ.get(name, "").strip()
        if not text:
            if name in environ and field.name in NEVER_EMPTY:
                problems.append(f"{name}: must be {allowed_values(field)}, but is empty: give it a value, or remove it")
            continue
        if field.name in SECRETS and text[0] in QUOTES and text[-1] == text[0]:
            problems.append(f"{name}: must be {allowed_values(field)}, without quotes around it")
            continue
        value: object = text
        if field.name == "cors_origins":
            value = [origin.strip() for origin in text.split(",") if origin.strip()]
        elif field.name == "log_level":
            value = text.upper()
        elif field.name == "model_name":
            value = environ[name]  # to MLflow, blanks at the ends are part of a name
        try:
            values[field.name] = msgspec.convert(value, field.type, strict=False, dec_hook=_path)
        except msgspec.ValidationError:
            got = "" if field.name in SECRETS else f", got {text[:80]!r}"
            problems.append(f"{name}: must be {allowed_values(field)}{got}")
    return values, problems


def _path(kind: type, value: Any) -> Any:
    """Convert a value to a type that msgspec does not know: `Path` is the only one."""
    return kind(value)
