"""The user's script: where it is, and whether it says what it is to do. Read, not yet imported.

The stock servers pass a script over in silence when its name or its functions are not quite those
that they look for. Here it is run or refused.
"""

from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sm_serve.errors import StartupError

DEFAULT_PROGRAM = "inference.py"
ROLES = ("model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn")
"""Functions that answer requests (sagemaker_inference/transformer.py)."""
FUNCTIONS = (*ROLES, "pre_model_fn", "model_warmup_fn")
CLOSE = 0.75
"""From this likeness of names on, a function that nothing calls is taken for a misspelt one."""
MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class Script:
    """A script, the name to import it by, and where it looks for what it imports."""

    path: Path
    module: str
    search: tuple[Path, ...]


def find_script(
    model_dir: Path, program: str = "", submit_directory: str = "", *, required: bool = True
) -> Script | None:
    """The script of a model directory; None where it brings none.

    `program` is SAGEMAKER_PROGRAM: a file, also in a subfolder, or a module such as `src.handler`.
    It is looked for in `submit_directory` (SAGEMAKER_SUBMIT_DIRECTORY, where that is a directory),
    in code/ and in the model directory itself, all of which the stock servers import from.
    Raises StartupError where it is named, `required` and not there, or where another file looks
    like the script that was meant.
    """
    code = model_dir / "code"
    given = Path(submit_directory)
    own = [given] if submit_directory and given.is_dir() and not _same(given, code) else []
    folders = [*own, code, model_dir]
    for folder in folders:
        script = _look(folder, program or DEFAULT_PROGRAM, folders)
        if script is not None:
            return script
    others = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    if program and required:
        raise StartupError(_missing(program, submit_directory, folders, others))
    for path in others:
        if given_roles := sorted(set(ROLES) & _bound(_parse(path).body)):
            raise StartupError(
                f"{path} has {', '.join(given_roles)}, and would not be run: name it"
                f" {DEFAULT_PROGRAM}, or set SAGEMAKER_PROGRAM={path.name}"
            )
    return None


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _look(folder: Path, program: str, folders: Sequence[Path]) -> Script | None:
    """The program in a folder, as a path or else as a dotted module."""
    path = folder / (program if program.endswith(".py") else f"{program}.py")
    if path.is_file():
        search = (path.parent, *(other for other in folders if not _same(other, path.parent)))
        return Script(path, path.stem, search)
    inside = folder.joinpath(*program.split("."))
    for path in (inside.with_name(f"{inside.name}.py"), inside / "__init__.py"):
        if not program.endswith(".py") and path.is_file():
            search = (folder, *(other for other in folders if not _same(other, folder)))
            return Script(path, program, search)
    return None


def _missing(
    program: str, submit_directory: str, folders: Sequence[Path], others: Sequence[Path]
) -> str:
    listed = ", ".join(str(path) for path in others[:MAX_LISTED]) or "no .py file"
    message = (
        f"SAGEMAKER_PROGRAM={program!r} is not there: looked in"
        f" {', '.join(map(str, folders))}, which have {listed}. Put it into code/, or correct or"
        " unset SAGEMAKER_PROGRAM"
    )
    if "://" in submit_directory:
        message += (
            f"; nothing is downloaded from SAGEMAKER_SUBMIT_DIRECTORY={submit_directory!r} at start"
        )
    return message


def check_functions(script: Script) -> tuple[str, ...]:
    """The functions that a script gives, in the order of FUNCTIONS.

    Raises StartupError where it is no Python, where a function looks misspelt, or where it defines
    things of its own and none of those that are called.
    """
    tree = _parse(script.path)
    bound = _bound(tree.body)
    given = tuple(name for name in FUNCTIONS if name in bound)
    if "*" in bound:  # what another module brings is not known before it is imported
        return given
    spare = list(_uncalled(tree))
    for name in spare:
        likely = difflib.get_close_matches(_fold(name), _lacking(given), n=1, cutoff=CLOSE)
        if likely:
            raise StartupError(
                f"{script.path} defines {name}, which nothing calls: did you mean"
                f" {_lacking(given)[likely[0]]}? Rename it, or begin its name with _"
            )
    if not set(given) & set(ROLES) and spare:
        hint = (
            " (handle is TorchServe's)" if "handle" in bound or "handle" in _methods(tree) else ""
        )
        raise StartupError(
            f"{script.path} defines {', '.join(spare[:MAX_LISTED])}{hint} and none of"
            f" {', '.join(ROLES)}, which are what is called: write those"
        )
    return given


def _lacking(given: Sequence[str]) -> dict[str, str]:
    """Functions that the script might have meant to give, by their folded names."""
    if "transform_fn" in given:
        possible: Sequence[str] = ("model_fn",)
    else:
        possible = [n for n in ROLES if n != "transform_fn" or not set(given) & set(ROLES[1:4])]
    return {_fold(name): name for name in possible if name not in given}


def _fold(name: str) -> str:
    return name.lower().replace("_", "")


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise StartupError(
            f"{path} is not valid Python: {error.msg}, line {error.lineno}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise StartupError(f"{path} cannot be read: {error}") from error


def _bound(body: Sequence[ast.stmt]) -> set[str]:
    """Names that a module's own statements bind, also those under `if` and `try`."""
    names: set[str] = set()
    for statement in _statements(body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        else:
            names |= {
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
    return names


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body)


def _uncalled(tree: ast.Module) -> Iterator[str]:
    """Public functions and classes that nothing in the module refers to."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for statement in _statements(tree.body):
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        known = {*used, *FUNCTIONS, "main"}
        public = not statement.name.startswith("_") and not statement.decorator_list
        if public and statement.name not in known:
            yield statement.name


def _methods(tree: ast.Module) -> set[str]:
    return {
        inner.name
        for statement in tree.body
        if isinstance(statement, ast.ClassDef)
        for inner in statement.body
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def not_run(model_dir: Path) -> list[str]:
    """Python files that a served model brings along and nothing runs, for the log."""
    handler = model_dir / "handler.py"  # of Hugging Face's own Inference Endpoints
    files = [*sorted((model_dir / "code").glob("*.py")), *([handler] if handler.is_file() else [])]
    return [str(path) for path in files]


def describe_roles(given: Sequence[str]) -> str:
    """Which functions are the script's, for the log."""
    ours = [name for name in ROLES[:4] if name not in given and "transform_fn" not in given]
    return f"{', '.join(given) or 'no function'} of the script, {', '.join(ours) or 'none'} of ours"


def unheeded_folder(environ: Mapping[str, str], code_dir: Path) -> bool:
    """Whether SAGEMAKER_SUBMIT_DIRECTORY is no directory here, and so changes nothing."""
    folder = environ.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    usual = (str(code_dir), "/opt/ml/model/code", "file:///opt/ml/model/code")  # the SDK's own
    return bool(folder) and folder not in usual and not Path(folder).is_dir()
