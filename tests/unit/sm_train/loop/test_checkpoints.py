"""Which checkpoint is whole, which is not, and what fits on the disk."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sm_train.contract import Paths
from sm_train.errors import UserError
from sm_train.loop.checkpoints import (
    check_disk,
    discard_damaged,
    discard_unsealed_rows,
    last_complete,
    needed_bytes,
    read_seals,
    remove_partial,
    seal,
    whole_steps,
)
from sm_train.modelling.stored_weights import stored_type, stored_weights

FILES = ("model.safetensors", "optimizer.pt", "trainer_state.json", "complete-0.json")
DAMAGES = ("flip", "cut", "other JSON")


def checkpoint(folder: Path, step: int) -> Path:
    """The files of a checkpoint as the trainer leaves them, with tiny contents."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + b"\0" * 4
    (path / "model.safetensors").write_bytes(weights)
    with zipfile.ZipFile(path / "optimizer.pt", "w") as archive:
        archive.writestr("data", "x" * 100)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def test_the_newest_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    (tmp_path / "notes").mkdir()
    assert last_complete(tmp_path) == tmp_path / "checkpoint-100"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_file_cut_short_makes_a_checkpoint_partial(tmp_path: Path, name: str) -> None:
    good, bad = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20)
    content = (bad / name).read_bytes()
    (bad / name).write_bytes(content[: len(content) // 2])
    assert last_complete(tmp_path) == good
    assert remove_partial(tmp_path) == ["checkpoint-20"]
    assert good.is_dir()
    assert not bad.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json"])
def test_a_missing_file_makes_a_checkpoint_partial(tmp_path: Path, name: str) -> None:
    (checkpoint(tmp_path, 10) / name).unlink()
    assert last_complete(tmp_path) is None


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "rng/state"])
def test_a_seal_tells_what_a_copy_has_left_out(tmp_path: Path, name: str) -> None:
    good, copied = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20)
    (copied / "rng").mkdir()
    (copied / "rng" / "state").write_text("0")
    seal(copied, 0)
    assert last_complete(tmp_path) == copied
    (copied / name).unlink()
    assert last_complete(tmp_path) == good
    assert whole_steps(tmp_path) == [10]


@pytest.mark.parametrize("newer", [0, 1])
def test_the_seals_of_two_hosts_below_one_prefix_agree(tmp_path: Path, newer: int) -> None:
    """Their trainer states are not equally long, and whichever came last is there."""
    merged = checkpoint(tmp_path, 10)
    states = [json.dumps({"is_world_process_zero": first}) for first in (True, False)]
    for process, state in enumerate(states):
        (merged / "trainer_state.json").write_text(state)
        (merged / f"rng_state_{process}.pth").write_bytes((merged / "optimizer.pt").read_bytes())
        seal(merged, process)
    (merged / "trainer_state.json").write_text(states[newer])
    assert last_complete(tmp_path) == merged
    weights = (merged / "model.safetensors").read_bytes()
    (merged / "model.safetensors").write_bytes(weights[:-1])
    assert last_complete(tmp_path) is None
    (merged / "model.safetensors").write_bytes(weights)
    (merged / "rng_state_0.pth").unlink()
    assert last_complete(tmp_path) is None


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), place=st.integers(0, 2**20), how=st.sampled_from(DAMAGES))
def test_any_damage_falls_back_to_the_checkpoint_before(
    name: str, place: int, how: str, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path)
    for step in (10, 20):
        checkpoint(tmp_path, step)
        seal(tmp_path / f"checkpoint-{step}", 0, fingerprint={"model": "m"})
    assert discard_damaged(tmp_path) == []
    path = tmp_path / "checkpoint-20" / name
    content = bytearray(path.read_bytes())
    place %= len(content)
    if how == "flip":
        content[place] ^= 1 << (place % 8)
    else:
        content = content[:place] if how == "cut" else bytearray(b"[]")
    path.write_bytes(content)
    (damaged,) = discard_damaged(tmp_path)
    assert damaged.startswith("checkpoint-20 (")
    assert name in damaged or name == "trainer_state.json"
    assert last_complete(tmp_path) == tmp_path / "checkpoint-10"
    assert read_seals(tmp_path / "checkpoint-10")[0]["fingerprint"] == {"model": "m"}


