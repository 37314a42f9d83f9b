"""Checkpoints: the words of a snapshot tell whether a store was set back."""

import hashlib
from datetime import UTC, datetime

import pytest
from core.tests.repository.forging import Hand, put_notice
from core.tests.repository.lab import Lab
from xkcdpass import xkcd_password

from penstock.api import SnapshotNotFound, UsageError
from penstock.engine import find
from penstock.format.notice import Action, Deletion
from penstock.format.times import as_text
from penstock.format.words import word_list
from penstock.repository.checkpoint import checked, phrase_of
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer


def test_the_words_are_those_that_every_checkpoint_was_made_of() -> None:
    words = word_list()
    assert len(set(words)) == len(words) == 7776
    assert list(words) == sorted(words)
    digest = hashlib.sha256(" ".join(words).encode()).hexdigest()
    assert digest == "c523ba7b5e0d3f77cc6cf0d83bed3f250143c0c90c255d6a646dd992f8453675"
    assert xkcd_password.locate_wordfile("eff-long")


def test_a_checkpoint_is_four_words_of_the_digest() -> None:
    assert phrase_of(bytes(32)) == " ".join([word_list()[0]] * 4)
    number = 1 + 7776 * (2 + 7776 * (3 + 7776 * 7775))
    words = word_list()
    assert phrase_of(number.to_bytes(8, "little") + bytes(24)) == f"{words[1]} {words[2]} {words[3]} {words[7775]}"


@pytest.mark.parametrize("text", ["", "abacus", "abacus abacus abacus penstock", "abacus " * 5, "abacus-abacus"])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a checkpoint"):
        checked(text)


def test_a_checkpoint_is_read_as_people_type_it() -> None:
    assert checked("  Abacus   yo-yo T-SHIRT\tabacus ") == "abacus yo-yo t-shirt abacus"


def knows(lab: Lab, phrase: str) -> bool:
    """Both ways to ask."""
    gone = {finding.key for finding in lab.check(checkpoint=phrase).findings if "set back" in finding.problem}
    if gone:
        assert gone == {"d/"}
        with pytest.raises(SnapshotNotFound, match="set back"):
            find(lab.open(), "latest", checkpoint=phrase, warn=lambda _: None)
    else:
        find(lab.open(), "latest", checkpoint=phrase, warn=lambda _: None)
    return not gone


def test_a_store_that_was_set_back_does_not_know_the_checkpoint(lab: Lab) -> None:
    lab.backup({"d": b"first"})
    before = lab.keys()
    result = lab.backup({"d": b"second"})
    phrase = phrase_of(result.digest)
    assert result.to_json()["checkpoint"] == phrase
    assert knows(lab, phrase)
    for key in lab.keys() - before:
        lab.sink.delete(key)
    assert [entry.head.sequence for entry in list_snapshots(lab.open())] == [1]
    assert not knows(lab, phrase)


@pytest.mark.slow
def test_a_snapshot_that_is_gone_is_known_to_the_next_of_its_writer_and_to_others(lab: Lab) -> None:
    first = lab.backup({"d": b"first"})
    second = lab.backup({"d": b"second"})
    lab.sink.delete(lab.at.snapshot_key(first.snapshot))
    assert knows(lab, phrase_of(first.digest))
    lab.backup({"d": b"another's"}, by=lab.open(add_writer(lab.repository, "host", domain="main")))
    lab.sink.delete(lab.at.snapshot_key(second.snapshot))
    assert knows(lab, phrase_of(second.digest))
    assert not knows(lab, phrase_of(first.digest)), "nobody is left who saw it"


def test_a_snapshot_that_was_deleted_on_purpose_is_known(lab: Lab) -> None:
    first = lab.backup({"d": b"first"})
    lab.backup({"d": b"another's"}, by=lab.open(add_writer(lab.repository, "web")))
    record = Deletion(as_text(datetime.now(UTC)), Action.FORGET, {first.snapshot: first.digest})
    put_notice(lab.domain, record, Hand.of(add_maintainer(lab.repository, "operations")))
    lab.sink.delete(lab.at.snapshot_key(first.snapshot))
    assert knows(lab, phrase_of(first.digest))


def test_a_strangers_head_is_nobodys_checkpoint(lab: Lab) -> None:
    lab.backup({"d": b"first"})
    other = Lab(lab.cache)
    result = other.backup({"d": b"a stranger's"})
    copy = lab.at.snapshot_key(result.snapshot)
    lab.sink.put(copy, other.sink.get(other.at.snapshot_key(result.snapshot)))
    assert not knows(lab, phrase_of(result.digest))
