"""The image, compose.yaml, and the files of Prometheus and Grafana agree with the server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from emotune.cli.app import app
from emotune.serving.metrics import Metrics, ModelMetrics
from served import PATIENCE, Server, free_port, serving

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((DEPLOY / "alerts.yaml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "emotune.json").read_text(encoding="utf-8"))
(SCRAPED,) = PROMETHEUS["scrape_configs"]
PORT = 8000
KEY = "a-key-of-the-tests"


def instruction(name: str) -> str:
    """The last instruction of the Dockerfile with this name."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)[-1]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """The targets of the panels of the dashboard, with their names."""
    for panel in DASHBOARD["panels"]:
        yield from ((f"{panel['title']} {target['refId']}", target) for target in panel["targets"])


def queries() -> dict[str, str]:
    """The expressions of the dashboard and of the alerts, by their names."""
    alerts = {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}
    return {name: target["expr"] for name, target in panels()} | alerts


def parse(args: list[str]) -> dict[str, Any]:
    """The values that the command line gives the parameters of the first argument, a verb."""
    command = get_command(app).get_command(None, args[0])  # type: ignore[attr-defined]
    return command.make_context(args[0], args[1:]).params


# --- the image -------------------------------------------------------------------------------------------------------


def test_the_image_serves_on_the_port_that_it_exposes() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r"'\.\[(\w+)\]'", DOCKERFILE)
    assert named in extras
    assert json.loads(instruction("ENTRYPOINT")) == ["emotune"]
    found = parse(json.loads(instruction("CMD")))
    assert (found["models"], found["host"]) == (["default"], "0.0.0.0")
    assert found["port"] == int(instruction("EXPOSE")) == PORT
    assert f"http://127.0.0.1:{PORT}/health" in instruction("HEALTHCHECK")


def health(port: int) -> int:
    """The exit code of the health check of the image."""
    command = json.loads(re.sub(r"^.*?CMD ", "", instruction("HEALTHCHECK")))
    code = command[2].replace(str(PORT), str(port))
    return subprocess.run([sys.executable, *command[1:2], code], stderr=subprocess.DEVNULL, check=False).returncode


def test_the_health_check_fails_without_a_server() -> None:
    assert health(free_port()) == 1


# --- compose.yaml ----------------------------------------------------------------------------------------------------


def test_the_services_mount_files_that_exist_and_reach_each_other() -> None:
    for name, service in SERVICES.items():
        image = service["image"]
        assert "build" in service or re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image), f"{name}: no exact version"
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], volume
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), f"{name} is open to other machines"
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
    found = parse(SERVICES["emotune"]["command"])
    secret = Path("/run/secrets") / SERVICES["emotune"]["secrets"][0]
    assert found["api_key_file"] == secret
    assert SCRAPED["authorization"] == {"credentials_file": str(secret)}
    assert SCRAPED["static_configs"] == [{"targets": [f"emotune:{found['port']}"]}]
    assert "metrics_path" not in SCRAPED  # /metrics
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert COMPOSE["secrets"]["api-key"]["file"].removeprefix(".") in ignored


def test_prometheus_and_grafana_find_their_files() -> None:
    inside = [volume.split(":")[1] for name in ("prometheus", "grafana") for volume in SERVICES[name]["volumes"]]
    assert {f"/etc/prometheus/{name}" for name in ("prometheus.yml", *PROMETHEUS["rule_files"])} <= set(inside)
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text(encoding="utf-8"))["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in inside
    assert home == f"{provider['options']['path']}/emotune.json"


# --- queries ---------------------------------------------------------------------------------------------------------


def exported() -> dict[str, set[str]]:
    """The labels of each sample that the server exports, by its name."""
    metrics = Metrics()
    metrics.requests.labels("/predict", 200).inc()
    metrics.seconds.labels("/predict").observe(1)
    model = ModelMetrics(metrics, "default", ["joy"])
    model.count([["joy"]])
    families = text_string_to_metric_families(metrics.text().decode())
    found = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    return found | {"up": set()}


@pytest.mark.parametrize(("name", "query"), queries().items())
def test_a_query_names_metrics_and_labels_that_the_server_has(name: str, query: str) -> None:
    known, of_prometheus = exported(), {"instance", "job"}
    used = re.findall(r"\b(emotune_\w+|up)\b(?:\{([^}]*)\})?", query)
    assert used
    grouped = {label for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(", ")}
    for metric, selectors in used:
        assert metric in known
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selectors)) <= known[metric] | of_prometheus
    assert grouped <= {label for metric, _ in used for label in known[metric]} | of_prometheus


def test_the_dashboard_is_whole() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    named = set(re.findall(r"\$(?:\{)?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__range", "__all"}
    assert named == variables
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24
    for name, target in panels():
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(re.findall(r"\w+", target["expr"])), (
            name
        )


def test_a_reload_that_fails_is_an_increase_from_zero() -> None:
    assert b'emotune_reloads_total{outcome="failure"} 0.0' in Metrics().text()


# --- a real Prometheus -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
def test_prometheus_scrapes_the_server_and_every_panel_has_data(tmp_path: Path) -> None:
    for file in ("prometheus.yaml", "alerts.yaml"):
        shutil.copy(DEPLOY / file, tmp_path)
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    with serving(tmp_path, "default", "--api-key-file", key) as server:
        configuration = PROMETHEUS | {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}}
        scraped = SCRAPED | {"static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
        scraped["authorization"] = {"credentials_file": str(key)}
        text = yaml.safe_dump(configuration | {"scrape_configs": [scraped]})
        (tmp_path / "prometheus.yaml").write_text(text)
        subprocess.run(["promtool", "check", "config", "prometheus.yaml"], cwd=tmp_path, check=True)
        assert health(server.port) == 0
        port = free_port()
        command = ["prometheus", "--config.file=prometheus.yaml", f"--web.listen-address=127.0.0.1:{port}"]
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen([*command, "--storage.tsdb.path=data"], cwd=tmp_path, stderr=log)
        try:
            assert unanswered(server, port) == []
        finally:
            process.kill()
            process.wait()
        assert server.stop() == 0


def unanswered(server: Server, port: int) -> list[str]:
    """Use a server until Prometheus has data for every query; return the names of those without."""
    deadline, left = time.monotonic() + PATIENCE, list(queries())
    authorization = f"Bearer {KEY}"
    while time.monotonic() < deadline:
        server.post("/predict", {"texts": ["thank you so much", "go away"]}, authorization=authorization)
        server.post("/predict", {"text": 5}, authorization=authorization)
        time.sleep(0.2)
        try:
            left = [name for name, query in queries().items() if not has_data(name, query, port)]
        except OSError:  # Prometheus is still starting
            continue
        if not left:
            break
    return left


def has_data(name: str, query: str, port: int) -> bool:
    """Whether a query has a number; an alert need only be valid, and healthy."""
    for variable, value in {"$__rate_interval": "10s", "$__range": "1m", "$instance": ".*", "$model": ".*"}.items():
        query = query.replace(variable, value)
    found = asked(port, f"query?{urllib.parse.urlencode({'query': query})}")
    if name in {rule["alert"] for group in ALERTS["groups"] for rule in group["rules"]}:
        rules = asked(port, "rules")["groups"][0]["rules"]
        return {rule["name"]: rule["health"] for rule in rules}[name] == "ok"
    return any(sample["value"][1] != "NaN" for sample in found["result"])


def asked(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=5) as answer:
        found = json.load(answer)
    assert found["status"] == "success"
    return found["data"]
