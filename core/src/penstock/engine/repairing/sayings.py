"""What people and their programs said of snapshots: damaged, or gone and known to a replica."""

from collections.abc import Callable

from penstock.engine.checking.ledger import Ledger
from penstock.format.keys import VerifyingKey
from penstock.format.notice import Mark, Marking, Notice
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.said import read_said
from penstock.repository.upkeep.mending import Mender

__all__ = ["mend_said"]


def mend_said(domain: Domain, ledger: Ledger, mender: Mender, workers: Workers) -> None:
    """Take from replicas what cannot be read of notices and marks, and those that are gone and keep something.

    Of what a replica alone has, nobody knows whether it was said here. So tags, holds and voids come back, which at
    worst keep too much, and no release and no verdict.
    """
    at = domain.at
    signers: dict[type[Notice | Mark], Callable[[bytes], VerifyingKey | None]] = {
        Notice: domain.signer,
        Mark: domain.keeper,
    }
    wanted: list[tuple[str, type[Notice | Mark]]] = []
    for prefix, kind in ((at.notices, Notice), (at.marks, Mark)):
        wanted += [(key, kind) for key in ledger.found_under(prefix)]
    for source in mender.sources:
        for notice in read_said(source, workers, at.notices, Notice, source.signer, None):
            if notice.content.void and not ledger.holds(at.notice_key(notice.name)):
                wanted.append((at.notice_key(notice.name), Notice))
        for mark in read_said(source, workers, at.marks, Mark, source.keeper, None):
            is_kept = mark.content.action in (Marking.TAG, Marking.HOLD)
            if is_kept and not ledger.holds(at.mark_key(mark.name)):
                wanted.append((at.mark_key(mark.name), Mark))
    for key, kind in dict(wanted).items():
        workers.call(mender.said, key, kind, signers[kind])
