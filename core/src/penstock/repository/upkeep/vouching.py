"""What a key has said stays in force when it is revoked: the owner says it anew, unless it is doubted."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from penstock.format.notice import Action, Deletion, Mark, Marking, Notice
from penstock.repository.domain import Domain
from penstock.repository.notices import Doubted, in_force
from penstock.repository.pool import Workers
from penstock.repository.said import Said, put_said, read_said
from penstock.repository.upkeep.marks import lifted_of

__all__ = ["vouch_for"]

T = TypeVar("T", Notice, Deletion, Mark)


def vouch_for(domain: Domain, doubted: Doubted, workers: Workers) -> None:
    """Say as the owner what a key has said, and is not doubted.

    That is, of notices, what packs are damaged; of deletion records, all that are in force; all marks. What was taken
    back is not said again: its new id would be one that no record lifts and no release names.
    """
    for notice in _good(read_said(domain, workers, domain.at.notices, Notice, domain.signer, None), doubted):
        if notice.signer == doubted.key and notice.content.packs:
            put_said(domain, Notice(notice.content.made, notice.content.packs))
    records = _good(read_said(domain, workers, domain.at.deletions, Deletion, domain.keeper, None), doubted)
    forgets = in_force(records)
    for said in records:
        record = said.content
        if record.action is Action.FORGET:
            still = {head for head in record.snapshots.items() if said.name in forgets.get(head, ())}
            record = replace(record, snapshots=dict(still))
        if said.signer == doubted.key and record.snapshots:
            put_said(domain, record)
    marks = _good(read_said(domain, workers, domain.at.marks, Mark, domain.keeper, None), doubted)
    lifted = lifted_of(marks)
    for one in marks:
        mark = one.content
        if mark.action is Marking.HOLD:
            held = {head for head in mark.snapshots.items() if (head, one.name) not in lifted}
            mark = replace(mark, snapshots=dict(held))
        if one.signer == doubted.key and mark.snapshots:
            put_said(domain, mark)


def _good(said: Iterable[Said[T]], doubted: Doubted) -> list[Said[T]]:
    return [one for one in said if not doubted.said(one.signer, one.content.made, one.written)]
