"""Results as lines for people, each made from the JSON document of its command: neither form tells more."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output import differences
from penstock.cli.output.units import Prose, age, amount, count, duration, moment, printable, rows, table

__all__ = [
    "backups",
    "check",
    "inspection",
    "kept",
    "key_tested",
    "key_written",
    "keys",
    "made",
    "planned",
    "plugins",
    "policies",
    "restored",
    "revoked",
    "snapshot",
    "snapshots",
    "verified",
]

Document = Mapping[str, Any]
_SHORT_ID = 8


def made(document: Document) -> Iterator[str]:
    """`init`: what to keep where."""
    yield f"Made repository {document['repository'][:_SHORT_ID]} in {printable(document['location'])}."
    yield ""
    if document["passphrase"]:
        yield "The passphrase opens everything. Keep it where it survives the loss of this host: without it, and"
        yield "without an exported owner's key, no backup can ever be restored."
    if document["owner_key"]:
        yield f"Owner's key: {printable(document['owner_key'])}"
        yield "  Whoever has it reads every backup. Move it off this host, to a safe place, and delete it here."
    if document["writer_key"]:
        yield f"Writer key of this host: {printable(document['writer_key'])}"
        yield "  It makes backups and lists them, and cannot read any. Leave it here; it needs no copy."


def backups(document: Document) -> Iterator[str]:
    """`backup`: a line for each."""
    for one in document["backups"]:
        if one["snapshot"] is None:
            yield Prose(f"{printable(one['name'])}: failed: {printable(one['error']['message'])}")
            continue
        yield Prose(
            f"{printable(one['name'])}: snapshot {one['snapshot'][:_SHORT_ID]}, {count(one['streams'], 'stream')}, "
            f"{amount(one['read'])} read, {amount(one['stored'])} stored, {duration(one['seconds'])}"
        )
        yield f"  checkpoint: {one['checkpoint']}"
        if one["left_out"]:
            yield "  Left out:"
        for object_ in one["left_out"]:
            yield from _left_out(object_, indent="    ")
        if more := one["left_out_count"] - len(one["left_out"]):
            yield f"    and {more} more"


def snapshots(document: Document) -> Iterator[str]:
    """`snapshots`: a table, oldest first."""
    if not document["snapshots"]:
        yield "No snapshots yet."
        return
    yield from table(
        ("ID", "STARTED (UTC)", "BACKUP", "SOURCE", "HOST", "SIGNED BY", "STREAMS", "SIZE", "STORED"),
        [
            (
                one["id"][:_SHORT_ID],
                moment(one["started"]),
                one["backup"],
                one["source"],
                one["host"],
                one["signer"],
                str(one["streams"]),
                amount(one["size"]),
                amount(one["stored"]),
            )
            for one in document["snapshots"]
        ],
        right=(6, 7, 8),
    )
    past = [one for one in document["snapshots"] if not one["from_the_future"]]
    if past:
        yield f"The latest is {age(past[-1]['finished'])} old."
    if ahead := len(document["snapshots"]) - len(past):
        yield f"Never taken for the latest: {count(ahead, 'snapshot')} dated in the future."


def snapshot(document: Document) -> Iterator[str]:
    """`show`: what everybody may know, and, for the owner, streams and inventory."""
    yield f"Snapshot {document['id']}"
    facts = [
        ("backup", document["backup"]),
        ("source", document["source"]),
        ("started", moment(document["started"]) + " UTC"),
        ("finished", moment(document["finished"]) + " UTC"),
        ("host", document["host"]),
        ("signed by", f"{document['signer']}, domain {document['domain']}"),
        ("program", document["program"]),
        ("parent", (document["parent"] or "none")[:_SHORT_ID]),
        ("size", f"{amount(document['size'])} in {count(document['streams'], 'stream')}"),
        ("stored", f"{amount(document['stored'])} by this run"),
        ("checkpoint", document["checkpoint"]),
    ]
    content = document["content"]
    if content is not None:
        facts.append(("consistency", content["consistency"]))
    for name, value in facts:
        yield f"  {name + ':':<13}{printable(value)}"
    if content is None:
        yield ""
        yield f"Only the owner sees its streams and inventory: {document['content_hidden']}."
        return
    if since := differences.summed_up(document):
        yield ""
        yield Prose(since)
    yield ""
    yield from table(
        ("STREAM", "FORMAT", "BYTES"),
        [
            (one["name"] + (" (optional)" if one["optional"] else ""), one["format"], f"{one['size']:,}")
            for one in content["streams"]
        ],
        right=(2,),
    )
    yield ""
    yield from _inspected(content["inspection"])


def inspection(document: Document) -> Iterator[str]:
    """`inspect`."""
    yield f"{printable(document['location'])} ({document['source']})"
    if document["consistency"]:
        yield f"dump:    {printable(document['consistency'])}"
    yield from _inspected(document)


def _inspected(document: Document) -> Iterator[str]:
    yield f"engine:  {printable(document['engine'])} {printable(document['server_version'])}"
    if document["client_version"]:
        yield f"client:  {printable(document['client_version'])}"
    if document.get("size_estimate") is not None:
        yield f"size:    ~{amount(document['size_estimate'])} to dump"
    for warning in document["warnings"]:
        yield f"warning: {printable(warning)}"
    if document["left_out"]:
        yield "left out:"
    for one in document["left_out"]:
        yield from _left_out(one)
    if document.get("streams"):
        yield ""
        yield from table(
            ("STREAM", "FORMAT", "ESTIMATE"),
            [
                (
                    one["name"] + (" (optional)" if one["optional"] else ""),
                    one["format"],
                    "" if one["size_estimate"] is None else f"~{amount(one['size_estimate'])}",
                )
                for one in document["streams"]
            ],
            right=(2,),
        )
    if document["inventory"]:
        yield ""
        yield from table(
            ("KIND", "NAME", "ROWS", "SIZE"),
            [
                (one["kind"], one["name"], rows(one["rows"], exact=one["exact"]), _size(one))
                for one in document["inventory"]
            ],
            right=(2, 3),
        )


def _size(item: Document) -> str:
    return "" if item["size"] is None else amount(item["size"])


def planned(document: Document) -> Iterator[str]:
    """`restore --dry-run`: what would be done, what it needs, and what would be left out."""
    yield Prose(
        f"Snapshot {document['snapshot'][:_SHORT_ID]} would be restored to {printable(document['target'])}: "
        f"{count(len(document['streams']), 'stream')}, {amount(document['size'])}"
    )
    for step in document["steps"]:
        yield Prose(f"  {printable(step['action'])}")
    if document["needs"]:
        yield "Needed:"
    for need in document["needs"]:
        state = {True: "there", False: "missing", None: "unknown"}[need["met"]]
        note = f": {printable(need['note'])}" if need["note"] else ""
        yield Prose(f"  {printable(need['kind'])} {printable(need['name'])}: {state}{note}")
    if document["left_out"]:
        yield "Left out:"
    for one in document["left_out"]:
        yield from _left_out(one)
    yield "Nothing was changed."


def restored(document: Document) -> Iterator[str]:
    """`restore`."""
    verified = "verified, then restored" if document["verified_first"] else "restored"
    yield Prose(
        f"Snapshot {document['snapshot'][:_SHORT_ID]}: {verified} {count(len(document['streams']), 'stream')}, "
        f"{amount(document['written'])}, to {printable(document['target'])} in {duration(document['seconds'])}"
    )
    yield Prose(
        f"It is {printable(document['backup'])} as of {moment(document['finished'])} UTC, {age(document['finished'])} "
        f"ago, signed by {printable(document['signer'])}"
    )
    if document["left_out"]:
        yield "Left out:"
    for one in document["left_out"]:
        yield from _left_out(one, statements=document["rejects"] is None)
    if more := document["left_out_count"] - len(document["left_out"]):
        yield f"  and {more} more"
    if document["left_out"] and document["rejects"] is not None:
        yield Prose(f"The statements that repeat them are in {printable(document['rejects'])}")


def _left_out(one: Mapping[str, Any], *, statements: bool = False, indent: str = "  ") -> Iterator[str]:
    where = f"{printable(one['database'])}: " if one["database"] else ""
    needless = "" if one.get("lost", True) else " (nothing is missing)"
    what = f"{where}{printable(one['kind'])} {printable(one['name'])}"
    yield Prose(f"{indent}{what}: {printable(one['reason'])}{needless}")
    if statements and one["statement"]:
        for line in one["statement"].splitlines():
            yield f"    {printable(line.expandtabs())}"


def check(document: Document) -> Iterator[str]:
    """`check`: every finding, and what was checked."""
    for finding in document["findings"]:
        yield f"{printable(finding['key'])}: {printable(finding['problem'])}"
    counts = document["checked"]
    yield "Checked " + ", ".join(
        (
            count(counts["snapshots"], "snapshot"),
            count(counts["packs"], "pack"),
            count(counts["segments"], "segment"),
            count(counts["sessions"], "session"),
            count(counts["index"], "index object"),
        )
    )
    read = f"Read {amount(counts['read'])} of packs{', whose turn it was,' if counts['in_part'] else ''}"
    if not counts["read_data"]:
        yield "Structure only: the packs' data was not read (--read-data reads it)."
    elif counts["opened"]:
        yield f"{read} and opened every segment."
    else:
        yield f"{read} and compared digests; this key cannot open segments."
    if document["finding_count"]:
        yield f"Damaged or missing: {count(document['finding_count'], 'object')}."
    else:
        yield "No damage found."


def verified(document: Document) -> Iterator[str]:
    """`verify`: a line for each snapshot, and what does not come out whole."""
    for one in document["snapshots"]:
        whole = f"{count(one['streams'], 'stream')}, {amount(one['read'])}, came out whole"
        of = f"{printable(one['backup'])} of {moment(one['finished'])}, signed by {printable(one['signer'])}"
        yield f"{one['snapshot'][:_SHORT_ID]} ({of}): {whole}"
        for problem in one["problems"]:
            yield f"  {printable(problem)}"
    if not document["snapshots"]:
        yield "No snapshots yet."


def plugins(document: Document) -> Iterator[str]:
    """`plugins`."""
    if document["plugins"]:
        yield from table(
            ("KIND", "NAME", "URLS", "DISTRIBUTION", "WHAT"),
            [
                (
                    one["kind"],
                    one["name"],
                    " ".join(f"{scheme}:" for scheme in one["schemes"]),
                    f"{one['distribution']} {one['version']}",
                    one["summary"],
                )
                for one in document["plugins"]
            ],
        )
    else:
        yield "No plugins are installed."
    for one in document["plugins"]:
        for clash in one["clashes"]:
            yield f"clash: {printable(one['distribution'])} claims {printable(clash)}"
    for one in document["broken"]:
        name = printable(f"{one['name']} of {one['distribution']} {one['version']}")
        yield f"unusable: {name}: {printable(one['reason'])}"


def keys(document: Document) -> Iterator[str]:
    """`key list`."""
    yield from table(
        ("KEY", "ROLE", "CREATED (UTC)", "LABEL", "DOMAIN", "NAMES", "REVOKED (UTC)"),
        [
            (
                one["key"][:_SHORT_ID],
                "passphrase" if one["role"] == "slot" else one["role"],
                moment(one["created"]),
                one["label"],
                one["domain"] or "",
                " ".join(one["names"]),
                moment(one["revoked"] or ""),
            )
            for one in document["keys"]
        ],
    )


def key_written(document: Document) -> Iterator[str]:
    """`key add`, `key add-passphrase`, `key export`."""
    if document["role"] == "slot":
        yield f"Added passphrase {document['key'][:_SHORT_ID]} ({printable(document['label'])})."
    elif document["role"] == "owner":
        yield f"Wrote the owner's key to {printable(document['file'])}. Whoever has it reads every backup."
    else:
        yield (
            f"Wrote {document['role']} key {document['key'][:_SHORT_ID]} ({printable(document['label'])}) to "
            f"{printable(document['file'])}. It exists nowhere else."
        )


def revoked(document: Document) -> Iterator[str]:
    """`key revoke`: what is kept of a writer's."""
    yield f"Revoked {document['role']} key {document['key'][:_SHORT_ID]} ({printable(document['label'])})."
    if document["role"] == "writer":
        yield from kept(document)
        if document["left_out"]:
            yield ""
            yield f"Not kept: {count(len(document['left_out']), 'snapshot')}. To keep some: penstock key keep ID."
            yield from _snapshots_of_key(document["left_out"])


def kept(document: Document) -> Iterator[str]:
    """`key keep`: the snapshots that stay good."""
    if not document["kept"]:
        yield "None of its snapshots is kept."
        return
    yield f"Kept: {count(len(document['kept']), 'snapshot')}"
    yield from _snapshots_of_key(document["kept"])


def _snapshots_of_key(snapshots: list[Document]) -> Iterator[str]:
    yield from table(
        ("ID", "STARTED (UTC)", "BACKUP", "HOST", "SIZE"),
        [
            (one["id"][:_SHORT_ID], moment(one["started"]), one["backup"], one["host"], amount(one["size"]))
            for one in snapshots
        ],
        right=(4,),
    )


def key_tested(document: Document) -> Iterator[str]:
    """`key test`: who it is."""
    domains = ", ".join(document["domains"])
    yield (
        f"It opens repository {document['repository'][:_SHORT_ID]} as {document['role']} "
        f"({printable(document['label'])}); domains: {printable(domains)}."
    )


def policies(document: Document) -> Iterator[str]:
    """`policy`: what goes where, and below it what to paste."""
    for number, one in enumerate(document["policies"]):
        if number:
            yield ""
        yield f"# {printable(one['title'])}"
        yield from (printable(line) for line in one["text"].splitlines())
