import pytest
from wandb_peer import Peer

from strive.errors import NoKeyError, ServerError, SilentError
from strive.trackers.server import asked, connect, error_line, host

KEY = "k" * 40


def test_what_the_client_says_is_one_line_without_the_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert error_line(ValueError(f"bad\n  key {KEY}!\nwhile retrying: the same")) == "bad key ***!"
    assert error_line(ValueError()) == "ValueError"
    assert len(error_line(ValueError("x" * 10_000))) < 1_000


def test_the_cause_is_told_rather_than_what_was_made_of_it():
    error = ValueError("something failed")
    error.__cause__ = OSError("the disk is full")
    assert error_line(error) == "the disk is full"


def test_a_name_and_password_in_the_address_are_not_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_BASE_URL", "https://me:secret@wandb.example:8080")
    assert host() == "wandb.example:8080"


def test_a_server_takes_its_key_and_no_other(peer: Peer, client: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    assert connect(host()).default_entity == "me"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(SilentError, match="refuses the key"):
        connect(host())


def test_without_a_key_it_says_how_to_get_one(client: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(NoKeyError, match="wandb login"):
        connect(host())


def test_whatever_the_client_raises_becomes_one_kind_of_error_and_our_own_stay():
    with pytest.raises(SilentError, match="w does not answer as it should: boom"), asked("w"):
        raise RuntimeError("boom")
    with pytest.raises(NoKeyError), asked("w"):
        raise NoKeyError("none")
    assert issubclass(SilentError, ServerError)
