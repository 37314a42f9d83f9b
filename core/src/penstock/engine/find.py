"""Find: the snapshot that an operator means, and what makes it doubtful that it is the one."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, SnapshotNotFound
from penstock.api.models import ObjectInfo
from penstock.engine.doubts import Doubts
from penstock.format.encoding import Malformed
from penstock.repository import Repository, SnapshotEntry, layout
from penstock.repository.checkpoint import SET_BACK, checked, is_known
from penstock.repository.domain import Domain
from penstock.repository.notices import read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.seen import snapshots_seen
from penstock.repository.sessions import proof_of_cut, read_session
from penstock.repository.snapshots import OnDamage, find_snapshot, is_left_out, read_snapshot, summaries

__all__ = ["find", "find_each", "find_previous", "latest_names"]


def find(
    repository: Repository,
    text: str,
    *,
    cache_dir: Path | None = None,
    checkpoint: str | None = None,
    warn: Callable[[str], None],
) -> SnapshotEntry:
    """The snapshot that `text` names: `latest`, `latest:<backup>`, or the beginning of an id.

    Of `latest`, `warn` hears of each snapshot that is passed over because it is damaged or not signed, and, with
    `cache_dir`, of each that this host has seen before, that is gone, though nobody forgot it, and that may have been a
    later one. It hears too
    if a session proves that the end of the owner's log is missing: who was revoked there counts as a writer here.
    Raises `SnapshotNotFound`, also if nothing in the repository knows the snapshot of the `checkpoint`; for an id,
    `DamagedObject` and `MissingObject`.
    """
    if checkpoint is not None and not is_known(repository, checked(checkpoint)):
        raise SnapshotNotFound(SET_BACK, hint="Look for another copy of the repository, or leave the checkpoint out.")
    met: set[bytes] = set()
    newest: dict[bytes, SnapshotEntry] = {}

    def meet(entry: SnapshotEntry) -> None:
        # A parent is older than the snapshot that names it.
        met.update(one for one in (entry.id, entry.head.parent) if one is not None)
        known = newest.get(entry.writer)
        if known is None or entry.head.sequence >= known.head.sequence:
            newest[entry.writer] = entry

    def pass_over(error: DamagedObject | MissingObject) -> None:
        with suppress(Malformed):
            met.add(layout.id_of(error.key))
        doubts(error)

    def tell_gone() -> None:
        if cache_dir is None or text.partition(":")[0] != "latest":
            return
        for domain in repository.domains:
            missing = snapshots_seen(cache_dir, domain) - met
            for one in sorted(missing - _explained(domain) if missing else ()):
                gone(MissingObject(domain.at.snapshot_key(one), "this host has seen it, and it may be a later one"))

    with Doubts(warn, "passed over") as doubts, Doubts(warn, "gone") as gone:
        try:
            found = find_snapshot(repository, text, on_damage=pass_over, on_present=meet)
            newest.setdefault(found.writer, found)
            return found
        finally:
            tell_gone()
            for cut in _cuts(repository, newest.values()):
                warn(str(cut))


def _explained(domain: Domain) -> set[bytes]:
    """The snapshots that are not there, or not listed, because somebody who may forget and delete them did."""
    with Workers(domain.sink.connections, "penstock-find", domain.sink.stop) as workers:
        notices = read_notices(domain, workers)
        return notices.missing.union(snapshot for snapshot, _ in notices.forgotten)


def _cuts(repository: Repository, entries: Iterable[SnapshotEntry]) -> Iterator[DamagedObject]:
    """What the sessions of these snapshots prove to be missing of the owner's log."""

    def look(entry: SnapshotEntry) -> DamagedObject | None:
        # A session that is not what was written is told of by whoever needs it.
        with suppress(DamagedObject, MissingObject):
            return proof_of_cut(entry.domain, read_session(entry.domain, entry.session))
        return None

    with Workers(repository.sink.connections, "penstock-find", repository.sink.stop) as workers:
        yield from filter(None, workers.map(look, entries))


def latest_names(repository: Repository, *, warn: Callable[[str], None]) -> list[str]:
    """A name for the latest snapshot of each backup, for `find`. `warn` hears of what is passed over."""
    with Doubts(warn, "passed over") as doubts:
        names = summaries(
            repository, lambda entry: f"latest:{entry.domain.label}/{entry.head.backup}", on_damage=doubts
        )
    return list(dict.fromkeys(names))


def find_previous(repository: Repository, entry: SnapshotEntry, *, warn: Callable[[str], None]) -> SnapshotEntry:
    """The snapshot of the same backup and domain that is listed before this one.

    `warn` hears of what is passed over. Raises `SnapshotNotFound` where there is none, `DamagedObject` and
    `MissingObject` where it was changed meanwhile.
    """
    before: _Turn | None = None
    with Doubts(warn, "passed over") as doubts:
        for turn in summaries(repository, _turn, on_damage=doubts):
            if layout.id_of(turn.info.key) == entry.id:
                break
            if (turn.domain.id, turn.backup) == (entry.domain.id, entry.head.backup):
                before = turn
    if before is None:
        reason = f"no snapshot of {entry.head.backup} is older than {entry.id.hex()[:8]}"
        raise SnapshotNotFound(reason, hint="Give two snapshots: penstock snapshots lists them.")
    with Workers(1, "penstock-find", repository.sink.stop) as workers:
        return workers.call(read_snapshot, before.domain, before.info)


class _Turn(NamedTuple):
    """A snapshot that is read when its turn comes: its head takes more memory than this."""

    domain: Domain
    info: ObjectInfo
    backup: str


def find_each(
    repository: Repository, backups: Collection[str] | None, *, on_damage: OnDamage
) -> Iterator[SnapshotEntry]:
    """The snapshots of these backups, or all, oldest first; `on_damage` is told of those that are not what was written.

    Not of what a revoked writer signed and the owner left out. Raises `SnapshotNotFound` for a backup that has none.
    """

    def meet(error: DamagedObject | MissingObject) -> None:
        domain = next(one for one in repository.domains if error.key.startswith(one.at.prefix))
        if not workers.call(is_left_out, domain, error.key):
            on_damage(error)

    with Workers(1, "penstock-find", repository.sink.stop) as workers:
        found = summaries(repository, _turn, meet)
    there = {turn.backup for turn in found}
    for name in backups or ():
        if name not in there:
            hint = "Run penstock snapshots to list them."
            raise SnapshotNotFound(f"there is no snapshot of the backup {name} yet", hint=hint)
    for turn in found:
        if backups is None or turn.backup in backups:
            try:
                entry = read_snapshot(turn.domain, turn.info)
            except (DamagedObject, MissingObject) as error:
                on_damage(error)
            else:
                yield entry


def _turn(entry: SnapshotEntry) -> _Turn:
    info = ObjectInfo(entry.domain.at.snapshot_key(entry.id), entry.object_size, entry.modified)
    return _Turn(entry.domain, info, entry.head.backup)
