"""Files that are whole or absent."""

from pathlib import Path

import pytest

from raypt import storage


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    target = str(tmp_path / "a" / "x.bin")
    with pytest.raises(RuntimeError), storage.atomic_write(target) as f:
        f.write(b"half")
        raise RuntimeError
    assert not storage.exists(target)
    assert list((tmp_path / "a").iterdir()) == []


def test_an_interrupted_rewrite_keeps_the_old_file(tmp_path: Path) -> None:
    target = str(tmp_path / "x.bin")
    storage.write_bytes(target, b"old")
    with pytest.raises(RuntimeError), storage.atomic_write(target) as f:
        f.write(b"new")
        raise RuntimeError
    assert storage.read_bytes(target) == b"old"


def test_other_schemes_go_through_fsspec() -> None:
    storage.write_json("memory://bucket/run/x.json", {"文": 1})
    assert storage.read_json("memory://bucket/run/x.json") == {"文": 1}
    assert storage.listdir("memory://bucket/run") == ["x.json"]


def test_absolute_keeps_uris_and_anchors_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("s3://bucket/x") == "s3://bucket/x"
    assert storage.absolute("runs/x") == str(tmp_path / "runs/x")


@pytest.mark.parametrize("root", ["memory://some-files", None], ids=["memory", "disk"])
def test_some_files_of_a_directory_are_removed_and_none_need_be_there(root: str | None, tmp_path: Path) -> None:
    directory = root or str(tmp_path)
    for name in ("a", "b", "c"):
        storage.write_bytes(storage.join(directory, name), b"x")
    storage.remove_files(directory, ["a", "c", "none"])
    assert storage.listdir(directory) == ["b"]
