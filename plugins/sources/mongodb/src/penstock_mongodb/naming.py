"""What things are called: collections in the target of a restore, and options in what it leaves out."""

from collections.abc import Iterator, Mapping, Sequence

__all__ = ["name_in_target", "names_in_target", "option_name"]


def option_name(names: Sequence[str], collection: str) -> str:
    """The name of options of a collection that are left out."""
    return f"{', '.join(names)} of {collection}"


def name_in_target(database: str, collection: str, renames: Mapping[str, str]) -> tuple[str, str]:
    """What mongorestore calls a collection, database and name: the first of its patterns decides."""
    for old, new in renames.items():
        if old == f"{database}.{collection}":
            renamed, _, name = new.partition(".")
            return renamed, name
        if old == database:
            return new, collection
    return database, collection


def names_in_target(database: str, collection: str, renames: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What a collection may be called in the target, database and name, the likeliest first."""
    renamed = renames.get(f"{database}.{collection}")
    if renamed is not None:
        new, _, name = renamed.partition(".")
        yield new, name
    yield renames.get(database, database), collection
