"""What a credential needs of a bucket, as policies to paste."""

import json
from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import Any

from penstock.api import PolicyText, Right, Rights, prefixes_with
from penstock_s3.settings import S3Settings

__all__ = ["PROBE", "policy_of"]

Statement = dict[str, Any]

#: Where the sink tries out what the service knows. Not a valid key, so it is never listed; it stays, since a writer
#: may not delete.
PROBE = ".conditional-put~"
#: A backup asks for locks an eighth longer than `object_lock_days`, so that not every night must lengthen them again.
_LONGEST_LOCK = 9 / 8


def policy_of(settings: S3Settings, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
    """For the credential, for the bucket, and what neither can do."""
    place = f"bucket {settings.bucket}"
    texts = [
        PolicyText(
            "IAM policy for the credential (IAM, the user or role: Add permissions, Create inline policy, JSON)",
            _document(_allowed(settings, rights)),
        )
    ]
    if settings.conditional_put != "no":
        below = f", below {settings.prefix}/" if settings.prefix else ", all of it"
        texts.append(
            PolicyText(
                f"Bucket policy, the same for every role (S3, {place}, Permissions, Bucket policy){below}",
                _document([_never_replaced(settings)]),
            )
        )
    texts.append(PolicyText(f"Versioning and object lock of the {place}", _advice(settings, rights)))
    return tuple(texts)


def _allowed(settings: S3Settings, rights: Sequence[Rights]) -> Iterator[Statement]:
    listed = [f"{_literal(settings.root + prefix)}*" for prefix in prefixes_with(Right.LIST, rights)]
    if listed:
        statement = _allow("List", ["s3:ListBucket"], [_bucket(settings)])
        if listed != ["*"]:
            # The last one lists nothing: it is how the sink proves that it gets in.
            statement["Condition"] = {"StringLike": {"s3:prefix": [*listed, _literal(settings.root + PROBE)]}}
        yield statement
    if read := prefixes_with(Right.READ, rights):
        yield _allow("Read", ["s3:GetObject"], _objects(settings, read))
    created = prefixes_with(Right.CREATE, rights)
    if created:
        yield _allow("Create", ["s3:PutObject"], _objects(settings, [*created, PROBE]))
    if settings.retention is not None:
        locked = prefixes_with(Right.LOCK, [*rights, *(Rights(one, frozenset({Right.LOCK})) for one in created)])
        if locked:
            yield _allow("Lock", ["s3:GetObjectRetention", "s3:PutObjectRetention"], _objects(settings, locked))
            # In compliance mode nobody could ever end what a stolen credential locks for a hundred years.
            longest = ceil(settings.retention.days * _LONGEST_LOCK) + 1
            yield {
                **_allow("NoLongerLock", ["s3:PutObject", "s3:PutObjectRetention"], _objects(settings, [""])),
                "Effect": "Deny",
                "Condition": {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": str(longest)}},
            }
    if deleted := prefixes_with(Right.DELETE, rights):
        # Without the last two the sink cannot tell a lock from a denial, nor until when it holds.
        actions = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold"]
        yield _allow("Delete", actions, _objects(settings, deleted))
        # To find the versions, the sink lists by whole names.
        statement = _allow("ListVersions", ["s3:ListBucketVersions"], [_bucket(settings)])
        below = [f"{_literal(settings.root + prefix)}*" for prefix in deleted]
        if below != ["*"]:
            statement["Condition"] = {"StringLike": {"s3:prefix": below}}
        yield statement
        yield _allow("AskForVersions", ["s3:GetBucketVersioning"], [_bucket(settings)])
    if settings.kms_key is not None:
        yield _allow("Encrypt", ["kms:Decrypt", "kms:GenerateDataKey"], [_kms_key(settings, settings.kms_key)])


def _never_replaced(settings: S3Settings) -> Statement:
    """Denies a PUT without If-None-Match; the parts of a multipart upload, which cannot carry it, create no object."""
    return {
        "Sid": "PenstockNeverReplaces",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": _objects(settings, [""])[0],
        "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
    }


def _advice(settings: S3Settings, rights: Sequence[Rights]) -> str:
    bucket = settings.bucket
    lines = [
        "Turn on versioning, or better object lock, which includes it:",
        "",
        f"  aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled",
        "",
        "Why: who may put may replace, unless the bucket policy above is in force, and without versioning a replaced",
        "object is gone. With it, what a writer replaces stays as a former version. Who prunes deletes versions, too,",
        "since nothing else frees what they cost: against a stolen credential of that kind, only object lock helps.",
        "",
    ]
    if settings.object_lock == "none":
        lines += [
            'Object lock needs a bucket that allows it, and object_lock = "compliance" with object_lock_days in the',
            "settings of every host. Then print the policies again: a writer needs more.",
        ]
    else:
        lines += [
            f"The settings ask for locks ({settings.object_lock}, {settings.object_lock_days} days); the bucket must",
            "allow them.",
        ]
    lines += [
        "Choose compliance: nobody can delete before the time, not even the account's root user. A governance lock is",
        "lifted by whoever has s3:BypassGovernanceRetention, so it protects against mistakes and against these",
        "credentials, and not against somebody who takes over an administrator. Try it out with a few days.",
    ]
    if prefixes_with(Right.DELETE, rights):
        lines += [
            "",
            "This role deletes, with all versions of an object. What is locked stays, and is billed, until its time",
            "has come; a legal hold has no time. A bucket with MFA delete lets no program delete versions.",
        ]
    if settings.conditional_put == "no":
        lines += [
            "",
            'With conditional_put = "no" the sink sends no If-None-Match, and no bucket policy can ask for it: whoever',
            "has a writer's credential can replace what is in its domain. Versioning is then not optional.",
        ]
    elif settings.endpoint is not None:
        lines += [
            "",
            "This is not Amazon S3. A service that does not know the condition s3:if-none-match may refuse the bucket",
            "policy, deny every PUT, or let every PUT pass (Ceph 16): try it, and rely on versioning where it does.",
            "Where users have no policies, put the statements into the bucket policy, each with its Principal. Where",
            "an object belongs to the user who stored it (Ceph), the bucket's owner needs the owner's statements, too.",
        ]
    return "\n".join(lines)


def _document(statements: Iterable[Statement]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=2)


def _allow(what: str, actions: list[str], resources: list[str]) -> Statement:
    return {"Sid": f"Penstock{what}", "Effect": "Allow", "Action": actions, "Resource": resources}


def _bucket(settings: S3Settings) -> str:
    return f"arn:{_partition(settings)}:s3:::{settings.bucket}"


def _objects(settings: S3Settings, prefixes: Iterable[str]) -> list[str]:
    """The objects below these prefixes, or of these whole keys."""
    below = _literal(settings.root)
    return [
        f"{_bucket(settings)}/{below}{prefix}{'' if prefix and not prefix.endswith('/') else '*'}"
        for prefix in prefixes
    ]


def _kms_key(settings: S3Settings, key: str) -> str:
    if key.startswith("arn:"):
        return key
    return f"arn:{_partition(settings)}:kms:{settings.region or 'REGION'}:ACCOUNT:key/{key}"


def _partition(settings: S3Settings) -> str:
    region = settings.region or ""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def _literal(text: str) -> str:
    """As it stands in a pattern: a prefix may hold an asterisk."""
    return text.replace("*", "${*}")
