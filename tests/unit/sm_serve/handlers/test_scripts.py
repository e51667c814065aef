"""Which script is run, and which are refused before anything is imported."""

import re

import pytest

from sm_serve.errors import StartupError
from sm_serve.handlers.scripts import check_functions, find_script

GOOD = "def model_fn(model_dir):\n    return 1\n"


def lay(root, *names, text=GOOD):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("file", "program", "module"),
    [
        ("code/inference.py", "", "inference"),
        ("code/inference.py", "inference", "inference"),
        ("inference.py", "", "inference"),
        ("code/src/handler.py", "src/handler.py", "handler"),
        ("code/src/handler.py", "src/handler", "handler"),
        ("code/src/handler.py", "src.handler", "src.handler"),
        ("code/src/__init__.py", "src", "src"),
        ("code/serve-me.py", "serve-me.py", "serve-me"),
        ("serve_me.py", "serve_me.py", "serve_me"),
        ("code/inference.py", "code/inference.py", "inference"),
    ],
)
def test_a_script_is_found_wherever_stock_servers_import_from(tmp_path, file, program, module):
    script = find_script(lay(tmp_path, file), program)
    assert (script.path, script.module) == (tmp_path / file, module)
    assert tmp_path / "code" in script.search


def test_code_goes_before_the_root_and_a_submit_directory_before_both(tmp_path):
    lay(tmp_path, "inference.py", "code/inference.py", "else/inference.py")
    assert find_script(tmp_path).path == tmp_path / "code/inference.py"
    elsewhere = str(tmp_path / "else")
    assert find_script(tmp_path, "", elsewhere).path == tmp_path / "else/inference.py"
    assert find_script(tmp_path, "", "s3://b/code.tar.gz").path == tmp_path / "code/inference.py"


def test_a_script_that_would_be_passed_over_is_refused(tmp_path):
    lay(tmp_path, "code/infrence.py")
    with pytest.raises(StartupError, match=r"infrence.py has model_fn.*SAGEMAKER_PROGRAM=infrence"):
        find_script(tmp_path)
    with pytest.raises(StartupError, match=r"'serve.py' is not there.*infrence.py"):
        find_script(tmp_path, "serve.py")
    with pytest.raises(StartupError, match="nothing is downloaded"):
        find_script(tmp_path, "serve.py", "s3://bucket/code.tar.gz")
    lay(tmp_path / "b", "code/train.py", text="import os\n")
    assert find_script(tmp_path / "b") is None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def model_fn(d): ...\ndef predict_func(d, m): ...\n", "did you mean predict_fn"),
        ("def model_fn(d): ...\ndef predictFn(d, m): ...\n", "did you mean predict_fn"),
        ("def model_fn(d): ...\ndef out_fn(d, m): ...\n", "did you mean output_fn"),
        ("def load_model_fn(d): ...\ndef predict_fn(d, m): ...\n", "did you mean model_fn"),
        ("def Transform_fn(m, d, c, a): ...\n", "did you mean transform_fn"),
        ("def handle(data, context):\n    return data\n", "handle is TorchServe's"),
        ("class H:\n    def handle(self, data, context): ...\n", "handle is TorchServe's"),
        ("def load(d): ...\ndef run(d): ...\n", "defines load, run and none of model_fn"),
        ("def model_fn(d) return 1\n", "not valid Python"),
    ],
)
def test_a_script_that_would_do_nothing_is_refused(tmp_path, code, message):
    script = find_script(lay(tmp_path, "code/inference.py", text=code))
    with pytest.raises(StartupError, match=re.escape(message)):
        check_functions(script)


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("from handlers import *\n", ()),
        ("from handlers import model_fn\n", ("model_fn",)),
        ("import torch\ntorch.manual_seed(1)\n", ()),
        ("try:\n    import x\nexcept ImportError:\n    x = None\nmodel_fn = x\n", ("model_fn",)),
        (
            "def predict(m, d): ...\ndef predict_fn(d, m):\n    return predict(m, d)\n",
            ("predict_fn",),
        ),
        ("def _predict(d): ...\ndef model_fn(d): ...\n", ("model_fn",)),
        ("def model_fn(d): ...\ndef predict_fn(d, m): ...\ndef helper(): ...\n",
         ("model_fn", "predict_fn")),
        ("def transform_fn(m, d, c, a): ...\ndef predictor(d): ...\n", ("transform_fn",)),
        ("async def main(): ...\ndef output_fn(p, a): ...\n", ("output_fn",)),
        ("class Net: ...\ndef model_fn(d):\n    return Net()\n", ("model_fn",)),
    ],
)  # fmt: skip
def test_scripts_that_stock_servers_run_are_run(tmp_path, code, given):
    assert check_functions(find_script(lay(tmp_path, "code/inference.py", text=code))) == given
