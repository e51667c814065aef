"""What is refused before docker is asked, and what a lock says."""

from __future__ import annotations

import subprocess

import pytest

from sm_launch import images
from sm_launch.errors import UserInputError
from sm_launch.images import pushing


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
    assert versions["transformers"] == "5.23.0"


@pytest.mark.parametrize("option", ["efa", "vllm"])
def test_what_needs_a_gpu_is_not_built_for_cpus(option):
    with pytest.raises(UserInputError, match="--flavor gpu"):
        images.build("cpu", "v1", **{option: True})


def test_the_lock_with_vllm_fits_the_torch_of_the_gpu_flavour():
    root = images.repository()
    versions = images.locked_versions(root, "serve", "gpu", "vllm")
    assert versions["vllm"]
    assert versions["torch"] == images.locked_versions(root, "serve", "gpu")["torch"]
