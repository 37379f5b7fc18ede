"""A storage that fails: tried again with waits, and one error that names the file; never an absence, never a bucket."""

import time
from collections.abc import Callable, Iterator

import pytest

from raypt import retries, storage
from raypt.retries import StorageDenied, StorageError
from tests.faulty import Fault, Faults, faulty
from tests.s3 import S3Server, forget_clients, s3_server

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is that it is tried again, and how often; not the length of the waits."""
    monkeypatch.setattr(retries, "WAITS_S", (0.01, 0.02, 0.03))
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.parametrize("kind", ["slow down", "internal", "reset", "cut"])
def test_what_fails_once_in_a_while_is_read_and_written_whole(s3: S3Server, kind: Fault) -> None:
    data = bytes(range(256)) * 40
    with faulty(s3, Faults(kind, share=0.25, seed=1)) as faults:
        for i in range(12):
            storage.write_bytes(s3.uri(kind[:4], f"{i}.bin"), data[i:])
        assert storage.list_sizes(s3.uri(kind[:4])) == {f"{i}.bin": len(data) - i for i in range(12)}
        for i in range(12):
            assert storage.read_bytes(s3.uri(kind[:4], f"{i}.bin")) == data[i:]
            assert storage.read_range(s3.uri(kind[:4], f"{i}.bin"), 5, 1000) == data[i + 5 : i + 1005]
    assert faults.done["faults"] >= 3


def test_errors_that_outlast_the_clients_own_attempts_are_tried_again_with_a_word(
    s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    storage.write_bytes(s3.uri("w", "a.bin"), b"abc")
    with faulty(s3, Faults("internal", count=2)) as faults:
        assert storage.read_bytes(s3.uri("w", "a.bin")) == b"abc"
    assert faults.done["faults"] == 2
    assert caplog.text.count("trying again") == 2
    assert s3.uri("w", "a.bin") in caplog.text


@pytest.mark.parametrize("kind", ["slow down", "internal", "reset"])
def test_a_storage_that_does_nothing_else_is_given_up_with_one_error_that_names_file_and_reason(
    s3: S3Server, kind: Fault
) -> None:
    said = {
        "slow down": "reduce your request rate|Service Unavailable",  # a HEAD's answer has no words of its own
        "internal": "(?i)internal (server )?error",
        "reset": "onnect",
    }[kind]
    with faulty(s3, Faults(kind, share=1.0)) as faults:
        for attempt in (storage.exists, storage.read_bytes, storage.listdir):
            with pytest.raises(StorageError, match=said) as caught:
                attempt(s3.uri("x", "a.bin"))
            assert str(caught.value).startswith(s3.uri("x", "a.bin"))
    assert faults.done["requests"] >= 3 * 4


def test_a_storage_that_is_not_there_is_no_absence(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    forget_clients()
    with pytest.raises(StorageError, match="onnect"):
        storage.exists(s3.uri("x"))
    monkeypatch.undo()
    forget_clients()


def test_without_credentials_it_is_said_at_once(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    forget_clients()
    begun = time.monotonic()
    with pytest.raises(StorageDenied, match=r"(?i)credentials"):
        storage.write_bytes(s3.uri("x", "a.bin"), b"x")
    assert time.monotonic() - begun < 5
    forget_clients()


@pytest.fixture
def users(s3: S3Server) -> Iterator[dict[str, dict[str, str]]]:
    storage.write_bytes(s3.uri("there", "a.bin"), b"x")
    with s3.checking() as users:
        yield users


WRONG = {
    "an unknown key": ("everything", {"AWS_ACCESS_KEY_ID": "AKIAAAAAAAAAAAAAAAAA"}),  # InvalidAccessKeyId
    "a wrong secret": ("everything", {"AWS_SECRET_ACCESS_KEY": "wrong"}),  # SignatureDoesNotMatch
    "no rights": ("nothing", {}),  # AccessDenied
    "a wrong token": ("session", {"AWS_SESSION_TOKEN": "wrong"}),  # InvalidToken
}
SAYS = {
    "an unknown key": "Access Key Id",
    "a wrong secret": "signature",
    "no rights": "Denied",
    "a wrong token": "token",
}
ACTIONS: dict[str, Callable[[str], object]] = {
    "read": storage.read_bytes,
    "write": lambda uri: storage.write_bytes(uri, b"y"),
    "list": storage.listdir,
    "look": storage.exists,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_credentials_are_told_at_once_and_not_tried_again(
    s3: S3Server, users: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    user, change = WRONG[wrong]
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: pytest.fail("it waits to try again"))
    for key, value in {**users[user], **change}.items():
        monkeypatch.setenv(key, value)
    forget_clients()
    s3.requests()
    for action, ask in ACTIONS.items():
        with pytest.raises(StorageDenied) as caught:
            ask(s3.uri("there", "a.bin"))
        assert str(caught.value).startswith(s3.uri("there", "a.bin"))
        if action in ("read", "write", "list"):  # a HEAD's answer has no words of its own
            assert SAYS[wrong].lower() in str(caught.value).lower()
        # Told 400 by a HEAD, botocore asks once whether the bucket lies in another region.
        assert s3.requests().total() == 1 + (action == "look" and wrong == "a wrong token"), action
    forget_clients()


@pytest.mark.parametrize("user", ["everything", "session"])
def test_right_credentials_are_taken_where_they_are_looked_at(
    s3: S3Server, users: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    for key, value in users[user].items():
        monkeypatch.setenv(key, value)
    forget_clients()
    assert storage.read_bytes(s3.uri("there", "a.bin")) == b"x"
    forget_clients()


def test_the_error_shows_no_password_and_no_token() -> None:
    error = retries.named("https://me:secret@host/a?token=xyz", ValueError("at https://me:secret@host/a?token=xyz"))
    assert "secret" not in str(error)
    assert "xyz" not in str(error)


def test_arrow_reads_and_writes_through_the_same_client(s3: S3Server) -> None:
    filesystem, path = storage.arrow_filesystem(s3.uri("arrow", "x.bin"))
    with filesystem.open_output_stream(path) as f:
        f.write(b"arrow")
    assert storage.read_bytes(s3.uri("arrow", "x.bin")) == b"arrow"
