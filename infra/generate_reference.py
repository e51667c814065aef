"""Write docs/reference/ and the JSON schema of job.yaml from the code.

    make reference

Each page is one function here; nothing on it is written by hand.
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sm_launch import errors as launcher_errors
from sm_launch.account import access
from sm_launch.account.policies import Grants
from sm_launch.cli import cli
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameters import all_metrics, methods
from sm_serve import errors as server_errors

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"
SCHEMA = ROOT / "sm_launch" / "job" / "job.schema.json"
_LINE = 400  # characters of one line of the schema
_METHODS = ROOT / "containers" / "train" / "sm_train" / "schemas"
_TYPES = {"string": "text", "object": "mapping", "array": "list"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """A key of job.yaml: its dotted name, its part of the JSON schema, the section it is in."""

    name: str
    schema: Json
    section: str
    required: bool


def render() -> dict[Path, str]:
    """What each generated file must hold."""
    schema = job_schema()
    pages = {
        "job": job_page(schema),
        "commands": commands_page(),
        "hyperparameters": hyperparameters_page(),
        "metrics": metrics_page(),
        "errors": errors_page(),
        "permissions": permissions_page(),
    }
    made = {PAGES / f"{name}.md": page for name, page in pages.items()}
    return made | {SCHEMA: compact(schema) + "\n"}


def compact(value: Any) -> str:
    """JSON with a line for everything that is not itself made of larger parts."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or len(flat) <= _LINE:
        return flat
    parts = (f"{json.dumps(name)}: {compact(part)}" for name, part in value.items())
    return "{\n" + ",\n".join(parts) + "\n}"


