"""penstock policy: the least that a credential for the store needs."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.invocation import command
from penstock.cli.options import REPOSITORY

if TYPE_CHECKING:
    from penstock.cli.run import Run
    from penstock.repository import Repository

__all__ = ["register"]


class StoreRole(StrEnum):
    """Who has a credential for the store."""

    WRITER = "writer"
    MAINTAINER = "maintainer"
    OWNER = "owner"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "policy", takes=REPOSITORY)
    def policy(
        run: "Run",
        role: Annotated[
            StoreRole, typer.Option("--role", help="Whose credential for the store it is; each role needs its own.")
        ],
        domain: Annotated[
            str | None,
            typer.Option("--domain", metavar="LABEL", help="A writer's domain, by label or id. Default: the only one."),
        ] = None,
    ) -> None:
        """Print what to paste into the store, so that a role's credential can do what it must and no more.

        Nothing is changed in the store.
        """
        from dataclasses import asdict

        from penstock.api import UsageError
        from penstock.cli.output import views
        from penstock.engine.policy import rights_of
        from penstock.format.trust import Role
        from penstock.workspace import Need

        if domain is not None and role is not StoreRole.WRITER:
            raise UsageError(f"a credential of the {role} is for all domains", hint="Leave --domain out.")
        # A writer key finds its own domain alone.
        repository = run.workspace.repository(Need.ANY if domain is None else Need.OWNER_OR_ANY)
        chosen = _domain(repository, domain) if role is StoreRole.WRITER else None
        sink = repository.sink
        rights = rights_of(Role(role), chosen, locks=sink.retention is not None)
        run.output.result({"policies": [asdict(one) for one in sink.policy(rights)]}, views.policies)


def _domain(repository: "Repository", label: str | None) -> bytes:
    """The domain with that label, or the only one that the key at hand reaches."""
    from penstock.api import UsageError
    from penstock.repository.trust.keyring import find_domain

    if label is not None:
        return find_domain(repository, label).id
    if len(repository.domains) != 1:
        there = ", ".join(one.label for one in repository.domains)
        raise UsageError("which domain is the writer's?", hint=f"Give --domain with one of: {there}.")
    return repository.domains[0].id
