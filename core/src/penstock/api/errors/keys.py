"""Errors about the keys, roles and passphrases of a repository."""

from penstock.api.errors.base import PenstockError

__all__ = [
    "KeyMissing",
    "KeyProblem",
    "RoleForbids",
    "WrongKey",
    "WrongPassphrase",
]


class KeyProblem(PenstockError):
    """A problem with keys, roles or passphrases."""

    exit_code = 20


class KeyMissing(KeyProblem):
    """No key file or passphrase slot to open the repository with."""


class WrongKey(KeyProblem):
    """The key belongs to another repository, or was revoked."""

    exit_code = 21


class WrongPassphrase(KeyProblem):
    """The passphrase opens no slot of the repository."""

    exit_code = 22


class RoleForbids(KeyProblem):
    """The key's role does not allow the operation."""

    exit_code = 23
