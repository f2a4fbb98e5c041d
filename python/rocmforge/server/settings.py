"""What a server is told: flags before environment before TOML file before defaults."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from rocmforge.engine import EngineConfig
from rocmforge.errors import InvalidArgumentError

ENV_PREFIX = "ROCMFORGE_"


class ServerSettings(BaseSettings):
    """Every field is also an environment variable, ROCMFORGE_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    model: str | None = None
    """Path of a .gguf file; None: the story model inside the package."""
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    """0: any that is free."""
    api_key: SecretStr | None = None
    """Keys, separated by commas; for the environment, not for a file that others can read."""
    api_key_file: Path | None = None
    """One key a line; empty lines and lines that start with # are skipped."""
    insecure_no_auth: bool = False
    """Lets a server that others can reach run without a key."""
    allowed_hosts: list[str] = []
    """Names clients may call the server by, besides localhost and the address it is bound to."""
    tls_cert: Path | None = None
    """The certificate, and those between it and the root, as PEM; with it the server speaks TLS."""
    tls_key: Path | None = None
    share_prefix_cache: bool = False
    """Shares prefixes between API keys, whose holders can then tell by timing what others sent."""

    context_dir: Path | None = None
    """Folder of the files in which each key has its documents; without it there are none."""

    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    ctx: int | None = Field(None, ge=1)
    gpu_layers: int | None = Field(None, ge=0)
    require_gpu: bool = False
    kv_dtype: str = "f16"
    memory_fraction: float | None = Field(None, gt=0, le=1)
    deterministic: bool = False
    max_num_seqs: int = Field(64, ge=1)
    """Requests that run at once."""
    max_queue: int = Field(64, ge=1)
    """Requests that wait for their first step; more are answered with 429."""
    queue_timeout_s: float = Field(60, gt=0)
    """A request that has waited so long for its first step is answered with 503."""

    max_connections_per_address: int = Field(64, ge=1)
    """From one other machine; this one, where a reverse proxy may stand, has all there are."""
    max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024)
    max_held_bytes: int = Field(128 * 1024 * 1024, ge=0)
    """Of all bodies at once, what is over 64 KiB of each; more is answered with 503."""
    max_rss_bytes: int | None = Field(None, ge=1)
    """Memory of server and engine together beyond which new requests are answered with 503; a model
    that takes more is not served at all."""
    request_timeout_s: float = Field(600, gt=0)
    """A request that takes longer ends with what it has."""
    drain_s: float = Field(30, ge=0)
    """How long running requests may go on after SIGTERM."""
    docs: bool = False
    """Serves the OpenAPI document at /openapi.json."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def load(cls, config: Path | None = None, **flags: Any) -> ServerSettings:
        """`config` is a TOML file, by default what ROCMFORGE_CONFIG names; a flag that is None is
        not given. Raises InvalidArgumentError, naming the setting."""
        if config is None and (named := os.environ.get(ENV_PREFIX + "CONFIG")):
            config = Path(named)
        if config is not None and not config.is_file():
            msg = f"the settings file {config} does not exist"
            raise InvalidArgumentError(msg)

        class WithFile(cls):  # type: ignore[valid-type,misc]
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
                file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                sources = [init_settings, env_settings]
                if config is not None:
                    sources.append(TomlConfigSettingsSource(settings_cls, config))
                return tuple(sources)

        try:
            settings = WithFile(**{name: v for name, v in flags.items() if v is not None})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(map(str, first["loc"]))
            said = (
                "there is no such setting" if first["type"] == "extra_forbidden" else first["msg"]
            )
            msg = f"setting {name}: {said}"
            raise InvalidArgumentError(msg) from None
        except ValueError as error:  # TOML that does not parse, lists in the environment
            msg = f"the settings cannot be read (a list is written as JSON): {error}"
            raise InvalidArgumentError(msg) from None
        return cls.model_construct(**dict(settings))

    def engine_config(self) -> EngineConfig:
        return EngineConfig(
            device=self.device,
            threads=self.threads,
            max_model_len=self.ctx,
            gpu_layers=self.gpu_layers,
            require_gpu=self.require_gpu,
            kv_dtype=self.kv_dtype,
            memory_fraction=self.memory_fraction,
            deterministic=self.deterministic,
            max_num_seqs=self.max_num_seqs,
            max_queue=self.max_queue,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
