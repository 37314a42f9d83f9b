"""Credentials that are replaced where they are kept: what was made of the former ones is made anew, and only then."""

import threading

import pytest

from penstock.api import SecretUnavailable, SettingsError
from penstock.api.object_store import KeptCredentials


class Place:
    """Where a password is kept; None: an SDK finds its own."""

    def __init__(self, kept: str | None = "first") -> None:
        self.kept = kept
        self.error: Exception | None = None
        self.reads = 0

    def read(self) -> str | None:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.kept


class Client:
    def __init__(self, password: str | None) -> None:
        self.password = password


def of(place: Place) -> "KeptCredentials[str | None, Client]":
    return KeptCredentials(place.read, identity=lambda kept: kept, unreadable=(OSError,))


def test_a_client_is_made_once() -> None:
    place = Place()
    kept = of(place)
    client = kept.use(Client)
    assert client.password == "first"
    assert kept.use(Client) is client
    assert kept.made is client
    assert place.reads == 1
    assert of(place).made is None


def test_the_same_credentials_are_no_others() -> None:
    kept = of(Place())
    client = kept.use(Client)
    assert not kept.renew(kept.generation)
    assert kept.use(Client) is client
    assert kept.generation == 0


def test_replaced_credentials_give_a_new_client_to_all_that_were_refused() -> None:
    place = Place()
    kept = of(place)
    kept.use(Client)
    place.kept = "second"
    assert kept.renew(0)
    assert kept.renew(0)  # another thread, refused with the former ones
    assert kept.generation == 1
    assert kept.use(Client).password == "second"
    assert not kept.renew(1)
    assert place.reads == 4  # not for the thread that others had been faster than


@pytest.mark.parametrize("error", [SecretUnavailable("no such file"), OSError("unreadable")])
def test_what_cannot_be_read_at_the_moment_changes_nothing(error: Exception) -> None:
    place = Place()
    kept = of(place)
    client = kept.use(Client)
    place.error = error
    assert not kept.renew(0)
    assert kept.use(Client) is client


def test_an_unexpected_error_is_hidden_from_nobody() -> None:
    place = Place()
    kept = of(place)
    kept.use(Client)
    place.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        kept.renew(0)


def test_what_an_sdk_renews_by_itself_is_not_read_again() -> None:
    place = Place(None)
    kept = of(place)
    kept.use(Client)
    place.kept = "now there is a file"
    assert not kept.renew(0)
    assert place.reads == 1


def test_what_could_not_be_made_is_made_the_next_time() -> None:
    def refuse(password: str | None) -> Client:
        raise SettingsError("the password cannot be parsed")

    kept = of(Place())
    with pytest.raises(SettingsError):
        kept.use(refuse)
    assert not kept.renew(0)
    assert kept.use(Client).password == "first"


def test_threads_that_come_at_once_share_one_client() -> None:
    kept = of(Place())
    together = threading.Barrier(8)
    clients: list[Client] = []

    def use() -> None:
        together.wait(60)
        clients.append(kept.use(Client))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 8
    assert len({id(client) for client in clients}) == 1
