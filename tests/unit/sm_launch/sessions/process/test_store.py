"""Records are whole or absent, and locked by whoever watches over them."""

import os
import subprocess
import sys

import pytest

from sm_launch.sessions.process.store import MODELS, TRAINING_JOBS, Record, Store, remove_tree


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def create(store, name, kind=TRAINING_JOBS):
    record, lock = store.create(kind, name, {"request": {"a": 1}}, {"Status": "InProgress"})
    return record, lock


def test_a_record_is_found_again(store):
    record, lock = create(store, "job")
    os.close(lock)
    again = store.find(TRAINING_JOBS, "job")
    assert again.path == record.path
    assert again.read("request") == {"request": {"a": 1}}
    assert again.read("state") == {"Status": "InProgress"}
    assert store.find(TRAINING_JOBS, "other") is None
    assert store.find(MODELS, "job") is None


def test_names_are_unique_and_a_loser_leaves_nothing(store):
    _, lock = create(store, "job")
    with pytest.raises(FileExistsError):
        create(store, "job")
    os.close(lock)
    assert [path.name for path in (store.home / TRAINING_JOBS).iterdir()] == ["job"]


def test_the_lock_is_held_until_its_holder_is_gone(store):
    record, lock = create(store, "job")
    assert record.lock() is None
    # A process that inherits the descriptor holds the lock on, as a supervisor does.
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock]
    )
    os.close(lock)
    assert record.lock() is None
    child.kill()
    child.wait()
    child.stdin.close()
    again = record.lock()
    assert again is not None
    os.close(again)


def test_an_update_changes_and_removes_keys(store):
    record, lock = create(store, "job")
    os.close(lock)
    record.update(FailureReason="x", port=1)
    assert record.update(port=None) == {"Status": "InProgress", "FailureReason": "x"}
    assert [path.name for path in record.path.iterdir() if path.name.startswith(".")] == []


def test_records_lists_only_whole_ones(store):
    for name in ("b", "a"):
        os.close(create(store, name)[1])
    (store.home / TRAINING_JOBS / ".new-x").mkdir()
    (store.home / TRAINING_JOBS / "half").mkdir()
    assert [record.name for record in store.records(TRAINING_JOBS)] == ["a", "b"]
    assert store.records(MODELS) == []


def test_removing_takes_read_only_directories_and_spares_linked_ones(store, tmp_path):
    record, lock = create(store, "job")
    os.close(lock)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data").write_text("kept")
    inside = record.path / "model"
    inside.mkdir()
    (inside / "link").symlink_to(outside, target_is_directory=True)
    (inside / "file").write_text("x")
    inside.chmod(0o555)
    record.remove()
    assert list((store.home / TRAINING_JOBS).iterdir()) == []
    assert (outside / "data").read_text() == "kept"


def test_remove_tree_tolerates_a_missing_directory(tmp_path):
    remove_tree(tmp_path / "nothing")


def test_a_stop_is_asked_for_once(tmp_path):
    record = Record(tmp_path)
    assert not record.stop_requested
    record.request_stop()
    record.request_stop()
    assert record.stop_requested
