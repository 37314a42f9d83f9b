"""Find: the snapshot that an operator means, and what makes it doubtful that it is the one."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from penstock.api.errors import DamagedObject, MissingObject, SnapshotNotFound
from penstock.format.encoding import Malformed
from penstock.repository import Repository, SnapshotEntry, layout
from penstock.repository.read.seen import snapshots_seen
from penstock.repository.snapshots import find_snapshot

__all__ = ["find"]


def find(
    repository: Repository, text: str, *, cache_dir: Path | None = None, warn: Callable[[str], None]
) -> SnapshotEntry:
    """The snapshot that `text` names: `latest`, `latest:<backup>`, or the beginning of an id.

    Of `latest`, `warn` hears of each snapshot that is passed over because it is damaged or not signed, and, with
    `cache_dir`, of each that this host has seen before, that is gone, and that may have been a later one.
    Raises `SnapshotNotFound`, and, for an id, `DamagedObject` and `MissingObject`.
    """
    met: set[bytes] = set()

    def meet(snapshot: bytes, parent: bytes | None) -> None:
        # A parent is older than the snapshot that names it.
        met.update(one for one in (snapshot, parent) if one is not None)

    def pass_over(error: DamagedObject | MissingObject) -> None:
        with suppress(Malformed):
            met.add(layout.id_of(error.key))
        warn(f"passed over: {error}")

    def tell_gone() -> None:
        if cache_dir is not None:
            for one in sorted(snapshots_seen(cache_dir, repository) - met):
                warn(f"{layout.snapshot_key(one)}: gone: this host has seen it before, and it may be a later one")

    latest = text.partition(":")[0] == "latest"
    try:
        entry = find_snapshot(repository, text, on_damage=pass_over, on_present=meet)
    except SnapshotNotFound:
        if latest:
            tell_gone()
        raise
    if latest:
        tell_gone()
    return entry
