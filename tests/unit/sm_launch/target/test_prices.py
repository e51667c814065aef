"""The price list is asked for once a month, over HTTP as AWS's service speaks; never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sm_launch import cli
from sm_launch.job.instances import bundled_prices
from sm_launch.target.prices import current_prices


def product(usage: str, dollars: str, currency: str = "USD") -> str:
    """A product as GetProducts gives it: JSON in a string."""
    dimension = {"unit": "Hrs", "pricePerUnit": {currency: dollars}}
    return json.dumps(
        {
            "product": {"attributes": {"usagetype": usage, "operation": "RunInstance"}},
            "terms": {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": dimension}}}},
        }
    )


PAGES = {
    "Training": [
        [product("EUC1-Train:ml.g5.xlarge", "1.761"), product("EUC1-TrainX:ml.g5.xlarge", "9")],
        [product("EUC1-Train:ml.m5.large", "0.138"), product("EUC1-Train:Volume.gp2", "0.1")],
    ],
    "Hosting": [[product("EUC1-Host:ml.g5.xlarge", "1.762"), product("Host:ml.m5.large", "0")]],
}


class Service(ThreadingHTTPServer):
    """Pages of products, or a refusal."""

    def __init__(self) -> None:
        self.pages: dict[str, list[list[str]]] = PAGES
        self.refusal: str | None = None
        self.page = b""
        self.asked: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(request)
        if self.refusal:
            return 400, {"__type": self.refusal, "message": "you may not"}
        wanted = {each["Field"]: each["Value"] for each in request["Filters"]}
        assert wanted["regionCode"] == "eu-central-1"
        pages = self.pages[wanted["component"]]
        place = int(request.get("NextToken", 0))
        more = {"NextToken": str(place + 1)} if place + 1 < len(pages) else {}
        return 200, {"FormatVersion": "aws_v1", "PriceList": pages[place], **more}


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
        status, document = self.server.answer(body)
        data = self.server.page or json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    server = Service()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    host, port = server.server_address[:2]
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", f"http://{host!s}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path))
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_every_page_is_read_and_kept_for_a_month(service: Service, tmp_path: Path) -> None:
    prices = current_prices("eu-central-1")
    assert prices.training == {"ml.g5.xlarge": 1.761, "ml.m5.large": 0.138}
    assert prices.hosting == {"ml.g5.xlarge": 1.762}
    assert str(prices) == f"eu-central-1, {date.today()}"
    asked = len(service.asked)
    assert asked == 3
    assert current_prices("eu-central-1") == prices
    assert len(service.asked) == asked

    path = tmp_path / "prices" / "eu-central-1.json"
    old = json.loads(path.read_text()) | {"as_of": str(date.today() - timedelta(days=31))}
    path.write_text(json.dumps(old))
    assert current_prices("eu-central-1") == prices
    assert len(service.asked) == 2 * asked

    path.write_text(json.dumps(old))
    service.refusal = "AccessDeniedException"
    kept = current_prices("eu-central-1")
    assert kept.training == prices.training
    assert str(kept).startswith(f"eu-central-1, {old['as_of']}; AWS's price list was not read: you")


UNDATED = '{"training": {}, "hosting": {}, "region": "eu-central-1", "as_of": "today"}'


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"a": 1}', "null", UNDATED])
def test_without_an_answer_the_table_holds(
    service: Service, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "prices").mkdir()
        (tmp_path / "prices" / "eu-central-1.json").write_text(content)
    service.refusal = "AccessDeniedException"
    prices = current_prices("eu-central-1")
    assert prices.training == bundled_prices().training
    assert str(prices).startswith("us-east-1, 2025-06; AWS's price list was not read: you may not")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [b"<html>sign in</html>", b"{}", b'{"PriceList": ["x"]}', b'{"PriceList": ["{}"]}', b"[]"],
)
def test_an_answer_of_another_form_is_no_error(service: Service, page: bytes) -> None:
    service.page = page
    prices = current_prices("eu-central-1")
    assert prices.training == bundled_prices().training
    assert prices.problem


def test_a_list_without_dollars_is_none(service: Service) -> None:
    yuan = [product("CNN1-Train:ml.g5.xlarge", "12", "CNY")]
    service.pages = {"Training": [yuan], "Hosting": [[]]}
    assert "no prices in US dollars" in current_prices("eu-central-1").problem


def test_a_state_folder_that_cannot_be_written_is_no_error(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "prices").write_text("a file in its place")
    assert current_prices("eu-central-1").region == "eu-central-1"


def test_estimate_says_which_prices_it_takes(
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(
        "name: mine\naws: {region: eu-central-1}\n"
        "training: {model: org/m-100m, instances: {type: ml.g5.xlarge},"
        " max_runtime_seconds: 3600}\n"
    )
    assert cli.run(["estimate"]) == 0
    told = capsys.readouterr().out
    assert f"$1.761/h, eu-central-1, {date.today()})" in told
    assert f"= $1.76 at most (list price of eu-central-1, {date.today()})" in told
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "prices" / "eu-central-1.json").unlink()
    assert cli.run(["estimate"]) == 0
    told = capsys.readouterr().out
    assert "us-east-1, 2025-06; AWS's price list was not read: no AWS credentials" in told
