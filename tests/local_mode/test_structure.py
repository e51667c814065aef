"""What is in the images and what is not, without SageMaker."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
from engine_images import REQUIREMENTS_FIT

from sm_launch import images
from sm_launch.images import engine

# The first test of a run builds the images too.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1500)]

BUDGET_BYTES = {"sm-train": 2_200_000_000, "sm-serve": 1_600_000_000}
BASE = "debian:bookworm-slim"
COMPILERS = "gcc g++ cc c++ clang ld as make cmake nvcc"
SETUID = "find / -xdev -perm /6000 -type f -printf '%p %m\\n' | sort"
WORLD_WRITABLE = (
    "find / -xdev -perm -0002 -not -type l -not -path '/proc/*' -not -path '/dev/*' "
    "-not -path '/tmp*' -print | sort"
)

PACKAGES = "/opt/venv/lib/python3*/site-packages"
DEBIAN = "dpkg-query -W -f '${Package}\\n'"
# A machine that does much else at the same time; a quiet one takes a tenth of it.
START_SECONDS = 60


def pairs(listing: str) -> list[list[str]]:
    """Lines of two words each, as `du` prints them."""
    return [line.split() for line in listing.splitlines()]


def run(image: str, command: str) -> str:
    """Output of a shell command in a container that can reach nothing."""
    shell = ["docker", "run", "--rm", "--network", "none", image, "bash", "-c", command]
    return subprocess.run(shell, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module", params=["sm-train", "sm-serve"])
def image(request, built):
    return built[request.param]


def test_the_image_is_within_its_size_budget(image, capsys):
    """What is large is printed, so that growth is seen before the budget is spent."""
    largest = run(image.uri, f"du -sm {PACKAGES}/* | sort -rn | head -8 | sed 's@/.*/@@'")
    with capsys.disabled():
        print(f"\n{image.uri}: {image.size / 1e9:.2f} of {BUDGET_BYTES[image.name] / 1e9} GB")
        print("  " + ", ".join(f"{name} {size} MB" for size, name in pairs(largest)))
    assert image.size < BUDGET_BYTES[image.name]


def test_beside_the_base_there_is_one_virtual_environment(image):
    listing = (
        "find /opt /usr/local/lib /usr/local/bin /home /srv /root -mindepth 1 -maxdepth 1 | sort"
    )
    beyond = set(run(image.uri, listing).split()) - set(run(BASE, listing).split())
    assert beyond <= {"/opt/venv", "/usr/local/lib/python3.11"}  # Debian's place for local modules
    assert run(image.uri, "find /usr/local/lib/python3.11 -type f") == ""
    packages = set(run(image.uri, DEBIAN).split()) - set(run(BASE, DEBIAN).split())
    assert "python3" in packages
    assert not [name for name in packages if name.endswith("-dev") or name.startswith("gcc")]


def test_the_bill_of_materials_names_what_is_installed(image):
    document = json.loads(image.sbom.read_text())
    assert document["bomFormat"] == "CycloneDX"
    listed = {each["purl"].partition("?")[0] for each in document["components"] if "purl" in each}
    debian = run(image.uri, "dpkg-query -W -f 'pkg:deb/debian/${Package}@${Version}\\n'").split()
    # Characters such as + and : are escaped in package URLs.
    assert {unquote(url) for url in listed} >= set(debian)
    wheels = json.loads(run(image.uri, "python -m pip list --format json"))
    names = {re.sub(r"[-_.]+", "-", each["name"]).lower() for each in wheels}
    packages = {
        each["name"]
        for each in document["components"]
        if each.get("purl", "").startswith("pkg:pypi/")
    }
    assert names <= {re.sub(r"[-_.]+", "-", name).lower() for name in packages}


def test_everything_can_be_imported(image):
    """All modules of ours, and the top-level modules of every installed distribution."""
    script = Path(__file__).with_name("import_all.py").read_text()
    command = ["docker", "run", "--rm", "-i", "--network", "none", image.uri, "python", "-"]
    output = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    answer = json.loads(output.stdout.splitlines()[-1])
    assert answer["failed"] == {}
    assert answer["ours"] > 15
    assert answer["top"] > 60


def test_a_program_that_has_nothing_to_do_starts_at_once(image, capsys):
    """From `docker run` to the first words, without torch: the toolkit's and our own imports."""
    program = image.name.removeprefix("sm-")
    started = time.monotonic()
    command = ["docker", "run", "--rm", "--network", "none", image.uri, program]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    with capsys.disabled():
        print(f"\n{image.uri}: {program} refuses an empty /opt/ml after {seconds:.1f} s")
    assert answer.returncode
    assert re.search(
        "hyperparameters.json: is missing|no model in /opt/ml/model", answer.stdout + answer.stderr
    )
    assert seconds < START_SECONDS


def test_the_program_is_on_the_path_and_dependencies_fit(image):
    program = image.name.removeprefix("sm-")
    assert run(image.uri, f"command -v {program} bash python pip").splitlines()[0].startswith("/")
    said = run(image.uri, "python -m pip check || true").splitlines()
    assert said
    assert all(REQUIREMENTS_FIT.fullmatch(line) for line in said)


def test_versions_are_those_of_the_lock_and_of_the_labels(image):
    listed = json.loads(run(image.uri, "python -m pip list --format json"))
    installed = {re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"] for each in listed}
    assert installed.pop(image.name)
    containers = images.repository() / "containers"
    own = containers / image.name.removeprefix("sm-") / "locks"
    locks = (containers / "torch" / "cpu.txt", own / "sdist.txt", own / "cpu.txt")
    text = "\n".join(lock.read_text() for lock in locks)
    pins = set(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", text, re.MULTILINE))
    assert set(installed.items()) <= pins
    labels = engine.inspect(image.uri)["Config"]["Labels"]
    stack = {key: value for key, value in labels.items() if key.startswith("sm-launch.stack.")}
    assert {"sm-launch.stack.torch", "sm-launch.stack.transformers"} <= set(stack)
    for key, version in stack.items():
        assert installed[key.removeprefix("sm-launch.stack.")] == version


def test_nothing_of_the_build_is_left(image):
    present = run(image.uri, f"for each in {COMPILERS}; do command -v $each; done; true")
    assert present == ""
    assert run(image.uri, "ls -A /root /var/cache/apt/archives /var/lib/apt/lists").split() == (
        run(BASE, "ls -A /root /var/cache/apt/archives /var/lib/apt/lists").split()
    )


def test_no_more_privileges_than_the_base(image):
    assert run(image.uri, SETUID) == run(BASE, SETUID)
    assert set(run(image.uri, WORLD_WRITABLE).split("\n")) <= set(
        run(BASE, WORLD_WRITABLE).split("\n")
    )


def test_modules_come_with_their_bytecode(image):
    package = image.name.replace("-", "_")
    for module in ("torch", "transformers", package):
        where = f"/opt/venv/lib/python3*/site-packages/{module}/__pycache__/__init__.*.pyc"
        assert run(image.uri, f"ls {where}")


def test_an_unknown_command_is_an_error(image):
    command = ["docker", "run", "--rm", image.uri, "trian"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 127
    assert "trian" in answer.stderr


def test_sagemaker_may_choose_the_servers_port(built):
    labels = engine.inspect(built["sm-serve"].uri)["Config"]["Labels"]
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
