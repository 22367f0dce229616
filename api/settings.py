"""The settings of a server, read once when it starts.

They come from the command line, `TURNLOG_*` variables and a `.env` file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.address_lists import ANY, host_names, is_loopback, origins

DEFAULT_DATA_DIR = Path("~/.local/share/turnlog")

AddressList = Annotated[tuple[str, ...] | None, NoDecode]
"""Several addresses, separated by commas in the environment."""

_JWT_KEYS = ("jwt_secret", "jwt_public_key", "jwt_jwks_url")


class SettingsError(Exception):
    """A setting is wrong.

    The message is one line that names the setting and never shows its value.
    """


class Settings(BaseSettings):
    """All settings.

    The command line takes precedence over the environment, and the environment over `.env`.
    """

    model_config = SettingsConfigDict(
        env_prefix="TURNLOG_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    data_dir: Path = Field(DEFAULT_DATA_DIR, description="Where the embedded PostgreSQL keeps its data.")
    database_url: SecretStr | None = Field(
        None, description="A PostgreSQL to use instead of the embedded one, as postgresql://…"
    )
    log_schema: str = Field(
        "turnlog", pattern=r"^[a-z_][a-z0-9_]{0,30}$", description="The PostgreSQL schema that holds the log."
    )
    auth: Literal["none", "keys", "jwt"] = Field(
        "none",
        description="How callers are authenticated: none, keys or jwt. With none, every caller is one local owner.",
    )
    allowed_hosts: AddressList = Field(
        None, description="The host names that requests may be sent to, with authentication. None: any."
    )
    cors_origins: AddressList = Field(
        None, description="The origins whose pages may use the API from a browser. None: only the server's own."
    )
    limit_requests_per_minute: PositiveInt | None = Field(None, description="The requests of one owner in a minute.")
    limit_running_turns: PositiveInt | None = Field(None, description="The turns of one owner that run at a time.")
    limit_open_streams: PositiveInt | None = Field(None, description="The open event streams of one owner.")
    jwt_secret: SecretStr | None = Field(None, description="The secret of HS256, at least 32 bytes.")
    jwt_public_key: str | None = Field(
        None, description="A public key in PEM: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA."
    )
    jwt_jwks_url: str | None = Field(None, description="The URL of a JSON Web Key Set with such public keys.")
    jwt_issuer: str | None = Field(None, min_length=1, description="The `iss` that a token must have.")
    jwt_audience: str | None = Field(None, min_length=1, description="The `aud` that a token must have.")
    jwt_owner_claim: str = Field("sub", min_length=1, description="The claim that holds the owner's id.")
    jwt_role_claim: str = Field("role", min_length=1, description="The claim that holds the role. Absent: user.")
    model: str = Field("turnlog/demo", min_length=1, description="The litellm name of the model that answers.")
    model_api_base: str | None = Field(None, description="The URL of an OpenAI-compatible server.")
    model_api_key: SecretStr | None = Field(None, description="The key for the model's provider.")
    max_context_tokens: PositiveInt | None = Field(
        None, description="The maximum tokens of history sent to the model. None: the model's own limit."
    )
    model_first_token_timeout_s: PositiveFloat = Field(60, description="Seconds to wait for an answer to begin.")
    model_between_tokens_timeout_s: PositiveFloat = Field(60, description="Seconds of silence within an answer.")
    model_total_timeout_s: PositiveFloat = Field(600, description="Seconds an answer may take in all.")
    tool_results_timeout_s: PositiveFloat | None = Field(
        None, le=100_000_000, description="Seconds that a turn waits for tool results. None: for ever."
    )
    log_format: Literal["json", "text"] | None = Field(
        None, description="The format of the logs. None: text on a terminal, else json."
    )
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="The lowest level of the logs. None: info with json, warning with text."
    )
    shutdown_grace_s: float = Field(10.0, ge=0, description="Seconds that running turns get to finish on shutdown.")

    @field_validator("data_dir")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("database_url")
    @classmethod
    def _is_a_postgresql_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("should be a URL that starts with postgresql://")
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _are_host_names(cls, value: str | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if value is not None and info.data.get("auth") == "none":
            raise ValueError("needs TURNLOG_AUTH, because a server without authentication answers loopback names only")
        return None if value is None else host_names(_items(value)) or None

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _are_origins(cls, value: str | None, info: ValidationInfo) -> tuple[str, ...] | None:
        found = None if value is None else origins(_items(value))
        # A page of another machine would get everything that an unauthenticated server holds.
        local = all(origin != ANY and is_loopback(urlsplit(origin).hostname or "") for origin in found or ())
        if info.data.get("auth") == "none" and not local:
            raise ValueError("needs TURNLOG_AUTH for other origins than those of this machine")
        return found or None

    @field_validator("jwt_secret")
    @classmethod
    def _is_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            from api.auth.verifying_keys import secret_key

            secret_key(value.get_secret_value())
        return value

    @field_validator("jwt_public_key")
    @classmethod
    def _is_a_public_key(cls, value: str | None) -> str | None:
        if value is not None:
            from api.auth.verifying_keys import public_key

            public_key(value)
        return value

    @field_validator("jwt_jwks_url")
    @classmethod
    def _is_an_http_url(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parts = urlsplit(value)
                valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
            except ValueError:  # its text quotes the URL, which may hold a password
                valid = False
            if not valid:
                raise ValueError("should be a URL that starts with https:// or http://")
        return value

    @model_validator(mode="after")
    def _authenticates_in_one_way(self) -> Self:
        keys = [name for name in _JWT_KEYS if getattr(self, name) is not None]
        if self.auth == "jwt" and len(keys) != 1:
            found = ", ".join(map(_variable, keys)) or "none of them"
            raise ValueError(f"TURNLOG_AUTH=jwt needs one of {', '.join(map(_variable, _JWT_KEYS))}, found {found}")
        # An operator who sets a secret expects it to be used.
        if self.auth != "jwt" and keys:
            raise ValueError(f"{_variable(keys[0])} needs TURNLOG_AUTH=jwt, found TURNLOG_AUTH={self.auth}")
        return self


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def load_settings(**overrides: Any) -> Settings:
    """Return the settings. An override of None counts as not given.

    Raises:
        SettingsError: at least one setting is wrong.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("; ".join(_line(problem["loc"], problem["msg"]) for problem in error.errors())) from None


def _line(loc: tuple[int | str, ...], message: str) -> str:
    said = message.removeprefix("Value error, ")
    return f"{_variable(str(loc[0]).removeprefix('turnlog_'))}: {said}" if loc else said


def _variable(name: str) -> str:
    return f"TURNLOG_{name.upper()}"