def job_schema() -> Json:
    """The JSON schema of job.yaml, as editors read it."""
    schema = JobConfig.model_json_schema()
    for name, entry in schema["properties"].items():
        if "$ref" in entry:  # a section whose keys are all commented out is null
            schema["properties"][name] = {"anyOf": [entry, {"type": "null"}]}
    _add_hyperparameters(schema["$defs"]["Training"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _add_hyperparameters(training: Json) -> None:
    shared, own = _method_tables()
    properties = training["properties"]
    properties["method"]["enum"] = methods()
    properties["hyperparameters"]["properties"] = shared
    training["allOf"] = [
        {
            "if": {
                "properties": {"method": {"const": name}},
                "required": [] if name == properties["method"]["default"] else ["method"],
            },
            "then": {"properties": {"hyperparameters": {"properties": table}}},
        }
        for name, table in own.items()
    ]


def _method_tables() -> tuple[Json, dict[str, Json]]:
    """The hyperparameters that all methods have alike, and the others of each method."""
    tables = {name: _read(_METHODS / f"{name}.json")["properties"] for name in methods()}
    first, *others = tables.values()
    shared = {k: v for k, v in first.items() if all(o.get(k) == v for o in others)}
    own = {
        name: {key: entry for key, entry in table.items() if key not in shared}
        for name, table in tables.items()
    }
    return shared, own


def keys(schema: Json, node: Json, prefix: str = "") -> Iterator[Key]:
    """Every key of a section, and then those of the sections in it."""
    required = node.get("required", ())
    entries = node["properties"].items()
    for name, entry in entries:
        yield Key(f"{prefix}{name}", entry, prefix.rstrip("."), name in required)
    for name, entry in entries:
        for suffix, inner in _sections(schema, entry):
            yield from keys(schema, inner, f"{prefix}{name}{suffix}.")


def _sections(schema: Json, entry: Json) -> Iterator[tuple[str, Json]]:
    """The sections that a key may hold, with what leads to their keys."""
    if "$ref" in entry:
        yield "", schema["$defs"][entry["$ref"].rpartition("/")[2]]
    for option in entry.get("anyOf", ()):
        yield from _sections(schema, option)
    for suffix, inner in (("[]", entry.get("items")), (".NAME", entry.get("additionalProperties"))):
        if isinstance(inner, dict):
            yield from ((f"{suffix}{rest}", each) for rest, each in _sections(schema, inner))


def job_page(schema: Json) -> str:
    """Every key of job.yaml, a table for each section."""
    told = {"": schema}
    rows: dict[str, list[tuple[str, ...]]] = {}
    for key in keys(schema, schema):
        inside = list(_sections(schema, key.schema))
        told |= {f"{key.name}{suffix}": inner for suffix, inner in inside}
        meaning = key.schema.get("description") or " ".join(
            inner.get("description", "") for _, inner in inside
        )
        row = (_code(key.name), _type(key.schema), _default(key), _prose(meaning))
        rows.setdefault(key.section, []).append(row)
    parts = []
    for name, table in rows.items():
        heading = f"{'###' if '.' in name else '##'} {name}" if name else "## The file itself"
        about = told[name].get("description", "") if name else ""
        parts += [heading, *filter(None, [_prose(about)])]
        parts.append(_table(("key", "type", "default", "meaning"), table))
    intro = (
        "Keys by their dotted names, as `--set` takes them. `NAME` stands for a name of yours,\n"
        "`[]` for an entry of a list.\nThe same as a JSON schema: `sm_launch/job/job.schema.json`. "
        "`sm-launch init` names it in the first line of job.yaml,\nso that editors with a YAML "
        "language server complete and check keys."
    )
    return _page("job.yaml", intro, *parts)


def commands_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    parts = []
    for path, command in commands(cli, ("sm-launch",)):
        context = click.Context(command, info_name=" ".join(path))
        usage = " ".join([*path, *command.collect_usage_pieces(context)])
        records = (option.get_help_record(context) for option in command.params)
        rows = [(_code(name), _prose(told)) for name, told in filter(None, records)]
        about = re.sub(r"\x08|\n\s+", " ", command.help or "").strip()
        parts += [f"## {' '.join(path)}", _prose(about), f"```text\n{usage}\n```"]
        parts.append(_table(("option", "meaning"), rows))
    intro = (
        "What `sm-launch COMMAND --help` prints. Exit codes, `--json`: [command line](../cli.md)."
    )
    return _page("Commands", intro, *parts)


def commands(
    group: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the names that call it."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield from commands(command, (*path, name))


def hyperparameters_page() -> str:
    """Those that all methods have once, then each method's own."""
    shared, own = _method_tables()
    parts = ["## Of every method", _hyperparameters(shared)]
    for name, table in own.items():
        parts += [f"## {name}", _hyperparameters(table)]
    intro = (
        "What `training.hyperparameters` takes, by `training.method`: the fields of TRL's and "
        "transformers' configurations by\ntheir own names, with the defaults of this product, and "
        "keys of ours. What the most used ones mean: [training](../training.md#hyperparameters)."
    )
    return _page("Hyperparameters", intro, *parts)


def _hyperparameters(table: Json) -> str:
    rows = (
        (
            _code(name),
            _type(entry),
            _default(Key(name, entry, "", False)),
            _prose(entry.get("description", "")),
        )
        for name, entry in sorted(table.items())
    )
    return _table(("key", "type", "default", "meaning"), rows)


def metrics_page() -> str:
    """The metrics that a training job reports to SageMaker and CloudWatch."""
    rows = []
    for definition in all_metrics():
        printed = definition["Regex"].removeprefix(r"(?:^|\s)").partition("=")[0]
        methods_of = ", ".join(map(_code, definition.get("Methods", ())))
        rows.append((_code(definition["Name"]), _code(printed), methods_of))
    intro = (
        "Training jobs report these to SageMaker and CloudWatch; `sweep.objective` is one of them. "
        "The second column is the regular\nexpression of the name in the log line; where the third "
        "names methods, jobs of others do not report the metric. What `evaluate` "
        "measures, and what gates can name: [evaluation](../evaluation.md)."
    )
    return _page("Metrics of training", intro, _table(("metric", "in the log", "methods"), rows))


def errors_page() -> str:
    """What the endpoint answers, and with what the launcher ends."""
    kinds = sorted(_kinds(server_errors.ServeError), key=lambda kind: (kind.status, kind.code))
    seen: dict[tuple[int, str], tuple[str, ...]] = {}
    for kind in kinds:
        row = (str(kind.status), _code(kind.code), _prose(_about(kind)))
        seen.setdefault((kind.status, kind.code), row)
    exits = sorted(_kinds(launcher_errors.LaunchError), key=lambda kind: kind.exit_code)
    rows = ((str(kind.exit_code), _code(kind.__name__), _prose(_about(kind))) for kind in exits)
    return _page(
        "Errors",
        'The body of an endpoint\'s error is `{"error": {"code", "message", "type"}}`. The message '
        "names the field, the value and the fix.",
        "## Of the endpoint",
        _table(("status", "code", "meaning"), seen.values()),
        "A failure of your script is 500 `inference_error`, a method that a route does not take is "
        "405 `method_not_allowed`.\nIn place of the codes above an error may have a narrower one:",
        _table(("status", "code"), _narrower_codes(set(seen))),
        "## Of the launcher",
        "Each has a `field`, a `value` and a `fix` where there are such. With `--json` they are "
        "the last line of standard error: [command line](../cli.md#output).",
        _table(("exit code", "Python", "meaning"), rows),
    )


def _kinds(base: Any) -> Iterator[Any]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__ == base.__module__:
            yield from _kinds(kind)


def _narrower_codes(told: set[tuple[int, str]]) -> list[tuple[str, str]]:
    """Each `code=` that the server gives an error, with the status of the error's class."""
    kinds = {kind.__name__: kind for kind in _kinds(server_errors.ServeError)}
    del kinds["ServeError"]  # whose status is set by whoever raises it
    codes = set()
    for path in (ROOT / "containers" / "serve" / "sm_serve").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        constants = vars(server_errors) | dict(re.findall(r'^([A-Z_]+) = "(\w+)"$', text, re.M))
        calls = ast.walk(ast.parse(text)) if "code=" in text else ()
        for call in (node for node in calls if isinstance(node, ast.Call)):
            for value in (each.value for each in call.keywords if each.arg == "code"):
                kind = kinds.get(ast.unparse(call.func))
                named = constants.get(value.id) if isinstance(value, ast.Name) else None
                code = value.value if isinstance(value, ast.Constant) else named
                if kind and code:
                    codes.add((kind.status, str(code)))
    return [(str(status), _code(code)) for status, code in sorted(codes - told)]


def _about(kind: Any) -> str:
    return str(kind.__doc__).strip().partition("\n\n")[0]


def permissions_page() -> str:
    """What the roles of `sm-launch setup` may do."""
    key = "arn:KEY"
    plain = _roles(access.template("BUCKET", Grants("PREFIX")))
    kms = _roles(access.template("BUCKET", Grants("PREFIX", kms_key=key)))
    vpc = _roles(access.template("BUCKET", Grants("PREFIX", vpc="vpc-ID")))
    read = _roles(access.template("BUCKET", Grants("PREFIX", read=("s3://OTHER/FOLDER",))))
    parts = []
    for name, statements in plain.items():
        parts += [f"## {name}", _statements(statements)]
    write = _roles(access.template("BUCKET", Grants("PREFIX", write=("s3://OTHER/FOLDER",))))
    added = {"--kms-key": kms, "--vpc": vpc, "--read": read, "--write": write}
    for option, roles in added.items():
        name, statements = next(iter(roles.items()))
        more = [each for each in statements if each not in plain[name]]
        parts += [f"## Both container roles, with {option}", _statements(more)]
    intro = (
        "The roles that `sm-launch setup` makes; `sm-launch setup --print` shows the "
        "template, `infra/access.yaml`\nis the same for your own pipeline. BUCKET and PREFIX are "
        "`aws.bucket` and `aws.prefix`."
    )
    return _page("Permissions", intro, *parts)


def _roles(template: Json) -> dict[str, list[Json]]:
    return {
        name: resource["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    }


def _named(resource: Any) -> str:
    """A resource as it stands in the template: text, or the role of a logical name."""
    if isinstance(resource, str):
        return resource
    return str(resource.get("Fn::Sub") or resource["Fn::GetAtt"][0])


def _statements(statements: list[Json]) -> str:
    rows = []
    for statement in statements:
        resources = statement["Resource"]
        named = resources if isinstance(resources, list) else [resources]
        on = (_named(each) for each in named)
        conditions = statement.get("Condition", {})
        where = (f"{k}: {json.dumps(v)}" for test in conditions.values() for k, v in test.items())
        rows.append(
            (
                ", ".join(map(_code, statement["Action"])),
                ", ".join(map(_code, on)),
                ", ".join(map(_code, where)),
            )
        )
    return _table(("actions", "on", "where"), rows)


def _type(entry: Json) -> str:
    """What a value may be, in words."""
    if "$ref" in entry:
        return "section"
    if "anyOf" in entry:
        kinds = [_type(option) for option in entry["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in entry:
        return ", ".join(_code(_shown(value)) for value in entry["enum"] if value is not None)
    if "const" in entry:
        return _code(_shown(entry["const"]))
    named = entry.get("type", "any")
    kinds = [kind for kind in ([named] if isinstance(named, str) else named) if kind != "null"]
    inner = entry.get("items") or entry.get("additionalProperties")
    of = f" of {_type(inner)}" if isinstance(inner, dict) and inner else ""
    return " or ".join(_TYPES.get(kind, kind) for kind in kinds) + of + _bounds(entry)


def _bounds(entry: Json) -> str:
    marks = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    told = [f"{mark} {entry[name]:,}" for name, mark in marks.items() if name in entry]
    return f", {' and '.join(told)}" if told else ""


def _default(key: Key) -> str:
    if key.required:
        return "required"
    value = key.schema.get("default")
    if value is None or value in ({}, []) or "$ref" in key.schema:
        return ""
    return _code(_shown(value))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _page(title: str, intro: str, *parts: str) -> str:
    made = "<!-- Made by infra/generate_reference.py from the code; run `make reference`. -->"
    return "\n\n".join([f"# {title}", made, intro, *filter(None, parts)]) + "\n"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;")


def _code(text: str) -> str:
    if "|" in text:  # which would end a table's cell; readers differ in how it is escaped in `code`
        return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"
    return f"`{text}`" if text else ""


def _prose(text: str) -> str:
    """Text that Markdown must not take for HTML; what stands in backticks stays as it is."""
    parts = text.replace("%%", "%").split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for path, text in render().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
