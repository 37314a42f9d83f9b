"""What a dump records of a database beside its archive, for the restore: its own properties, the roles it needs."""

import json
from collections.abc import Iterator
from typing import Any

from penstock_postgres.attributes import Properties
from penstock_postgres.choice import Choice
from penstock_postgres.connection import Connection, rows
from penstock_postgres.relations import Relation

__all__ = ["archive_attributes", "properties_of"]


def archive_attributes(connection: Connection, found: list[Relation], choice: Choice) -> dict[str, str]:
    """The attributes that a restore of the archive needs; `found` is what was chosen."""
    attributes = {
        "properties": _properties(connection),
        "roles": "\n".join(_roles_needed(connection, found, choice)),
        "policy_roles": json.dumps(_policy_roles(connection, found), ensure_ascii=False),
        "objects": str(_objects(connection)),
    }
    if not choice.narrow:
        query = "SELECT extname FROM pg_catalog.pg_extension ORDER BY extname"
        attributes["extensions"] = json.dumps([name for (name,) in rows(connection, query)], ensure_ascii=False)
    if choice.text:
        attributes["choice"] = choice.text
    if choice.narrow:
        names = [[relation.schema, relation.name] for relation in found]
        attributes["relations"] = json.dumps(names, ensure_ascii=False, separators=(",", ":"))
        # Where tables are chosen, their schemas are not in the archive.
        word = "makes_schemas" if choice.tables is None else "needs_schemas"
        attributes[word] = json.dumps(sorted(_chosen_schemas(connection, found, choice)), ensure_ascii=False)
    return attributes


def properties_of(connection: Connection) -> Properties:
    """What belongs to the database at hand itself."""
    return Properties.model_validate_json(_properties(connection))


def _objects(connection: Connection) -> int:
    """What a restore in one transaction locks: every relation with its indexes and TOAST, and every large object."""
    query = """
    SELECT (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid >= 16384 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_(catalog|toast_temp|temp)')
        + (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)
    """
    number: int = rows(connection, query)[0][0]
    return number


def _chosen_schemas(connection: Connection, found: list[Relation], choice: Choice) -> Iterator[str]:
    """The chosen schemas, or, where tables are chosen, the schemas of these."""
    if choice.tables is not None:
        yield from {relation.schema for relation in found}
        return
    for oid, name in rows(connection, "SELECT oid, nspname FROM pg_catalog.pg_namespace"):
        if choice.has_schema(oid):
            yield name


def _roles_needed(connection: Connection, found: list[Relation], choice: Choice) -> list[str]:
    """The roles that own something of what is dumped, or are granted something there: a restore needs them."""
    query = """
    SELECT r.rolname FROM pg_catalog.pg_shdepend s
        JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
    WHERE s.classid NOT IN ('pg_catalog.pg_policy'::pg_catalog.regclass,
            'pg_catalog.pg_user_mapping'::pg_catalog.regclass)
        AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
        AND CASE WHEN s.classid = 'pg_catalog.pg_class'::pg_catalog.regclass THEN s.objid = ANY (%(relations)s)
            WHEN NOT %(narrow)s THEN true
            WHEN s.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass THEN s.objid = ANY (%(schemas)s)
            ELSE (pg_catalog.pg_identify_object(s.classid, s.objid, 0)).schema IN (
                SELECT nspname::text FROM pg_catalog.pg_namespace WHERE oid = ANY (%(schemas)s)) END
    UNION
    -- What the bootstrap superuser owns is not recorded there.
    SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10 AND (
        EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relowner = 10 AND c.oid >= 16384
            AND c.oid = ANY (%(relations)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))
        OR NOT %(narrow)s AND EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.proowner = 10 AND p.oid >= 16384
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')))
    ORDER BY 1
    """
    chosen = {
        "relations": [relation.oid for relation in found],
        "schemas": list(choice.schemas or ()),
        "narrow": choice.narrow,
    }
    return [name for (name,) in rows(connection, query, chosen)]


def _policy_roles(connection: Connection, found: list[Relation]) -> list[str]:
    """The roles that policies of what is dumped are for."""
    query = """
    SELECT DISTINCT r.rolname FROM pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) AS role (oid)
        JOIN pg_catalog.pg_roles r ON r.oid = role.oid WHERE p.polrelid = ANY (%(relations)s) ORDER BY 1
    """
    return [name for (name,) in rows(connection, query, {"relations": [relation.oid for relation in found]})]


def _properties(connection: Connection) -> str:
    """What belongs to the database itself rather than to anything in it, as JSON.

    pg_dump's archive has it under the database's own name only, and a restore may be into another.
    """
    # As JSON of the row, since the columns of the locale have other names in every second major.
    query = """
    SELECT (pg_catalog.to_jsonb(d) || pg_catalog.jsonb_build_object(
        'encoding', pg_catalog.pg_encoding_to_char(d.encoding),
        'owner', pg_catalog.pg_get_userbyid(d.datdba),
        'tablespace', (SELECT spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace),
        'comment', pg_catalog.shobj_description(d.oid, 'pg_database'),
        'settings', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(r.rolname, s.setconfig)
                ORDER BY r.rolname)
            FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
            WHERE s.setdatabase = d.oid AND (s.setrole = 0 OR r.oid IS NOT NULL)),
        -- In the order in which they were granted: a later dump has the same.
        'grants', (
            SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(r.rolname, a.kind, a.grantable) ORDER BY a.n)
            FROM pg_catalog.aclexplode(d.datacl) WITH ORDINALITY a (grantor, grantee, kind, grantable, n)
                LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
            WHERE a.grantee <> d.datdba)))::text
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
    """
    found: dict[str, Any] = json.loads(rows(connection, query)[0][0])
    kept = {
        "encoding": found["encoding"],
        "provider": found.get("datlocprovider", "c"),
        "collate": found["datcollate"],
        "ctype": found["datctype"],
        "locale": found.get("datlocale", found.get("daticulocale")),
        "icu_rules": found.get("daticurules"),
        "connection_limit": found["datconnlimit"],
        "owner": found["owner"],
        "template": found["datistemplate"],
        "tablespace": found["tablespace"],
        "comment": found["comment"],
        "settings": found["settings"] or [],
        # None: nobody has changed the defaults.
        "grants": found["grants"] or ([] if found.get("datacl") else None),
    }
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)
