"""What is refused before docker is asked, and what a lock says."""

from __future__ import annotations

import subprocess

import pytest

from sm_launch import images
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.images import building, choosing, pushing


@pytest.fixture
def checkout(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "file").write_text("changed")
    return tmp_path


@pytest.mark.parametrize("tag", ["latest", "", "with space", "-dash"])
def test_a_tag_must_say_which_code(tag):
    with pytest.raises(UserInputError, match="tag"):
        images.checked_tag(tag)


def test_a_dirty_tree_is_not_pushed(checkout):
    with pytest.raises(UserInputError, match="allow-dirty"):
        images.push("cpu", "v1", registry="127.0.0.1:5000", root=checkout)


def test_an_unbuilt_image_is_not_pushed(checkout, monkeypatch):
    monkeypatch.setattr(pushing, "inspect", lambda uri: {})
    with pytest.raises(UserInputError, match="make build FLAVOR=cpu TAG=v1"):
        images.push("cpu", "v1", registry="127.0.0.1:5000", root=checkout, allow_dirty=True)


@pytest.mark.parametrize("image", images.IMAGES)
@pytest.mark.parametrize("flavor", images.FLAVORS)
def test_the_locks_pin_the_stack(image, flavor):
    versions = images.locked_versions(images.repository(), image, flavor)
    assert versions["torch"].startswith("2.13.0")
    # vLLM 0.32 takes no newer transformers.
    assert versions["transformers"] == ("5.19.0" if "vllm" in versions else "5.23.0")


@pytest.mark.parametrize("option", ["efa", "vllm"])
def test_what_needs_a_gpu_is_not_built_for_cpus(option):
    with pytest.raises(UserInputError, match="--flavor gpu"):
        images.build("cpu", "v1", **{option: True})


def test_vllm_is_in_the_gpu_flavour_and_can_be_left_out():
    root = images.repository()
    full, small = (images.locked_versions(root, "serve", "gpu", lock)
                   for lock in ("gpu", "gpu-no-vllm"))  # fmt: skip
    assert "vllm" in full
    assert "vllm" not in small
    assert full["torch"] == small["torch"]


@pytest.mark.parametrize(
    ("origin", "label"),
    [
        ("https://user:token@example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://ghp_abc@example.org/a/b", "https://example.org/a/b"),
        ("ssh://git@example.org/a/b", "ssh://example.org/a/b"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("", "unknown"),
    ],
)
def test_no_label_holds_the_token_of_a_clone(checkout, origin, label):
    if origin:
        subprocess.run(["git", "-C", str(checkout), "remote", "add", "origin", origin], check=True)
    assert building.source_url(checkout) == label


def test_an_image_of_another_platform_is_not_pushed(checkout, monkeypatch):
    arm = {"Os": "linux", "Architecture": "arm64", "Id": "sha256:1"}
    monkeypatch.setattr(pushing, "inspect", lambda uri: arm)
    monkeypatch.setattr(pushing.manifest, "remote", lambda uri: None)
    with pytest.raises(LaunchError, match=r"(?s)linux/arm64.*make build"):
        images.push("cpu", "v1", registry="127.0.0.1:5000", root=checkout, allow_dirty=True)


def test_an_image_of_this_commit_is_chosen_before_newer_ones(monkeypatch):
    monkeypatch.setattr(choosing, "docker", lambda *a: "new-cpu\nabc-cpu\nabc-gpu\n<none>")
    monkeypatch.setattr(choosing, "_commit", lambda: "abc")
    monkeypatch.setattr(choosing, "_has_gpu", lambda: False)
    assert choosing.built_image("train") == "sm-train:abc-cpu"
    monkeypatch.setattr(choosing, "_commit", lambda: None)
    assert choosing.built_image("train") == "sm-train:new-cpu"
    monkeypatch.setattr(choosing, "_has_gpu", lambda: True)
    assert choosing.built_image("train") == "sm-train:abc-gpu"
    monkeypatch.setattr(choosing, "docker", lambda *a: "")
    assert choosing.built_image("serve") is None
