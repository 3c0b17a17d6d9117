"""All settings: one frozen Struct, read from environment variables.

A field's name in capitals is the variable's name; its annotation holds the allowed range and the help text, so the
struct is also the source of the table that `madrone settings` prints and the README embeds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from app import __version__

SECRETS = frozenset({"api_key", "admin_api_key", "database_url", "mlflow_tracking_uri", "mlflow_registry_uri"})
"""Fields whose values may hold a password or a key, and so are never printed."""

NEVER_EMPTY = SECRETS | {"api_host"}
"""Fields that say who may come in and where data goes. Setting one to nothing, as a container's configuration does with
a variable that it does not find, is a fault: the default would open the service to all."""

Stage = Literal["Production", "Staging", "None", "Archived"]
STAGES: tuple[Stage, ...] = get_args(Stage)
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Port = Annotated[int, Meta(ge=1, le=65535)]
Key = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Uri = Annotated[str, Meta(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
Rows = Annotated[int, Meta(ge=1, le=10**10)]
R2 = Annotated[float, Meta(ge=-1, le=1)]
Rmse = Annotated[float, Meta(ge=0, le=1e100)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
"""A token of RFC 9110, section 5.6.2."""

MLFLOW_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "")
DATABASE_SCHEMES = ("sqlite", "postgresql")

QUOTES = "\"'"
"""What a shell or a .env file takes away, and `docker run --env-file` does not."""


class SettingsError(ValueError):
    """Some settings have bad values; the message has a line for each."""


def _help(text: str) -> Meta:
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Build it with `Settings.from_environ`."""

    api_host: Annotated[Name, _help("Address to listen on")] = "0.0.0.0"
    api_port: Annotated[Port, _help("Port of the API")] = 8000
    api_debug: Annotated[bool, _help("Serve /docs and /redoc, log at DEBUG")] = False
    api_version: Annotated[Name, _help("The version that /info and the OpenAPI document state")] = __version__
    model_name: Annotated[Name, _help("Registered model to serve")] = "california-housing-model"
    model_stage: Annotated[Stage, _help("Stage to serve the model from")] = "Production"
    model_fallback_stage: Annotated[Stage, _help("Stage to look in when MODEL_STAGE is empty")] = "Staging"
    model_fallback_any: Annotated[
        bool, _help("Look in the remaining stages too (Staging, Production, None) when both are empty")
    ] = False
    model_alias: Annotated[Name | None, _help("Alias to serve: that one alone, and no stage, when set")] = None
    model_cache_ttl: Annotated[
        float, Meta(ge=1, le=604800), _help("Seconds between looks into the registry for another version")
    ] = 3600
    model_lookup_timeout: Annotated[
        float, Meta(gt=0, le=600), _help("Seconds that the registry gets to answer one look-up")
    ] = 10.0
    model_fetch_timeout: Annotated[
        float, Meta(gt=0, le=86400), _help("Seconds that the download of one model may take")
    ] = 300.0
    model_max_bytes: Annotated[
        int, Meta(ge=1024, le=2**40), _help("Bytes that the files of one model may have; a download ends beyond them")
    ] = 2 * 1024**3
    model_artifact_root: Annotated[
        Path | None, _help("Directory shared with an MLflow server, whose paths are then taken; unset means none is")
    ] = None
    model_build_timeout: Annotated[
        float, Meta(gt=0, le=86400), _help("Seconds that reading and laying out one model may take")
    ] = 300.0
    model_min_r2: Annotated[R2 | None, _help("Refuse a model whose run has a lower R² (see README, Model life)")] = None
    model_max_rmse: Annotated[
        Rmse | None, _help("Refuse a model whose run has a higher RMSE, in the target's unit")
    ] = None
    model_store_versions: Annotated[
        int, Meta(ge=1, le=100), _help("Versions kept in DATA_DIR, to start from while the registry is away")
    ] = 3
    model_canary_alias: Annotated[Name | None, _help("Alias of a version that answers a share of the requests")] = None
    model_canary_percent: Annotated[float, Meta(ge=0, le=100), _help("Share of requests that the canary answers")] = 5.0
    model_canary_header: Annotated[
        HeaderName, _help("Header whose value decides, always alike, who answers a request")
    ] = "X-Request-ID"
    model_shadow_alias: Annotated[
        Name | None, _help("Alias of a version that scores a share of the rows unseen, for comparison")
    ] = None
    model_shadow_percent: Annotated[float, Meta(ge=0, le=100), _help("Share of requests that the shadow scores")] = 10.0
    mlflow_tracking_uri: Annotated[Uri | None, _help("MLflow server; unset means an embedded registry in DATA_DIR")] = (
        None
    )
    mlflow_registry_uri: Annotated[Uri | None, _help("Model registry, where it is not MLFLOW_TRACKING_URI")] = None
    enable_prometheus: Annotated[bool, _help("Serve /metrics, and also on PROMETHEUS_PORT")] = True
    prometheus_port: Annotated[Port, _help("Port that serves only /metrics")] = 8001
    log_level: Annotated[LogLevel, _help("Least severe level to log")] = "INFO"
    max_batch_size: Annotated[int, Meta(ge=1, le=100_000), _help("Rows in one /predict/batch body")] = 100
    max_bulk_rows: Annotated[int, Meta(ge=1, le=100_000_000), _help("Rows in one /predict/bulk body")] = 1_000_000
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**34), _help("Bytes in one request body")] = 128 * 1024 * 1024
    max_json_bytes: Annotated[
        int, Meta(ge=1024, le=64 * 1024 * 1024), _help("Bytes in one JSON body, which is parsed at one go")
    ] = 1024 * 1024
    max_rows_in_flight: Annotated[
        Rows | None, _help("Rows that may be held at once; unset means as many as fill a quarter of the memory")
    ] = None
    request_timeout: Annotated[
        float,
        Meta(gt=0, le=3600),
        _help("Seconds until a prediction request is answered with 504, or 408 while its body comes"),
    ] = 30.0
    rate_limit: Annotated[
        int, Meta(ge=0, le=10_000_000), _help("Prediction requests a client may make in a minute; 0 means any number")
    ] = 0
    idle_timeout: Annotated[
        int, Meta(ge=1, le=3600), _help("Seconds that a connection may take to send the head of its next request")
    ] = 30
    shutdown_delay: Annotated[
        float, Meta(ge=0, le=600), _help("Seconds after SIGTERM in which requests are answered and readiness is 503")
    ] = 1.0
    shutdown_grace: Annotated[
        int, Meta(ge=1, le=3600), _help("Seconds that requests in flight get to finish after SHUTDOWN_DELAY")
    ] = 25
    database_url: Annotated[
        Uri | None, _help("Database of the prediction log (sqlite or postgresql); unset means SQLite in DATA_DIR")
    ] = None
    prediction_log_rows: Annotated[
        int, Meta(ge=0, le=10**9), _help("Newest rows that the prediction log keeps; 0 switches it off")
    ] = 1_000_000
    cors_origins: Annotated[tuple[Name, ...], _help("Origins allowed to call from a browser, by comma; * for any")] = ()
    api_key: Annotated[Key | None, _help("Key that prediction routes then ask for")] = None
    admin_api_key: Annotated[Key | None, _help("Key for admin routes, which stay closed while it is unset")] = None
    data_dir: Annotated[Path, _help("Directory of the embedded registry, database, and kernel cache")] = Path(
        ".madrone"
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read settings from environment variables.

        One set to the empty string counts as unset, but for those of NEVER_EMPTY.

        Args:
            environ: Variables by name, such as `os.environ`. Those that are no settings are passed over.

        Raises:
            SettingsError: Values are bad. Its message names every one, its problem and its allowed range, and quotes
                no secret.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        for field in msgspec.structs.fields(cls):
            name = field.name.upper()
            text = environ.get(name, "").strip()
            if not text:
                if name in environ and field.name in NEVER_EMPTY:
                    problems.append(f"{name}: must be {_allowed(field)}, and is empty: give it a value, or remove it")
                continue
            if field.name in SECRETS and text[0] in QUOTES and text[-1] == text[0]:
                problems.append(f"{name}: must be {_allowed(field)}, without quotes around it")
                continue
            value: object = text
            if field.name == "cors_origins":
                value = [origin.strip() for origin in text.split(",") if origin.strip()]
            elif field.name == "log_level":
                value = text.upper()
            elif field.name == "model_name":
                value = environ[name]  # MLflow takes a name that begins or ends with a blank for another
            try:
                values[field.name] = msgspec.convert(value, field.type, strict=False, dec_hook=_path)
            except msgspec.ValidationError:
                got = "" if field.name in SECRETS else f", got {text[:80]!r}"
                problems.append(f"{name}: must be {_allowed(field)}{got}")
        settings = cls(**values)
        problems += settings._contradictions()
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    def _contradictions(self) -> list[str]:
        problems: list[str] = []
        if self.enable_prometheus and self.prometheus_port == self.api_port:
            problems.append(f"PROMETHEUS_PORT: must differ from API_PORT, both are {self.api_port}")
        for name, schemes in (
            ("mlflow_tracking_uri", MLFLOW_SCHEMES),
            ("mlflow_registry_uri", MLFLOW_SCHEMES),
            ("database_url", DATABASE_SCHEMES),
        ):
            value: str | None = getattr(self, name)
            if value and urlsplit(value).scheme.split("+")[0] not in schemes:
                named = ", ".join(scheme for scheme in schemes if scheme)
                problems.append(f"{name.upper()}: must be a URI with one of the schemes {named}")
        if self.mlflow_registry_uri and not self.mlflow_tracking_uri:
            problems.append("MLFLOW_REGISTRY_URI: must be set together with MLFLOW_TRACKING_URI")
        return problems

    @property
    def embedded_registry(self) -> bool:
        """Whether the registry is the embedded one in `data_dir`."""
        return self.mlflow_tracking_uri is None

    @property
    def tracking_uri(self) -> str:
        """URI of the MLflow tracking store in use."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.data_dir.resolve() / 'mlflow.db'}"

    @property
    def registry_uri(self) -> str:
        """URI of the MLflow model registry in use."""
        return self.mlflow_registry_uri or self.tracking_uri

    @property
    def prediction_database_url(self) -> str:
        """SQLAlchemy URL of the prediction log's database."""
        url = self.database_url or f"sqlite:///{self.data_dir.resolve() / 'predictions.db'}"
        scheme, rest = url.split(":", 1)
        return f"postgresql+psycopg:{rest}" if scheme == "postgresql" else url

    @property
    def effective_log_level(self) -> str:
        """The level to log at: DEBUG in debug mode, else `log_level`."""
        return "DEBUG" if self.api_debug else self.log_level


def _path(kind: type, value: Any) -> Any:
    """Make what msgspec does not know of: `Path` is the only such type."""
    return kind(value)


def _allowed(field: msgspec.structs.FieldInfo) -> str:
    """Say in words what a setting may be, from its annotation."""
    info: Any = msgspec.inspect.type_info(field.type)
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if isinstance(info, msgspec.inspect.UnionType):
        info = next(kind for kind in info.types if not isinstance(kind, msgspec.inspect.NoneType))
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    match info:
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType():
            return f"a whole number from {info.ge} to {info.le}"
        case msgspec.inspect.FloatType():
            least = f"above {info.gt:g} and" if info.gt is not None else f"from {info.ge:g}"
            return f"a number {least} up to {info.le:g}"
        case msgspec.inspect.LiteralType():
            return "one of " + ", ".join(str(value) for value in info.values)
        case msgspec.inspect.VarTupleType():
            return "origins separated by commas"
        case msgspec.inspect.StrType() if info.max_length is None:
            return "a URI"
        case msgspec.inspect.StrType():
            return f"1 to {info.max_length} {'visible ASCII ' if info.pattern else ''}characters"
        case _:
            return "a path"


def _description(annotation: Any) -> str:
    metadata: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    return next((item.description for item in metadata if isinstance(item, Meta) and item.description), "")


def settings_table() -> str:
    """The settings as a Markdown table of name, default, allowed values and meaning."""
    lines = ["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(Settings):
        default = field.default
        if default is None or default == ():
            shown = "(unset)"
        elif isinstance(default, bool):
            shown = f"`{str(default).lower()}`"
        else:
            shown = f"`{default}`"
        meaning = _description(Settings.__annotations__[field.name])
        lines.append(f"| `{field.name.upper()}` | {shown} | {_allowed(field)} | {meaning} |")
    return "\n".join(lines)
