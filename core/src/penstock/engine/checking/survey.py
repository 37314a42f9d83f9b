"""What is there, looked at object by object; not yet what relies on what."""

from collections.abc import Callable
from typing import NamedTuple

from penstock.engine.checking.findings import Findings
from penstock.engine.checking.ledger import Ledger
from penstock.engine.checking.packs import Packs
from penstock.engine.checking.small import Small
from penstock.engine.checking.turns import Turns
from penstock.engine.reporting import Reporter
from penstock.repository import Repository
from penstock.repository.domain import Domain
from penstock.repository.notices import Notices
from penstock.repository.pool import Workers

__all__ = ["Surveyed", "survey"]


class Surveyed(NamedTuple):
    """A domain, what its notices say, and its packs."""

    domain: Domain
    notices: Notices
    packs: Packs


def survey(
    repository: Repository,
    workers: Workers,
    readers: Workers,
    ledger: Ledger,
    findings: Findings,
    reporter: Reporter,
    *,
    read_data: bool,
    choose: Callable[[Domain], Turns] | None = None,
) -> list[Surveyed]:
    """List everything, and look at each object that is no head; with `read_data`, at every byte of packs.

    `readers` have a whole pack each in memory then. With `choose`, only those packs are read whose turn it is.
    """
    reporter.phase("listing")
    small = Small(repository, workers, ledger, findings)
    small.list_all()
    small.examine_owners()
    found = []
    for domain in repository.domains:
        notices = small.examine(domain)
        found.append(Surveyed(domain, notices, Packs(domain, notices, workers, ledger, findings, reporter)))
    if choose is not None:
        for one in found:
            with choose(one.domain) as turns:
                reporter.phase("reading", turns.size)
                one.packs.examine(readers, read_data=True, only=turns.__contains__, on_read=turns.read)
                one.packs.examine(workers, read_data=False, only=lambda pack, turns=turns: pack not in turns)  # type: ignore[misc]
        return found
    if read_data:
        reporter.phase("reading", sum(ledger.count(domain.at.packs)[1] for domain in repository.domains))
    for one in found:
        one.packs.examine(readers if read_data else workers, read_data=read_data)
    return found