def test_an_older_checkpoint_that_is_damaged_is_not_kept_as_the_best(tmp_path: Path) -> None:
    for step in (10, 20):
        seal(checkpoint(tmp_path, step), 0)
    weights = tmp_path / "checkpoint-10" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    wrong = "checkpoint-10 (model.safetensors was changed after it was written)"
    assert discard_damaged(tmp_path) == [wrong]
    assert whole_steps(tmp_path) == [20]


def test_beside_sealed_checkpoints_one_without_a_seal_was_cut_short(tmp_path: Path) -> None:
    seal(checkpoint(tmp_path, 10), 0)
    checkpoint(tmp_path, 20)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-10"
    assert discard_damaged(tmp_path) == ["checkpoint-20 (it was not sealed)"]
    assert not (tmp_path / "checkpoint-20").exists()


def test_tokens_of_an_earlier_run_are_kept_only_as_they_were_sealed(tmp_path: Path) -> None:
    rows = tmp_path / "tokenised"
    for change, kept in (("none", True), ("flip", False), ("no seal", False)):
        shutil.rmtree(rows, ignore_errors=True)
        (rows / "a").mkdir(parents=True)
        (rows / "a" / "data.arrow").write_bytes(b"rows")
        if change != "no seal":
            seal(rows, 0)
        (rows / "a" / "cache.arrow").write_bytes(b"written later")
        if change == "flip":
            (rows / "a" / "data.arrow").write_bytes(b"rowS")
        discard_unsealed_rows(rows)
        assert (rows / "a" / "data.arrow").exists() == kept
        assert not (rows / "a" / "cache.arrow").exists()


def test_without_a_seal_weights_alone_are_no_checkpoint(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 10) / "optimizer.pt").unlink()
    assert last_complete(tmp_path) is None


def test_disk_need_is_estimated_and_checked(tmp_path: Path) -> None:
    full = needed_bytes(100, 4, lora=False, checkpoints=2)
    assert full == 400 + 3 * 1200  # weights and two moments, three checkpoints at once
    assert needed_bytes(100, 2, lora=True, checkpoints=2) == 200 + 3 * 12
    assert needed_bytes(100, 2, lora=True, checkpoints=2, merged=False) == 4 + 3 * 12
    assert stored_weights(str(checkpoint(tmp_path, 1)))[0] == 1
    assert stored_weights("owner/name") == (0, 0)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match="is cut short, or is not a safetensors file"):
        stored_weights(str(tmp_path))
    check_disk(Paths(tmp_path), 1)
    with pytest.raises(UserError, match=r"not enough disk: about 1000000\.00 GB"):
        check_disk(Paths(tmp_path), 10**15)


@pytest.mark.parametrize(
    ("tensors", "dtype"),
    [
        ([("BF16", [8, 8]), ("F32", [8])], "bfloat16"),  # norms are often wider
        ([("F32", [8, 8]), ("F16", [8])], "float32"),
        ([("F16", [2])], "float16"),
        ([("U8", [64]), ("F32", [8])], None),  # quantised
        ([], None),
    ],
)
def test_the_type_that_a_base_model_was_stored_in(
    tensors: list[tuple[str, list[int]]], dtype: str | None, tmp_path: Path
) -> None:
    for number, (kind, shape) in enumerate(tensors):
        header = json.dumps(
            {"__metadata__": {}, "w": {"dtype": kind, "shape": shape, "data_offsets": [0, 0]}}
        ).encode()
        whole = len(header).to_bytes(8, "little") + header
        (tmp_path / f"model-{number}.safetensors").write_bytes(whole)
    assert stored_type(str(tmp_path)) == dtype
    assert stored_type("owner/name") is None
