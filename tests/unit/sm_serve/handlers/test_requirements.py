"""requirements.txt of a script: off, on, with hashes, never in network isolation."""

import hashlib
import subprocess
import sys
import zipfile

import pytest

from sm_serve.config import load_settings
from sm_serve.errors import StartupError
from sm_serve.handlers import requirements

pytestmark = pytest.mark.slow


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with one small wheel, which is all that pip may look at."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "sm_test_word-1.0-py3-none-any.whl"
    info = "sm_test_word-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("sm_test_word.py", "WORD = 'here'\n")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: sm-test-word\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


def ask(tmp_path, line):
    (tmp_path / "code").mkdir(exist_ok=True)
    (tmp_path / "code" / "requirements.txt").write_text(line + "\n")
    return tmp_path / "code"


def test_what_is_lacking_is_installed_beside_the_image(tmp_path, wheels):
    code = ask(tmp_path, "sm-test-word\npackaging")
    assert requirements.unmet(code) == ["sm-test-word"]
    target = requirements.install(code, hashes=False)
    assert {path.name for path in target.glob("*.py")} == {"sm_test_word.py"}
    completed = subprocess.run(
        [sys.executable, "-c", "import sm_test_word as m; print(m.WORD)"],
        env={"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert completed.stdout == "here\n"


def test_hashes_are_required_where_the_operator_says_so(tmp_path, wheels):
    with pytest.raises(StartupError, match=r"SM_SERVE_INSTALL_REQUIREMENTS.*hash"):
        requirements.install(ask(tmp_path, "sm-test-word==1.0"), hashes=True)
    right = hashlib.sha256(wheels.read_bytes()).hexdigest()
    code = ask(tmp_path, f"sm-test-word==1.0 --hash=sha256:{right}")
    assert requirements.install(code, hashes=True) is not None


def test_it_is_off_by_default_and_refused_in_network_isolation():
    assert load_settings({}).install_requirements == requirements.OFF
    on = {"SM_SERVE_INSTALL_REQUIREMENTS": "hashes"}
    assert load_settings(on).install_requirements == requirements.HASHES
    with pytest.raises(StartupError, match="network isolation"):
        load_settings({**on, "SM_SERVE_NETWORK_ISOLATION": "true"})
    assert "SM_SERVE_INSTALL_REQUIREMENTS" in requirements.advice(["x"])
