"""The price list is asked for once a month, over HTTP as AWS's service speaks; never an error."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import sm_launch
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


# Two zones, one of them dear for a day.
SPOT = (
    '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
    "<spotPriceHistorySet>"
    + "".join(f"<item><spotPrice>{price}</spotPrice></item>" for price in (0.4, 0.5, 0.41))
    + "</spotPriceHistorySet></DescribeSpotPriceHistoryResponse>"
)
LLAMA = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 128256,
    "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "tie_word_embeddings": True,
}  # fmt: skip


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
        if request["ServiceCode"] == "AmazonEC2":
            assert (wanted["instanceType"], wanted["tenancy"]) == ("g5.xlarge", "Shared")
            return 200, {"PriceList": [product("EUC1-BoxUsage:g5.xlarge", "1.25")]}
        pages = self.pages[wanted["component"]]
        place = int(request.get("NextToken", 0))
        more = {"NextToken": str(place + 1)} if place + 1 < len(pages) else {}
        return 200, {"FormatVersion": "aws_v1", "PriceList": pages[place], **more}


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if b"Action=DescribeSpotPriceHistory" in content:
            self.reply(SPOT.encode(), "text/xml")
            return
        body = json.loads(content)
        assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
        status, document = self.server.answer(body)
        data = self.server.page or json.dumps(document).encode()
        self.reply(data, "application/x-amz-json-1.1", status)

    def do_GET(self) -> None:
        """The Hub's part."""
        self.server.asked.append({"path": self.path})
        self.reply(json.dumps(LLAMA).encode(), "application/json")

    def reply(self, data: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
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
    for name in ("AWS_ENDPOINT_URL_PRICING", "AWS_ENDPOINT_URL_EC2", "HF_ENDPOINT"):
        monkeypatch.setenv(name, f"http://{host!s}:{port}")
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


SPOT_JOB = (
    "name: mine\naws: {region: eu-central-1}\ntraining: {model: org/m-100m, spot: true,"
    " instances: {type: ml.g5.xlarge}, max_runtime_seconds: 3600}\n"
)


@pytest.mark.slow
def test_spot_costs_its_highest_price_of_a_month(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.yaml").write_text(SPOT_JOB)
    monkeypatch.chdir(tmp_path)
    priced = sm_launch.estimate().cost
    assert priced and priced.dollars == pytest.approx(1.761 * 0.5 / 1.25)
    assert "spot's highest of 30 days" in priced.line
    asked = len(service.asked)
    assert sm_launch.estimate().cost == priced
    assert len(service.asked) == asked  # kept for the day
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:9")
    for kept in (tmp_path / "prices").glob("*spot*"):
        kept.unlink()
    dearer = sm_launch.estimate()
    assert dearer.cost and dearer.cost.dollars == pytest.approx(1.761)
    assert (
        "spot's is not known" in dearer.cost.line and "spot prices were not read" in dearer.prices
    )


@pytest.mark.slow
def test_estimate_needs_no_job_yaml(
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    asked = ["estimate", "--model", "org/mine", "--method", "sft", "--region", "eu-central-1"]
    assert cli.run([*asked, "--instance-type", "ml.g5.xlarge", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parameters"] == 1_235_814_400  # Llama 3.2 1B's
    assert told["counted"] == "by its config.json"
    assert told["own"]["instance"]["type"] == "ml.g5.xlarge"
    assert {"path": "/org/mine/resolve/main/config.json"} in service.asked
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        (tmp_path / "config.json").write_text(json.dumps(LLAMA))
        archive.add(tmp_path / "config.json", "./config.json")
    assert (
        sm_launch.estimate(model="model.tar.gz", region="eu-central-1").parameters == 1_235_814_400
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.run(asked) != 0
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err
