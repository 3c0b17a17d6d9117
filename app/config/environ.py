"""Values of settings from environment variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from app.config.allowed import allowed_values
from app.files import reason

SECRETS = frozenset(
    {
        "api_key",
        "api_key_second",
        "admin_api_key",
        "api_tls_key_password",
        "database_url",
        "mlflow_tracking_uri",
        "mlflow_registry_uri",
        "mlflow_webhook_secret",
    }
)
"""Fields whose values may hold a password or a key, and so are never printed."""

NEVER_EMPTY = SECRETS | {"api_host"}
"""Fields that decide who has access and where data goes. An empty value is an error: a container's configuration sets
one where a variable is missing, and the default would open the service to everybody."""

QUOTES = "\"'"
"""Quotes around a value: a shell and a .env file remove them, `docker run --env-file` does not."""


FILE = "_FILE"
"""End of the name of a variable that names a file with a secret, as container platforms mount one."""

MOST_BYTES = 65_536
"""Bytes of such a file, at most."""


def with_files(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables with those of secrets that are read from files, and a line for each file that gives none.

    Args:
        environ: Variables by name.
    """
    found, problems = dict(environ), list[str]()
    for name in sorted(field.upper() for field in SECRETS):
        path = environ.get(name + FILE)
        if path is None:
            continue
        if name in environ:
            problems.append(f"{name + FILE}: must not be set together with {name}")
            continue
        try:
            found[name] = _secret(path)
        except OSError as error:
            problems.append(f"{name + FILE}: must name a file that can be read: {reason(error)}")
        except ValueError as error:
            problems.append(f"{name + FILE}: must name a file {error}")
    return found, problems


def _secret(path: str) -> str:
    """Text of a file without blanks at its ends (OSError: it cannot be read; ValueError: how it should be)."""
    with Path(path).open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"of at most {MOST_BYTES} bytes")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("of text in UTF-8") from None
    if not text:
        raise ValueError("that is not empty")
    return text


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
