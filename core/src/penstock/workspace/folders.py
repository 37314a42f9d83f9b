"""Where Penstock's own files are on a host."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Folders"]


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one user: `config` for key files, `cache` for the local cache; None where the user has no home.

    `settings` are the files that are looked for, in this order, when no settings file is named.
    """

    config: Path | None
    cache: Path | None
    settings: tuple[Path, ...] = ()

    def default_key(self, repository: bytes) -> Path | None:
        """Where this host's key of a repository is looked for: `<config>/keys/<repository id>.key`."""
        return None if self.config is None else self.config / "keys" / f"{repository.hex()}.key"
