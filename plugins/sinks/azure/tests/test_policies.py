"""What `penstock policy` prints for Azure. Azurite knows no roles, and enforces the permissions of signatures."""

import json
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import AccessPolicy, generate_container_sas
from core.tests.repository.lab import KIB, Lab, noise
from tests.servers.azure import AzureServer

from penstock.api import Right, Rights, SinkDenied
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_writer
from penstock_azure import AzureSettings, AzureSink

OWN = "d/" + "ab" * 16 + "/"
READ = frozenset({Right.LIST, Right.READ})
CREATE = frozenset({Right.CREATE})
WRITER = [
    Rights("penstock.json", frozenset({Right.READ})),
    Rights("grants/", READ),
    Rights(OWN, READ),
    Rights(f"{OWN}packs/", CREATE),
]
EVERYTHING = [Rights("", READ | CREATE | {Right.DELETE, Right.LOCK})]
LOCKS: dict[str, Any] = {"object_lock": "locked", "object_lock_days": 30}
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
LOCK = f"{BLOBS}/immutableStorage/runAsSuperUser/action"


def texts(rights: list[Rights], **settings: Any) -> list[str]:
    values = {"account": "acme", "container": "backups", "prefix": "shop", **settings}
    return [one.text for one in AzureSink(AzureSettings.model_validate(values)).policy(rights)]


def actions(rights: list[Rights], **settings: Any) -> list[str]:
    role = json.loads(texts(rights, **settings)[0])
    assert role["AssignableScopes"][0].endswith("/storageAccounts/acme/blobServices/default/containers/backups")
    return list(role["DataActions"])


def clauses(condition: str) -> dict[str, list[str]]:
    """The places of each action."""
    found = {}
    for clause in condition.split("\nAND\n"):
        (matched,) = re.findall(r"!\((.*)\)\n", clause)
        found[matched] = [" ".join(line.split()) for line in clause.splitlines() if line.strip().startswith("@")]
    return found


def test_a_writer_gets_its_domain_and_neither_replaces_nor_deletes() -> None:
    assert actions(WRITER) == [f"{BLOBS}/read", f"{BLOBS}/add/action"]
    assert clauses(texts(WRITER)[1]) == {
        f"ActionMatches{{'{BLOBS}/read'}} AND SubOperationMatches{{'Blob.List'}}": [
            f"@Request[{BLOBS}:prefix] StringStartsWith 'shop/{OWN}'",
            f"@Request[{BLOBS}:prefix] StringStartsWith 'shop/grants/'",
            f"@Request[{BLOBS}:prefix] StringEquals 'shop/.preflight~'",
        ],
        f"ActionMatches{{'{BLOBS}/read'}} AND NOT SubOperationMatches{{'Blob.List'}}": [
            f"@Resource[{BLOBS}:path] StringStartsWith 'shop/{OWN}'",
            f"@Resource[{BLOBS}:path] StringStartsWith 'shop/grants/'",
            f"@Resource[{BLOBS}:path] StringEquals 'shop/penstock.json'",
        ],
        f"ActionMatches{{'{BLOBS}/add/action'}}": [f"@Resource[{BLOBS}:path] StringStartsWith 'shop/{OWN}packs/'"],
    }


def test_locks_need_more() -> None:
    rights = [*WRITER, Rights("slots/", frozenset({Right.LOCK}))]
    assert actions(rights, **LOCKS) == [f"{BLOBS}/read", f"{BLOBS}/add/action", LOCK]
    assert clauses(texts(rights, **LOCKS)[1])[f"ActionMatches{{'{LOCK}'}}"] == [
        f"@Resource[{BLOBS}:path] StringStartsWith 'shop/{OWN}packs/'",
        f"@Resource[{BLOBS}:path] StringStartsWith 'shop/slots/'",
    ]
    assert LOCK not in actions(rights)
    assert "--permissions rcli" in texts(rights, **LOCKS)[2]


def test_a_legal_hold_takes_the_permission_of_a_lock_where_blobs_are_made() -> None:
    rights = [*WRITER, Rights("slots/", frozenset({Right.LOCK}))]
    assert clauses(texts(rights, legal_hold=True)[1])[f"ActionMatches{{'{LOCK}'}}"] == [
        f"@Resource[{BLOBS}:path] StringStartsWith 'shop/{OWN}packs/'"
    ]
    assert "--permissions rcli" in texts(rights, legal_hold=True)[2]


def test_who_has_a_whole_container_needs_no_condition() -> None:
    assert actions(EVERYTHING, prefix="", **LOCKS) == [
        f"{BLOBS}/read",
        f"{BLOBS}/add/action",
        f"{BLOBS}/delete",
        f"{BLOBS}/deleteBlobVersion/action",
        LOCK,
    ]
    assert len(texts(EVERYTHING, prefix="")) == 3
    assert "--permissions rcdxl " in texts(EVERYTHING, prefix="")[1]


def test_a_condition_fits_into_an_assignment() -> None:
    """Azure takes 8 KB."""
    many = [Rights(f"{OWN}{kind}/", CREATE) for kind in ("sessions", "packs", "index", "parts", "heads", "leases", "x")]
    assert len(texts([*WRITER, *many], **LOCKS)[1]) < 8000


@pytest.mark.parametrize("rights", [WRITER, EVERYTHING], ids=["writer", "everything"])
@pytest.mark.parametrize(("settings", "said"), [({}, "Stronger are immutability"), (LOCKS, "locked, 30 days")])
def test_the_text_says_what_roles_cannot_do(rights: list[Rights], settings: dict[str, Any], said: str) -> None:
    text = texts(rights, **settings)[-1]
    assert said in text
    assert ("This role deletes" in text) is (rights is EVERYTHING)


@pytest.mark.server
def test_the_signature_that_is_printed_is_enough_for_a_writer_and_deletes_nothing(
    azure: AzureServer, tmp_path: Path
) -> None:
    container = azure.new_container()
    with closing(AzureSink(AzureSettings.model_validate(azure.settings(container, prefix="shop")))) as sink:
        lab = Lab(tmp_path / "owner", sink)
        writer = add_writer(lab.repository, "host")
        (permissions,) = re.findall(r"--permissions (\w+)", sink.policy(WRITER)[2].text)
        with azure.client() as client:
            policy = AccessPolicy(permissions, datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC))
            client.get_container_client(container).set_container_access_policy({"penstock": policy})
        token = generate_container_sas(azure.account, container, account_key=azure.key, policy_id="penstock")
        (tmp_path / "sas").write_text(token)
        more = {"account_key": None, "sas_token": {"file": str(tmp_path / "sas")}, "prefix": "shop"}
        with closing(AzureSink(AzureSettings.model_validate(azure.settings(container, **more)))) as confined:
            lab.backup({"d": noise(100 * KIB)}, by=lab.open(writer, sink=confined), name="host")
            by = lab.open(writer, sink=confined)
            assert len(list_snapshots(by)) == 1
            assert lab.check(by=by).findings == ()
            key = min(lab.keys(by.domain.at.packs))
            with pytest.raises(SinkDenied):
                confined.delete(key)
            assert lab.restored("latest:host") == {"d": noise(100 * KIB)}
