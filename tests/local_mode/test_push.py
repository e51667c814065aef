"""What `push` sends: one Docker V2 manifest, once, whichever store the engine keeps images in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest
from engine_images import forget

from sm_launch import images
from sm_launch.errors import LaunchError
from sm_launch.images import building, manifest, sbom

pytestmark = [pytest.mark.docker, pytest.mark.slow]

REGISTRY = "127.0.0.1:5000"
KINDS = (manifest.DOCKER_V2, "application/vnd.oci.image.index.v1+json",
         "application/vnd.oci.image.manifest.v1+json")  # fmt: skip
SCRATCH = "FROM scratch AS sbom\nCOPY {image}/sbom/ /\nFROM scratch AS final\nCOPY {image}/file /\n"
TORCH, BASH = "1" * 64, "2" * 64
SCANNED = {
    "bomFormat": "CycloneDX",
    "serialNumber": "urn:uuid:00000000-0000-4000-8000-000000000000",
    "metadata": {"timestamp": "2026-01-01T00:00:00Z", "component": {"name": "an image"}},
    "components": [
        {"name": "torch", "version": "1", "purl": "pkg:pypi/torch@1"},
        {"name": "bash", "version": "5.2-2+b7", "purl": "pkg:deb/debian/bash@5.2-2%2Bb7"},
    ],
}


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A committed tree with two images of one small file each, in place of gigabytes."""
    for image in images.IMAGES:
        folder = tmp_path / "containers" / image
        (folder / "locks").mkdir(parents=True)
        (folder.parent / "torch").mkdir(exist_ok=True)
        for lock in (folder / "locks" / "sdist.txt", folder / "locks" / "cpu.txt",
                     folder.parent / "torch" / "cpu.txt"):  # fmt: skip
            lock.write_text(f"torch==1 \\\n    --hash=sha256:{TORCH}\n")
        (folder / "sbom").mkdir()
        (folder / "sbom" / f"sm-{image}.cdx.json").write_text(json.dumps(SCANNED))
        (folder / "sbom" / f"sm-{image}.deb.txt").write_text(
            f"Package: bash\nVersion: 5.2-2+b7\nSHA256: {BASH}\n\n"
        )
        (folder / "file").write_text(uuid.uuid4().hex)
        (folder / "Dockerfile").write_text(SCRATCH.format(image=image))
    monkeypatch.setattr(building, "_fill_wheelhouse", lambda root: True)
    (tmp_path / "containers" / "bases.txt").write_text("cpu debian:bookworm-slim\n")
    (tmp_path / ".gitignore").write_text("build\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "remote", "add", "origin", "https://user:secret-token@example.org/team/repo.git")
    return tmp_path


@pytest.fixture(params=["overlay2", "containerd"])
def engine(request, monkeypatch):
    """Docker's two image stores; .ci/containerd-engine starts an engine with the newer one."""
    if request.param == "containerd":
        host = os.environ.get("CONTAINERD_DOCKER_HOST")
        if not host:
            pytest.skip("CONTAINERD_DOCKER_HOST names no engine (.ci/containerd-engine starts one)")
        monkeypatch.setenv("DOCKER_HOST", host)
    try:
        httpx.get(f"http://{REGISTRY}/v2/")
    except httpx.HTTPError:
        pytest.skip(f"no registry on {REGISTRY}")
    return request.param


@pytest.fixture
def tag():
    """One that no other test has; the engine forgets what was built under it."""
    made = f"t{uuid.uuid4().hex[:8]}"
    yield made
    forget(f":{made}")


def in_registry(name: str, tag: str) -> httpx.Response:
    return httpx.get(f"http://{REGISTRY}/v2/{name}/manifests/{tag}",
                     headers={"Accept": ", ".join(KINDS)})  # fmt: skip


def test_the_registry_holds_what_sagemaker_takes(checkout, engine, tag):
    images.build("cpu", tag, root=checkout)
    first = images.push("cpu", tag, registry=REGISTRY, root=checkout)
    for image in first:
        answer = in_registry(image.name, f"{tag}-cpu")
        assert answer.headers["Content-Type"] == manifest.DOCKER_V2
        assert image.digest == (
            f"{REGISTRY}/{image.name}@{answer.headers['Docker-Content-Digest']}"
        )
    # An interrupted push is taken up where it ended, and the same commit built again is the same.
    images.build("cpu", tag, root=checkout)
    assert images.push("cpu", tag, registry=REGISTRY, root=checkout) == first
    for image in first:
        check_materials(image, tag)


def check_materials(image, tag: str) -> None:
    """The bill of materials lies beside the image, refers to it, and holds hashes."""
    answer = in_registry(image.name, f"{tag}-cpu.sbom")
    artefact = answer.json()
    assert answer.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    assert image.sbom_digest.endswith(answer.headers["Docker-Content-Digest"])
    assert artefact["subject"]["digest"] == image.digest.partition("@")[2]
    assert artefact["subject"]["mediaType"] == manifest.DOCKER_V2
    assert artefact["config"]["mediaType"] == sbom.MEDIA_TYPE
    (layer,) = artefact["layers"]
    assert layer["mediaType"] == sbom.MEDIA_TYPE
    document = httpx.get(f"http://{REGISTRY}/v2/{image.name}/blobs/{layer['digest']}").json()
    torch, bash = document["components"]
    assert torch["externalReferences"][0]["hashes"][0]["content"] == TORCH
    assert bash["hashes"] == [{"alg": "SHA-256", "content": BASH}]
    listed = images.list_images(registry=REGISTRY)
    assert not [each for each in listed if each["tag"].endswith(".sbom")]


def test_the_bill_of_materials_of_another_build_stays_here(checkout, engine, capfd, tag):
    images.build("cpu", tag, root=checkout, images=("train",))
    (checkout / "containers" / "train" / "file").write_text("changed")
    images.build("cpu", tag, root=checkout, sbom=False, images=("train",))
    (pushed,) = images.push("cpu", tag, registry=REGISTRY, root=checkout, allow_dirty=True,
                            images=("train",))  # fmt: skip
    assert pushed.sbom_digest is None
    assert "is of another build" in capfd.readouterr().err
    assert in_registry("sm-train", f"{tag}-cpu.sbom").status_code == httpx.codes.NOT_FOUND


def test_another_image_takes_nobodys_tag(checkout, engine, tag):
    images.build("cpu", tag, root=checkout, sbom=False, images=("train",))
    (first,) = images.push("cpu", tag, registry=REGISTRY, root=checkout, images=("train",))
    (checkout / "containers" / "train" / "file").write_text("changed")
    images.build("cpu", tag, root=checkout, sbom=False, images=("train",))
    with pytest.raises(LaunchError, match=r"(?s)another image under this tag.*TAG="):
        images.push("cpu", tag, registry=REGISTRY, root=checkout, allow_dirty=True,
                    images=("train",))  # fmt: skip
    digest = in_registry("sm-train", f"{tag}-cpu").headers["Docker-Content-Digest"]
    assert first.digest.endswith(digest)


def test_an_image_with_attestations_is_refused(checkout, engine, tag):
    """As `docker buildx build` makes it by itself where the engine can."""
    if engine == "overlay2":
        pytest.skip("that store holds no index")
    subprocess.run(
        ["docker", "buildx", "build", "-q", "--provenance=mode=min", "--tag",
         f"sm-train:{tag}-cpu", "--file", str(checkout / "containers/train/Dockerfile"),
         str(checkout / "containers")],
        check=True, env={**os.environ},
    )  # fmt: skip
    with pytest.raises(LaunchError, match=r"(?s)oci\.image\.index.*make build"):
        images.push("cpu", tag, registry=REGISTRY, root=checkout, images=("train",))


def test_labels_are_the_commits_and_hold_no_token(checkout, tag):
    (image,) = images.build("cpu", tag, root=checkout, sbom=False, images=("train",))
    inspected = subprocess.run(["docker", "image", "inspect", image.uri], capture_output=True,
                               text=True, check=True)  # fmt: skip
    labels = json.loads(inspected.stdout)[0]["Config"]["Labels"]
    assert labels["org.opencontainers.image.source"] == "https://example.org/team/repo.git"
    when = subprocess.run(["git", "-C", str(checkout), "log", "-1", "--format=%cI"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    moment = labels["org.opencontainers.image.created"]
    assert moment[:19] == when.stdout[:19]
    assert "secret-token" not in inspected.stdout


@pytest.mark.parametrize("platform", ["linux/arm64", "linux/arm64/v8", "windows/amd64"])
def test_a_platform_without_locks_is_refused(checkout, platform):
    with pytest.raises(LaunchError, match=f"(?s)no lock files.*{platform}"):
        images.build("cpu", "t1", root=checkout, platform=platform)


def test_what_two_builds_do_not_share_is_named(checkout, tag):
    def made(tag: str) -> str:
        (image,) = images.build("cpu", tag, root=checkout, sbom=False, images=("train",))
        return image.uri

    def differences(*pair: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, images.repository() / "containers" / "differences"]
        return subprocess.run([*program, *pair], capture_output=True, text=True, check=False)

    file = checkout / "containers" / "train" / "file"
    first, again = made(tag), made(f"{tag}b")
    assert "1 of 1 layers are equal" in differences(first, again).stdout
    file.write_text("changed")
    answer = differences(first, made(f"{tag}c"))
    assert answer.returncode == 1
    assert "file: content" in answer.stdout
    assert "0 of 1 layers are equal" in answer.stdout
