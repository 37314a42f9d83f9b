"""The shape of penstock.toml, except for the settings of plugins, which each plugin's own model validates."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from penstock.api import SecretRef
from penstock.settings.keeping import CheckWithin, Keep, RenewEvery, Zone
from penstock.settings.sizes import SIZE_PATTERN, parse_size

__all__ = ["BackupSettings", "Defaults", "Document", "PluginTable", "RepositorySettings"]

_HIGHEST_LEVEL = 19
_SMALLEST_PACK = 2 * 1024 * 1024
_LARGEST_PACK = 16 * 1024 * 1024


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a size, such as 128MiB or 1GiB")  # noqa: TRY004 - for pydantic
    return parse_size(str(value))


def _pack_size(value: int) -> int:
    if not _SMALLEST_PACK <= value <= _LARGEST_PACK:
        raise ValueError("must be 2MiB to 16MiB")
    return value


def _described(description: str) -> WithJsonSchema:
    form = {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 1}]}
    return WithJsonSchema({**form, "description": description})


def _compression(value: object) -> str | int:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _HIGHEST_LEVEL):
        return value
    raise ValueError(f'must be "auto" or a level from 1 to {_HIGHEST_LEVEL}')


Memory = Annotated[int, BeforeValidator(_size), _described("memory for buffers, at least 64MiB: 128MiB, 1GiB")]
CacheSize = Annotated[
    int,
    BeforeValidator(lambda value: 0 if value == 0 and not isinstance(value, bool) else _size(value)),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}],
            "description": "what the local cache may remember of the last dump, so that the next one stores single rows"
            " instead of chunks: 500MiB; 0 for nothing",
        }
    ),
]
PackSize = Annotated[
    int,
    BeforeValidator(lambda value: _pack_size(_size(value))),
    _described("how large the objects with data get, 2MiB to 16MiB: less where large uploads break"),
]
UploadLimit = Annotated[
    int, BeforeValidator(_size), _described("how much is uploaded per second at most, on average: 10MiB")
]
DownloadLimit = Annotated[
    int, BeforeValidator(_size), _described("how much is downloaded per second at most, on average: 10MiB")
]
Compression = Annotated[
    Literal["auto"] | int,
    BeforeValidator(_compression),
    WithJsonSchema(
        {
            "anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": _HIGHEST_LEVEL}],
            "description": f'"auto" follows the data (about zstd level 3, or 12); or a level, 1 to {_HIGHEST_LEVEL}',
        }
    ),
]
JobCount = Annotated[int, Field(strict=True, ge=1, le=32, description="how many streams of a dump are written at once")]
Executor = Annotated[
    Literal["threads", "processes"], Field(description="who writes them: threads of one process, or processes")
]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]


class PluginTable(BaseModel):
    """A table that names a plugin, by URL or by type; all other keys are settings of that plugin."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    url: str | None = Field(default=None, min_length=1, description="where it is; the scheme chooses the plugin")
    type: str | None = Field(default=None, min_length=1, description="the name of the plugin, instead of a url")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.url is None) == (self.type is None):
            raise ValueError("needs either url or type" + (", not both" if self.url else ""))
        return self

    @property
    def plugin_settings(self) -> dict[str, Any]:
        """The plugin's own keys, as written in the file."""
        return dict(self.model_extra or {})


class RepositorySettings(PluginTable):
    """One repository: its sink, and how this host opens it."""

    key: Path | None = Field(default=None, description="this host's key file")
    passphrase: SecretRef | None = Field(default=None, description="where the owner's passphrase is found")
    pack_size: PackSize | None = None
    limit_upload: UploadLimit | None = None
    limit_download: DownloadLimit | None = None
    check_within: CheckWithin | None = None


class BackupSettings(PluginTable):
    """One backup: its source, and the repository that it goes to."""

    repository: str | None = Field(
        default=None, description="the name of a repository in this file; required when there is more than one"
    )
    memory: Memory | None = None
    compression: Compression | None = None
    cache_size: CacheSize | None = None
    keep: Keep | None = None
    timezone: Zone | None = None
    renew_every: RenewEvery | None = None
    jobs: JobCount | None = None
    executor: Executor | None = None


class Defaults(BaseModel):
    """What applies where a repository, a backup or the command line says nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    memory: Memory | None = None
    compression: Compression | None = None
    cache_size: CacheSize | None = None
    cache: Path | None = Field(default=None, description="the folder of the local cache")
    pack_size: PackSize | None = None
    limit_upload: UploadLimit | None = None
    limit_download: DownloadLimit | None = None
    keep: Keep | None = None
    timezone: Zone | None = None
    renew_every: RenewEvery | None = None
    jobs: JobCount | None = None
    executor: Executor | None = None
    check_within: CheckWithin | None = None


class Document(BaseModel):
    """A whole penstock.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    repositories: dict[Name, RepositorySettings] = Field(default_factory=dict)
    backups: dict[Name, BackupSettings] = Field(default_factory=dict)
    defaults: Defaults = Field(default_factory=Defaults)
