"""What a credential needs of a bucket, as roles and bindings to paste."""

from collections.abc import Iterable, Iterator, Sequence

from penstock.api import PolicyText, Right, Rights, prefixes_with
from penstock_gcs.settings import GcsSettings

__all__ = ["policy_of"]


def policy_of(settings: GcsSettings, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
    """Custom roles, their bindings, and what neither can do."""
    grants = list(_grants(settings, rights))
    return (
        PolicyText("Custom roles (Cloud Shell, once for each project)", "\n".join(_roles(grants))),
        PolicyText(f"Bindings of the bucket {settings.bucket} (Cloud Shell)", "\n".join(_bindings(settings, grants))),
        PolicyText(f"Listings, versions and locks of the bucket {settings.bucket}", _advice(settings, rights)),
    )


#: The end of a custom role's name, its permissions, and the prefixes where it holds; None for the bucket itself.
_Grant = tuple[str, tuple[str, ...], tuple[str, ...] | None]


def _grants(settings: GcsSettings, rights: Sequence[Rights]) -> Iterator[_Grant]:
    locks = settings.retention is not None
    if prefixes_with(Right.LIST, rights) or prefixes_with(Right.DELETE, rights):  # versions are found by listing
        yield "List", ("storage.objects.list",), None
    if read := prefixes_with(Right.READ, rights):
        yield "Read", ("storage.objects.get",), read
    if created := prefixes_with(Right.CREATE, rights):
        # Replacing an object would take storage.objects.delete as well.
        permissions = ("storage.objects.create", "storage.objects.setRetention")
        yield ("CreateLocked", permissions, created) if locks else ("Create", permissions[:1], created)
    if locks and (locked := prefixes_with(Right.LOCK, rights)):
        # The end of a lock is asked for first, with a permission that reads the object as well.
        yield "Lock", ("storage.objects.get", "storage.objects.setRetention", "storage.objects.update"), locked
    if deleted := prefixes_with(Right.DELETE, rights):
        yield "Delete", ("storage.objects.delete",), deleted


def _roles(grants: Iterable[_Grant]) -> Iterator[str]:
    yield "PROJECT=…   # the bucket's project"
    for name, permissions, _ in grants:
        yield f'gcloud iam roles create penstock{name} --project="$PROJECT" --permissions={",".join(permissions)}'


def _bindings(settings: GcsSettings, grants: Iterable[_Grant]) -> Iterator[str]:
    yield "PROJECT=…   # the bucket's project"
    yield "MEMBER=serviceAccount:…   # the credential's account, of its own for each role and host"
    for name, _, prefixes in grants:
        condition = _condition(settings, name, prefixes)
        yield f"gcloud storage buckets add-iam-policy-binding gs://{settings.bucket} \\"
        yield f'  --member="$MEMBER" --role="projects/$PROJECT/roles/penstock{name}" \\'
        yield f"  --condition={condition}"
    if settings.project is not None:
        yield f"gcloud projects add-iam-policy-binding {settings.project} \\"
        yield '  --member="$MEMBER" --role=roles/serviceusage.serviceUsageConsumer --condition=None'


def _condition(settings: GcsSettings, name: str, prefixes: tuple[str, ...] | None) -> str:
    if prefixes is None or not all(settings.root + prefix for prefix in prefixes):
        return "None"
    objects = f"projects/_/buckets/{settings.bucket}/objects/{settings.root}"
    parts = [
        f'resource.name.startsWith("{objects}{prefix}")'
        if not prefix or prefix.endswith("/")
        else f'resource.name == "{objects}{prefix}"'
        for prefix in prefixes
    ]
    expression = " || ".join(parts).replace("'", "'\\''")  # a prefix may hold one
    return f"'title=penstock{name},expression={expression}'"


def _advice(settings: GcsSettings, rights: Sequence[Rights]) -> str:
    bucket = settings.bucket
    lines = [
        "The bucket must have uniform bucket-level access: conditions do not hold beside access lists of objects.",
        "",
        "Listing cannot be confined to a prefix: storage.objects.list is a permission on the bucket, and a condition",
        "on names of objects denies every listing. So each of these credentials sees all names in the bucket, with",
        "sizes and times, those of other domains too, and reads none of their objects. Use a bucket for the",
        "repository alone.",
        "",
        "Without storage.objects.delete a credential can neither delete nor replace. Against those who have it, keep",
        "what is deleted for as long as you need to notice a theft:",
        "",
        f"  gcloud storage buckets update gs://{bucket} --soft-delete-duration=30d",
        "",
    ]
    if settings.object_lock == "none":
        lines += [
            "Stronger are locks: make the bucket with --enable-per-object-retention, set object_lock = \"locked\" and",
            "object_lock_days on every host, and print this again: a writer needs more.",
        ]  # fmt: skip
    else:
        lines += [
            f"The settings ask for locks ({settings.object_lock}, {settings.object_lock_days} days); the bucket must",
            "have been made with --enable-per-object-retention. To lengthen locks, a writer may change the metadata of",
            "objects, which Penstock does not rely on.",
        ]
    lines += [
        'Choose "locked": such a lock can only be lengthened. An "unlocked" one is lifted by whoever has',
        "storage.objects.overrideUnlockedRetention. Try it out with a few days.",
    ]
    if prefixes_with(Right.DELETE, rights):
        lines += [
            "",
            "This role deletes, with all versions of an object: storage.objects.delete covers them. What is locked",
            "stays, and is billed, until its time has come, and what is held until somebody releases it. What is",
            "soft-deleted stays for --soft-delete-duration, and is billed, too: no request frees it.",
        ]
    return "\n".join(lines)
