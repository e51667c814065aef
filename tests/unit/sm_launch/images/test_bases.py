"""Which base image a build starts from."""

from __future__ import annotations

import re

import pytest

from sm_launch import images
from sm_launch.errors import LaunchError
from sm_launch.images import bases

DIGEST = f"sha256:{'1' * 64}"
IN_A_REGISTRY = {"Id": "sha256:2", "RepoDigests": [f"debian@{DIGEST}"]}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "containers").mkdir()
    text = f"# a comment\n\ncpu debian:bookworm-slim {DIGEST}\ngpu host/cuda:13\n"
    bases.bases_file(tmp_path).write_text(text)
    monkeypatch.setattr(bases, "inspect", lambda name: {})
    return tmp_path


@pytest.mark.parametrize("local", [{}, IN_A_REGISTRY])
def test_a_recorded_digest_is_taken(checkout, monkeypatch, local):
    monkeypatch.setattr(bases, "inspect", lambda name: local)
    assert bases.base_image(checkout, "cpu") == f"debian:bookworm-slim@{DIGEST}"


def test_what_has_none_is_taken_by_its_name_and_said(checkout, capsys):
    assert bases.base_image(checkout, "gpu") == "host/cuda:13"
    assert "make bases" in capsys.readouterr().err


def test_an_image_made_here_has_no_digest_in_a_registry(checkout, monkeypatch, capsys):
    monkeypatch.setattr(bases, "inspect", lambda name: {"Id": "sha256:2", "RepoDigests": []})
    assert bases.base_image(checkout, "cpu") == "debian:bookworm-slim"
    assert "made on this machine" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["cpu", "cpu debian:12 latest", "cpu debian:12 sha256:12"])
def test_a_line_that_is_none_is_refused(checkout, line):
    bases.bases_file(checkout).write_text(line)
    with pytest.raises(LaunchError, match="purpose name"):
        bases.base_image(checkout, "cpu")


def test_every_purpose_has_a_base_that_is_the_dockerfiles(capsys):
    root = images.repository()
    for image in images.IMAGES:
        text = (root / "containers" / image / "Dockerfile").read_text()
        for purpose, argument in {"gpu": "BASE_IMAGE", "efa": "CUDA_DEVEL_IMAGE"}.items():
            for default in re.findall(rf"^ARG {argument}=(\S+)$", text, re.MULTILINE):
                assert bases.base_image(root, purpose).partition("@")[0] == default
    assert bases.base_image(root, "cpu").startswith("debian:")
