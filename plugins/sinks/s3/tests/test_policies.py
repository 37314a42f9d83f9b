"""What `penstock policy` prints for S3, and what a real service makes of it."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3.session
import pytest
from core.tests.repository.lab import KIB, Lab, noise
from plugins.sinks.s3.tests.real import make
from tests.servers.s3 import S3Server

from penstock.api import ObjectLocked, ObjectMissing, PolicyText, Right, Rights, SinkDenied
from penstock.engine.policy import rights_of
from penstock.format.trust import Role
from penstock.repository import Repository, layout
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_writer
from penstock_s3 import S3Settings, S3Sink

OWN, BUCKET = "d/" + "ab" * 16 + "/", "arn:aws:s3:::acme"
READ = frozenset({Right.LIST, Right.READ})
CREATE = frozenset({Right.CREATE})
WRITER = [
    Rights("penstock.json", frozenset({Right.READ})),
    Rights("grants/", READ),
    Rights(OWN, READ),
    Rights(f"{OWN}packs/", CREATE),
]
EVERYTHING = [Rights("", READ | CREATE | {Right.DELETE, Right.LOCK})]


def statements(rights: list[Rights], **settings: Any) -> dict[str, dict[str, Any]]:
    """Those of the policy for the credential, by name."""
    document = json.loads(sink(**settings).policy(rights)[0].text)
    assert document["Version"] == "2012-10-17"
    return {one.pop("Sid").removeprefix("Penstock"): one for one in document["Statement"]}


def sink(**settings: Any) -> S3Sink:
    return S3Sink(S3Settings.model_validate({"bucket": "acme", "prefix": "shop", **settings}))


def test_a_writer_gets_its_domain_and_deletes_nothing() -> None:
    assert statements(WRITER) == {
        "List": {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": [BUCKET],
            "Condition": {"StringLike": {"s3:prefix": [f"shop/{OWN}*", "shop/grants/*", "shop/.conditional-put~"]}},
        },
        "Read": {
            "Effect": "Allow",
            "Action": ["s3:GetObject"],
            "Resource": [f"{BUCKET}/shop/{OWN}*", f"{BUCKET}/shop/grants/*", f"{BUCKET}/shop/penstock.json"],
        },
        "Create": {
            "Effect": "Allow",
            "Action": ["s3:PutObject"],
            "Resource": [f"{BUCKET}/shop/{OWN}packs/*", f"{BUCKET}/shop/.conditional-put~"],
        },
    }


def test_locks_need_more_and_are_bounded() -> None:
    locks = {"object_lock": "compliance", "object_lock_days": 30}
    found = statements([*WRITER, Rights("slots/", frozenset({Right.LOCK}))], **locks)
    assert found["Lock"] == {
        "Effect": "Allow",
        "Action": ["s3:GetObjectRetention", "s3:PutObjectRetention"],
        "Resource": [f"{BUCKET}/shop/{OWN}packs/*", f"{BUCKET}/shop/slots/*"],
    }
    assert found["NoLongerLock"] == {
        "Effect": "Deny",
        "Action": ["s3:PutObject", "s3:PutObjectRetention"],
        "Resource": [f"{BUCKET}/shop/*"],
        "Condition": {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "35"}},
    }
    assert "slots" not in json.dumps(found["Read"])
    assert "Bypass" not in json.dumps(found)


def test_who_has_a_whole_bucket_needs_no_conditions() -> None:
    found = statements(EVERYTHING, prefix="")
    assert "Condition" not in found["List"]
    assert "Condition" not in found["ListVersions"]
    assert found["Delete"]["Resource"] == [f"{BUCKET}/*"]


def test_who_deletes_may_free_versions_and_ask_for_locks_and_lift_none() -> None:
    found = statements([*WRITER, Rights("d/", frozenset({Right.DELETE}))])
    assert found["Delete"] == {
        "Effect": "Allow",
        "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold"],
        "Resource": [f"{BUCKET}/shop/d/*"],
    }
    assert found["ListVersions"] == {
        "Effect": "Allow",
        "Action": ["s3:ListBucketVersions"],
        "Resource": [BUCKET],
        "Condition": {"StringLike": {"s3:prefix": ["shop/d/*"]}},
    }
    assert found["AskForVersions"]["Action"] == ["s3:GetBucketVersioning"]
    assert "Bypass" not in json.dumps(found)
    assert "Version" not in json.dumps(statements(WRITER)), "a writer deletes nothing"


def test_the_bucket_policy_denies_replacing_and_nothing_else() -> None:
    (statement,) = json.loads(sink().policy(WRITER)[1].text)["Statement"]
    assert statement == {
        "Sid": "PenstockNeverReplaces",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"{BUCKET}/shop/*",
        "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
    }
    assert [one.text for one in sink().policy(EVERYTHING)][1] == [one.text for one in sink().policy(WRITER)][1]
    assert len(sink(conditional_put="no").policy(WRITER)) == 2, "it would deny every PUT of this sink"


@pytest.mark.parametrize(
    ("region", "arn"),
    [("eu-central-1", "arn:aws:s3"), ("cn-north-1", "arn:aws-cn:s3"), ("us-gov-west-1", "arn:aws-us-gov:s3")],
)
def test_each_partition_has_its_own_names(region: str, arn: str) -> None:
    assert statements(WRITER, region=region)["Read"]["Resource"][0].startswith(arn)


def test_a_prefix_is_no_pattern_and_a_key_is_named() -> None:
    found = statements(WRITER, prefix="a*b", sse="aws:kms", kms_key="1234", region="eu-central-1")
    assert found["Read"]["Resource"][2] == f"{BUCKET}/a${{*}}b/penstock.json"
    assert found["Encrypt"]["Resource"] == ["arn:aws:kms:eu-central-1:ACCOUNT:key/1234"]


@pytest.mark.parametrize("rights", [WRITER, EVERYTHING], ids=["writer", "everything"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "Object lock needs a bucket that allows it"),
        ({"object_lock": "governance", "object_lock_days": 3}, "governance, 3 days"),
        ({"conditional_put": "no"}, "Versioning is then not optional"),
        ({"endpoint": "https://ceph.example.org"}, "This is not Amazon S3"),
    ],
)
def test_the_text_says_what_policies_cannot_do(rights: list[Rights], settings: dict[str, Any], said: str) -> None:
    text = sink(**settings).policy(rights)[-1].text
    assert said in text
    assert "compliance" in text
    assert ("This role deletes" in text) is (rights is EVERYTHING)


def test_nothing_is_asked_of_the_service() -> None:
    assert sink(endpoint="http://127.0.0.1:9", deadline=0.1).policy(WRITER)


def for_principal(policy: PolicyText, user: str) -> list[dict[str, Any]]:
    """The statements as they stand in a bucket policy."""
    principal = {"Principal": {"AWS": [f"arn:aws:iam:::user/{user}"]}}
    return [one | principal for one in json.loads(policy.text)["Statement"]]


def iam(server: S3Server) -> Any:
    """A client that gives policies to users."""
    return boto3.session.Session().client(
        "iam", endpoint_url=server.endpoint, region_name="us-east-1",
        aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
    )  # fmt: skip


class Scene:
    """A repository at a real service, and a user who has what is printed for a writer of its second domain."""

    def __init__(self, server: S3Server, folder: Path, *, locks: bool, how: str) -> None:
        if server.add_user is None:
            pytest.skip("this service from outside makes no users for the tests")
        self.server = server
        self.bucket = server.new_bucket(lock=locks)
        more: dict[str, Any] = {"object_lock": "governance", "object_lock_days": 3} if locks else {}
        self.sink = make(server, self.bucket, prefix="shop", **more)
        self.lab = Lab(folder / "owner", self.sink)
        self.lab.backup({"d": noise(100 * KIB)})
        self.writer = add_writer(self.lab.repository, "host")
        self.at = self.lab.open(self.writer).domain.at
        self.user = f"writer-{self.bucket}"
        server.add_user(self.user, self.user, "its/secret")
        (folder / "secret").write_text("its/secret")
        secret = {"file": str(folder / "secret")}
        self.confined = make(
            server, self.bucket, prefix="shop", access_key_id=self.user, secret_access_key=secret, **more
        )
        self.credential, self.of_bucket, _ = self.confined.policy(rights_of(Role.WRITER, self.at.domain, locks=locks))
        self.attach(how)

    def attach(self, how: str) -> None:
        """Put what is printed in force: to the user, or, where a service has no policies for users, to the bucket."""
        # What a user stored is that user's own at Ceph: the owner of the bucket needs what is printed for the owner.
        owners = self.sink.policy(rights_of(Role.OWNER, locks=self.sink.retention is not None))[0]
        statements = [*json.loads(self.of_bucket.text)["Statement"], *for_principal(owners, "penstock")]
        if how == "to the user":
            with closing(iam(self.server)) as client:
                client.put_user_policy(UserName=self.user, PolicyName="penstock", PolicyDocument=self.credential.text)
        else:
            statements += for_principal(self.credential, self.user)
        of_bucket = {"Version": "2012-10-17", "Statement": statements}
        with closing(self.server.client()) as admin:
            admin.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps(of_bucket))

    def open(self) -> Repository:
        return Repository.open(self.confined, self.writer)

    def close(self) -> None:
        self.confined.close()
        self.sink.close()


@pytest.fixture(params=["to the user", "to the bucket"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.server
@pytest.mark.parametrize("locks", [False, True], ids=["without locks", "with locks"])
def test_a_confined_writer_backs_up_lists_and_checks(s3: S3Server, tmp_path: Path, how: str, locks: bool) -> None:
    with closing(Scene(s3, tmp_path, locks=locks, how=how)) as scene:
        nights = [{"d": noise(200 * KIB) + noise(night * KIB, 1)} for night in range(3)]
        for night in nights[:2]:
            scene.lab.backup(night, by=scene.open(), name="host", cache=tmp_path / "host")
        scene.lab.backup(nights[2], by=scene.open(), name="host", cache=tmp_path / "fresh")
        assert len(list_snapshots(scene.open())) == 3
        assert scene.lab.check(by=scene.open()).findings == ()
        assert scene.lab.restored("latest:host") == nights[2]
        if locks:
            with closing(s3.client()) as admin:
                for key in (*scene.lab.keys(layout.SLOTS), *scene.lab.keys(scene.at.packs)):
                    assert "ObjectLockRetainUntilDate" in admin.head_object(Bucket=scene.bucket, Key=f"shop/{key}")


@pytest.mark.server
def test_a_confined_writer_can_do_nothing_else(s3: S3Server, tmp_path: Path, how: str) -> None:
    with closing(Scene(s3, tmp_path, locks=False, how=how)) as scene:
        scene.lab.backup({"d": noise(KIB)}, by=scene.open(), name="host", cache=tmp_path / "host")
        other, own = scene.lab.at, scene.at
        denied: list[Callable[[], object]] = [
            lambda: list(scene.confined.list()),
            lambda: list(scene.confined.list(layout.DOMAINS)),
            lambda: list(scene.confined.list(layout.SLOTS)),
            lambda: list(scene.confined.list(other.prefix)),
            lambda: scene.confined.get(min(scene.lab.keys(layout.SLOTS))),
            lambda: scene.confined.get(min(scene.lab.keys(other.snapshots))),
            lambda: scene.confined.stat(min(scene.lab.keys(other.packs))),
            lambda: scene.confined.put(other.session_key(bytes(16)), b"x"),
            lambda: scene.confined.put(layout.grant_key(bytes(16)), b"x"),
            lambda: scene.confined.put(layout.slot_key(bytes(16)), b"x"),
            lambda: scene.confined.put(f"{own.tombstones}{'00' * 16}", b"x"),
            lambda: scene.confined.delete(min(scene.lab.keys(own.packs))),
            lambda: scene.confined.delete_many(sorted(scene.lab.keys(own.prefix))[:2]),
        ]
        before = scene.lab.keys()
        for attempt in denied:
            with pytest.raises(SinkDenied):
                attempt()
        assert scene.lab.keys() == before


@pytest.mark.server
def test_what_is_missing_is_not_denied(s3: S3Server, tmp_path: Path, how: str) -> None:
    """Services deny what does not exist to whoever may not list the whole bucket: a listing of the key tells."""
    with closing(Scene(s3, tmp_path, locks=True, how=how)) as scene:
        key = scene.at.pack_key(bytes(16))
        attempts: list[Callable[[], object]] = [
            lambda: scene.confined.get(key),
            lambda: scene.confined.get(key, start=3, length=5),
            lambda: scene.confined.stat(key),
            lambda: scene.confined.retain(key, datetime.now(UTC) + timedelta(days=1)),
        ]
        for attempt in attempts:
            with pytest.raises(ObjectMissing):
                attempt()
        # One that begins with the same letters is there.
        scene.confined.put(key + "0", b"x")
        for attempt in attempts:
            with pytest.raises(ObjectMissing):
                attempt()


@pytest.mark.server
def test_an_unconditional_put_is_denied_where_the_condition_is_known(s3: S3Server, tmp_path: Path) -> None:
    with closing(Scene(s3, tmp_path, locks=False, how="to the user")) as scene:
        scene.confined.put(scene.at.session_key(bytes(16)), b"x", if_absent=True)
        try:
            scene.confined.put(scene.at.session_key(bytes(16)), b"y")
        except SinkDenied:
            return
        pytest.skip(f"{s3.version} does not know the condition key s3:if-none-match, and lets the PUT pass")


@pytest.mark.server
def test_what_is_printed_for_a_maintainer_frees_versions_and_hides_nothing_elsewhere(
    s3: S3Server, tmp_path: Path
) -> None:
    if s3.add_user is None:
        pytest.skip("this service from outside makes no users for the tests")
    bucket = s3.new_bucket(lock=True)
    user = f"maintainer-{bucket}"
    s3.add_user(user, user, "its/secret")
    (tmp_path / "secret").write_text("its/secret")
    secret = {"file": str(tmp_path / "secret")}
    own, other = f"{OWN}packs/a", "grants/a"
    with (
        closing(make(s3, bucket, prefix="shop")) as owner,
        closing(make(s3, bucket, prefix="shop", access_key_id=user, secret_access_key=secret)) as confined,
        closing(s3.client()) as client,
        closing(iam(s3)) as users,
    ):
        printed = confined.policy(rights_of(Role.MAINTAINER))[0].text
        users.put_user_policy(UserName=user, PolicyName="penstock", PolicyDocument=printed)
        for key in (own, own, other, f"{own}b", f"{own}c"):
            owner.put(key, b"x")
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        retention: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
        client.put_object_retention(Bucket=bucket, Key=f"shop/{own}c", Retention=retention)
        with pytest.raises(ObjectLocked) as caught:
            confined.delete_many([own, f"{own}b", f"{own}c"])
        assert caught.value.locked == {f"{own}c": until}
        with pytest.raises(SinkDenied):
            confined.delete(other)
        left = client.list_object_versions(Bucket=bucket)
        assert sorted(one["Key"] for one in left["Versions"]) == [f"shop/{own}c", f"shop/{other}"]
        assert "DeleteMarkers" not in left
