"""Bills of materials: what is in an image, with hashes, beside it on disk and in the registry."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.images import manifest
from sm_launch.images.checkout import locked_hashes, normalized
from sm_launch.images.engine import docker, image_id

SBOM_DIRECTORY = Path("build") / "sbom"
"""Where they are put, below the repository."""
MEDIA_TYPE = "application/vnd.cyclonedx+json"
"""CycloneDX's own, registered with IANA."""
TAG_SUFFIX = ".sbom"
_IMAGE_ID = "sm-launch:image-id"
_ORIGIN = "sm-launch:sbom"


def sbom_path(root: Path, image: str, tag: str, flavor: str) -> Path:
    """Where the bill of materials of `sm-<image>:<tag>-<flavor>` is written."""
    return root / SBOM_DIRECTORY / f"sm-{image}-{tag}-{flavor}.cdx.json"


def write_sbom(
    root: Path, image: str, tag: str, flavor: str, lock: str, dockerfile_arguments: Sequence[str]
) -> Path:
    """Have the build scan the image, whose layers are cached, and keep the CycloneDX document.

    Args:
        root: the repository.
        image: `train` or `serve`.
        tag: of the image; part of the file's name.
        flavor: of the image; part of the file's name.
        lock: name of the lock file that it was built from.
        dockerfile_arguments: what the image was built with, so that it is not built anew.
    """
    directory = root / SBOM_DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    docker("buildx", "build", "--target", "sbom", "--output", f"type=local,dest={directory}",
           *dockerfile_arguments, show=True)  # fmt: skip
    scanned, archives = directory / f"sm-{image}.cdx.json", directory / f"sm-{image}.deb.txt"
    document = json.loads(scanned.read_text(encoding="utf-8"))
    add_hashes(document, locked_hashes(root, image, flavor, lock), _archives(archives.read_text()))
    _identify(document, image_id(f"sm-{image}:{tag}-{flavor}"), f"{tag}-{flavor}")
    path = sbom_path(root, image, tag, flavor)
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    scanned.unlink()
    archives.unlink()
    return path


def add_hashes(
    document: dict[str, Any],
    locked: Mapping[tuple[str, str], Sequence[str]],
    debian: Mapping[tuple[str, str], str],
) -> None:
    """Add SHA-256 hashes to a CycloneDX document's packages.

    A Debian package has one archive, the hash of which is the component's. A lock names all files
    that a Python package may be installed from; the installer took one of them, and no other.

    Args:
        document: changed in place.
        locked: by name and version, the hashes of a package's files that the lock allows.
        debian: by name and version, the hash of the package's archive in the signed index.
    """
    for component in document.get("components", []):
        kind = str(component.get("purl", "")).partition("/")[0]
        name, version = str(component["name"]), str(component.get("version", ""))
        if kind == "pkg:deb" and (name, version) in debian:
            component["hashes"] = [_sha256(debian[name, version])]
        elif kind == "pkg:pypi" and (hashes := locked.get((normalized(name), version))):
            component.setdefault("externalReferences", []).append(
                {
                    "type": "distribution",
                    "url": component["purl"],
                    "comment": "the files that the lock allows; one of them was installed",
                    "hashes": [_sha256(each) for each in hashes],
                }
            )


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _archives(listing: str) -> dict[tuple[str, str], str]:
    """`apt-cache show`'s stanzas: name and version to the archive's SHA-256."""
    hashes = {}
    for stanza in listing.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in stanza.splitlines() if ": " in line)
        if "SHA256" in fields:
            hashes[fields["Package"], fields["Version"]] = fields["SHA256"]
    return hashes


def _identify(document: dict[str, Any], identity: str, tag: str) -> None:
    """Say which image it is of; one image has one document, whenever it is written."""
    component = document["metadata"]["component"]
    component["version"] = tag
    document["metadata"]["properties"] = [{"name": _IMAGE_ID, "value": identity}]
    document["metadata"].pop("timestamp", None)
    document.pop("serialNumber", None)
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{_ORIGIN}:{content}')}"


def is_of(path: Path, identity: str) -> bool:
    """Whether a bill of materials was written for the image with this ID."""
    document = json.loads(path.read_text(encoding="utf-8"))
    properties = document.get("metadata", {}).get("properties", [])
    return {"name": _IMAGE_ID, "value": identity} in properties


def push_sbom(path: Path, image: str, subject: manifest.Manifest) -> str:
    """Put a bill of materials beside its image: an OCI artefact that refers to it, under a tag.

    The tag is the image's with `.sbom` behind it, for registries that list no referrers, and
    against rules that delete what has no tag. A tag that is there already is left as it is.

    Args:
        path: the CycloneDX document.
        image: the image in the registry, by its tag.
        subject: the image's manifest.

    Returns:
        `registry/repository@sha256:…` of the artefact.

    Raises:
        LaunchError: the registry refused.
    """
    uri = f"{image}{TAG_SUFFIX}"
    known = manifest.remote(uri)
    if known is None:
        _upload(path, uri, subject)
        known = manifest.remote(uri)
    if known is None:
        raise LaunchError("the registry does not know what was just pushed", value=uri)
    return f"{uri.rpartition(':')[0]}@{known.digest}"


def _upload(path: Path, uri: str, subject: manifest.Manifest) -> None:
    from oras.client import OrasClient
    from oras.oci import Subject

    host = uri.partition("/")[0]
    client = OrasClient(hostname=host, insecure=manifest.is_plain_http(host))
    refers = Subject(subject.media_type, subject.digest, subject.size)
    try:
        client.push(
            target=uri,
            files=[f"{path}:{MEDIA_TYPE}"],
            manifest_config=f"{path}.none:{MEDIA_TYPE}",  # an empty configuration of this type
            subject=refers,
            disable_path_validation=True,
            quiet=True,
        )
    except Exception as error:  # the client's and its HTTP library's have no common base
        raise LaunchError(
            f"the registry took the image and not its bill of materials: {error}",
            value=uri,
            fix="push again: what is there is not sent twice",
        ) from error
