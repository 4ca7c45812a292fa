from __future__ import annotations

import logging
from pathlib import Path

import pytest

from orchestration.files import StoreError, temporary_name, write_atomically
from orchestration.store import KEEP, Failure, Store

STAGE = "ab" * 32


def rows(last: int) -> list[dict[str, float]]:
    return [{"epoch": epoch, "accuracy_test": epoch / 10} for epoch in range(1, last + 1)]


def filled(root: Path) -> Store:
    store, own = Store(root), []
    for epoch in (3, 5, 7):
        store.put(STAGE, rows(epoch), f"state {epoch}".encode())
        own = store.retain(STAGE, [*own, epoch])
    return store


def newest(store: Store) -> tuple[int, bytes] | None:
    for entry in store.entries(STAGE):
        state = store.state(entry)
        if state is not None:
            return entry.epoch, state
    return None


def files(root: Path, kind: str) -> list[Path]:
    return sorted(root.rglob(f"*.{kind}"))


def test_the_newest_entry_comes_back_whole(tmp_path: Path) -> None:
    store = filled(tmp_path)
    entry = store.entry(STAGE, 7)
    assert entry is not None
    assert (entry.first, entry.epoch, list(entry.rows)) == (1, 7, rows(7))
    assert store.state(entry) == b"state 7"
    assert [entry.epoch for entry in store.entries(STAGE)] == store.epochs(STAGE)[::-1] == [7, 5]
    assert [entry.epoch for entry in store.entries(STAGE, 1, 6)] == [5]


def test_an_unknown_stage_is_empty(tmp_path: Path) -> None:
    assert list(Store(tmp_path).entries(STAGE)) == []
    assert Store(tmp_path).entry(STAGE, 3) is None


def test_old_checkpoints_go(tmp_path: Path) -> None:
    filled(tmp_path)
    assert len(files(tmp_path, "state")) == len(files(tmp_path, "json")) == KEEP


@pytest.mark.parametrize("kind", ["state", "json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_entry_is_set_aside_and_named(
    tmp_path: Path, kind: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(tmp_path)
    path = files(tmp_path, kind)[-1]
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert newest(store) == (5, b"state 5")
    if damage != "gone":
        assert files(tmp_path, "damaged")
        assert str(path.with_suffix(".json")) in caplog.text


def test_a_folder_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*00001\.state: Not a directory"):
        Store(tmp_path / "file").put(STAGE, rows(1), b"state")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_content(tmp_path: Path) -> None:
    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("this system has no /dev/full to play a full disk")
    target = tmp_path / "x"
    target.write_bytes(b"old")
    temporary_name(target).symlink_to(path)
    with pytest.raises(StoreError, match="No space left on device"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_failures_are_kept_until_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.failure("abc") is None
    failed = Failure("abc", "ValueError: no", "traceback", epoch=3, stage=STAGE)
    store.fail("abc", failed)
    assert store.failure("abc") == failed
    assert list(store.failures()) == [failed]
    store.forget_failure("abc")
    store.forget_failure("abc")
    assert store.failure("abc") is None


def test_a_failure_that_the_store_cannot_take_is_known_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "failures").write_text("in the way")
    store = Store(tmp_path)
    failed = Failure("abc", "ValueError: no", "traceback")
    store.fail("abc", failed)
    assert store.failure("abc") == failed
    assert Store(tmp_path).failure("abc") is None
    store.forget_failure("abc")
    assert store.failure("abc") is None


def test_a_place_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "segments").symlink_to("segments")
    with pytest.raises(StoreError, match=r"cannot read .*00001\.json: Too many levels of symbolic links"):
        Store(tmp_path).entry(STAGE, 1)
    with pytest.raises(StoreError, match="cannot list"):
        Store(tmp_path).epochs(STAGE)


def test_only_what_no_segment_ends_in_is_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for epoch in (1, 2, 3, 4):
        store.put(STAGE, rows(epoch), f"state {epoch}".encode(), kept=epoch == 1)
    again = store.put(STAGE, [{**row, "seconds": 9} for row in rows(2)], b"state 2", kept=True)
    assert (list(again.rows), again.kept) == (rows(2), True)
    assert store.retain(STAGE, [1, 2, 3, 4, 5]) == [4, 5]
    assert store.epochs(STAGE) == [1, 2, 4]


def test_what_a_segment_of_another_sweep_ends_in_stays_so_when_its_bytes_are_others(tmp_path: Path) -> None:
    """On a GPU no two runs have equal bits: who passes by later takes over the entry, and may not drop it."""
    store = Store(tmp_path)
    first = store.put(STAGE, rows(2), b"one", kept=True)
    assert store.put(STAGE, [{**row, "seconds": 9} for row in rows(2)], b"another") == first
    assert store.state(first) == b"one"
    store.retain(STAGE, [2, 3, 4])
    assert store.epochs(STAGE) == [2]


def test_a_failure_is_that_of_a_stage(tmp_path: Path) -> None:
    """One cell of two sweeps over one store, on other devices or with other data: neither speaks for the other."""
    store = Store(tmp_path)
    store.fail("on a cpu", Failure("abc", "ValueError: no"))
    store.forget_failure("on a gpu")
    assert store.failure("on a gpu") is None
    assert store.failure("on a cpu") is not None
