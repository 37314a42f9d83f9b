"""What a credential needs of a container, as a role with a condition to paste."""

import json
from collections.abc import Iterable, Iterator, Sequence

from penstock.api import PolicyText, Right, Rights, prefixes_with
from penstock_azure.settings import AzureSettings

__all__ = ["LOOK", "policy_of"]

#: What the sink lists to prove that it gets in: nothing, since it is not a valid key.
LOOK = ".preflight~"
_CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
_BLOBS = f"{_CONTAINERS}/blobs"
_READ, _ADD, _DELETE = f"{_BLOBS}/read", f"{_BLOBS}/add/action", f"{_BLOBS}/delete"
_DELETE_VERSION = f"{_BLOBS}/deleteBlobVersion/action"
_LOCK = f"{_BLOBS}/immutableStorage/runAsSuperUser/action"
_PATH, _PREFIX = f"@Resource[{_BLOBS}:path]", f"@Request[{_BLOBS}:prefix]"


def policy_of(settings: AzureSettings, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
    """A custom role, the condition of its assignment, a signature instead, and what they cannot do."""
    locks = settings.retention is not None
    read, created, deleted, locked = (
        prefixes_with(right, rights) for right in (Right.READ, Right.CREATE, Right.DELETE, Right.LOCK)
    )
    # A hold takes the same permission as a lock, and is only ever put on what is new.
    locked = (*locked, *created) if locks else created if settings.legal_hold else ()
    locked = prefixes_with(Right.LOCK, _all_of(Right.LOCK, locked))
    # The end of a lock is asked for first, which takes the permission to read.
    read = prefixes_with(Right.READ, _all_of(Right.READ, (*read, *locked)))
    actions = {_READ: read, _ADD: created, _DELETE: deleted, _DELETE_VERSION: deleted, _LOCK: locked}
    parts = [
        _clause(f"ActionMatches{{'{_READ}'}} AND SubOperationMatches{{'Blob.List'}}", _listed(settings, rights)),
        *(_clause(_matches(action), _places(settings, prefixes)) for action, prefixes in actions.items() if prefixes),
    ]
    place = f"container {settings.container}"
    condition = "\nAND\n".join(part for part in parts if part)
    texts = [
        PolicyText(
            "Custom role (az role definition create --role-definition @role.json)",
            _role(settings, [action for action, prefixes in actions.items() if prefixes], deletes=bool(deleted)),
        )
    ]
    if condition:
        texts.append(
            PolicyText(f"Condition of the role's assignment (version 2.0), at the scope of the {place}", condition)
        )
    return (
        *texts,
        PolicyText(
            "A shared access signature instead", _signature(settings, locks=bool(locked), deletes=bool(deleted))
        ),
        PolicyText(f"Versions and immutability of the {place}", _advice(settings, deletes=bool(deleted))),
    )


def _all_of(right: Right, prefixes: Iterable[str]) -> list[Rights]:
    return [Rights(prefix, frozenset({right})) for prefix in prefixes]


def _role(settings: AzureSettings, actions: list[str], *, deletes: bool) -> str:
    role = {
        "Name": f"Penstock {'maintenance' if deletes else 'backup'} in {settings.container}",
        "Description": "No permission to replace a blob: that would take blobs/write.",
        "Actions": [],
        "DataActions": actions,
        "AssignableScopes": [_scope(settings)],
    }
    return json.dumps(role, indent=2)


def _scope(settings: AzureSettings) -> str:
    group = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP"
    account = f"{group}/providers/Microsoft.Storage/storageAccounts/{settings.account}"
    return f"{account}/blobServices/default/containers/{settings.container}"


def _matches(action: str) -> str:
    # Reading and listing are one action.
    listing = " AND NOT SubOperationMatches{'Blob.List'}" if action == _READ else ""
    return f"ActionMatches{{'{action}'}}{listing}"


def _clause(matches: str, places: Iterable[str]) -> str:
    """That the action happens in one of these places; empty for everywhere."""
    places = list(places)
    if not places:
        return ""
    joined = "\n  OR\n  ".join(places)
    return f"(\n (\n  !({matches})\n )\n OR\n (\n  {joined}\n )\n)"


def _listed(settings: AzureSettings, rights: Sequence[Rights]) -> Iterator[str]:
    prefixes = [settings.root + prefix for prefix in prefixes_with(Right.LIST, rights)]
    if all(prefixes):
        yield from (f"{_PREFIX} StringStartsWith {_quoted(prefix)}" for prefix in prefixes)
        yield f"{_PREFIX} StringEquals {_quoted(settings.root + LOOK)}"


def _places(settings: AzureSettings, prefixes: Sequence[str]) -> Iterator[str]:
    if not all(settings.root + prefix for prefix in prefixes):
        return
    for prefix in prefixes:
        how = "StringStartsWith" if not prefix or prefix.endswith("/") else "StringEquals"
        yield f"{_PATH} {how} {_quoted(settings.root + prefix)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"  # a prefix may hold one


def _signature(settings: AzureSettings, *, locks: bool, deletes: bool) -> str:
    permissions = "rc" + "dx" * deletes + "l" + "i" * locks
    container = f"--account-name {settings.account} --container-name {settings.container}"
    return "\n".join(
        [
            "Where the host has no identity in Entra, a signature of the container, which the sink takes as sas_token;",
            "deleting its policy revokes it:",
            "",
            f"  az storage container policy create {container} \\",
            f"    --name penstock --permissions {permissions} --expiry …",
            f"  az storage container generate-sas --account-name {settings.account} --name {settings.container} \\",
            "    --policy-name penstock --https-only",
            "",
            "It cannot be confined to a part of the container: its holder sees all domains, and may store in all of",
            "them, so prefer the role. c creates; w, which replaces, is not needed. An account key, or a connection",
            "string with one, confines nobody: whoever has it may do everything in the account.",
        ]
    )


def _advice(settings: AzureSettings, *, deletes: bool) -> str:
    lines = [
        "Turn on versioning and soft delete for blobs, so that what is deleted can be taken back for some days:",
        "",
        f"  az storage account blob-service-properties update --account-name {settings.account} --resource-group … \\",
        "    --enable-versioning true --enable-delete-retention true --delete-retention-days 30",
        "",
    ]
    if settings.object_lock == "none":
        lines += [
            "Stronger are immutability policies: enable version-level immutability for the container, set",
            'object_lock = "locked" and object_lock_days on every host, and print this again: a writer needs more.',
        ]
    else:
        lines += [
            f"The settings ask for policies ({settings.object_lock}, {settings.object_lock_days} days); the container",
            "must have version-level immutability.",
        ]
    lines += [
        'Choose "locked": such a policy can only be lengthened. Whoever may set a policy may also shorten or remove',
        'one that is "unlocked", and a writer has to set them: against a stolen writer, "unlocked" protects nothing.',
        "Try it out with a few days.",
    ]
    if deletes:
        lines += [
            "",
            "This role deletes, with all versions and snapshots of a blob. What is locked stays, and is billed, until",
            "its time has come, and what is under a legal hold until somebody clears it. What is soft-deleted stays",
            "for --delete-retention-days, and is billed, too: Penstock does not free it.",
        ]
    return "\n".join(lines)
