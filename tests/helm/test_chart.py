"""The chart, by Helm's own engine: it lints, renders, and what it renders is valid Kubernetes."""

import base64
import json
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from checkout import ROOT
from plan_questions import WELL, mixed, pair, small_ask, small_types
from splitweave.cluster.live.config import ClusterConfig, load_config
from splitweave.sim.planner.drafts import Plan, Tried
from splitweave.sim.planner.machines import Offer
from splitweave.sim.planner.written import helm_values, values_yaml

CHART = ROOT / "helm" / "splitweave"
KUBERNETES = "1.34"
IMAGE = {"image": {"repository": "registry.example/splitweave"}}
TYPES = small_types(Offer(machines=("L40S", "H100", "MI300X"), tp_sizes=(1, 2), caps=(1.0, 0.6)))
FLEETS = [
    mixed(TYPES["L40S-TP1"], 3),
    pair(TYPES["H100-TP2"], 2, TYPES["L40S-TP2"], 5),
    pair(TYPES["H100-TP1-420W"], 1, TYPES["MI300X-TP1"], 4),
]


def render(values: dict[str, Any] | None = None, name: str = "demo") -> dict[str, Any]:
    """What the chart makes of values, by kind."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render({**IMAGE, **(values or {})}, name=name, namespace="models")
    documents = [
        document
        for path, text in files.items()
        if path.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]
    assert len({document["kind"] for document in documents}) == len(documents)
    return {document["kind"]: document for document in documents}


def planned(fleet: Any) -> dict[str, Any]:
    """The values of a plan, through the file that it writes."""
    values = helm_values(Plan(ask=small_ask()), Tried(fleet, WELL), "/models/Llama-3.1-8B")
    read = yaml.safe_load(values_yaml(values))
    assert isinstance(read, dict)
    return read


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods that KubeRay would make, the head's first."""
    spec = cluster["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod", **group["template"]["metadata"]},
            "spec": group["template"]["spec"],
        }
        for group in groups
    ]


def config_in(rendered: dict[str, Any], folder: Path) -> ClusterConfig:
    path = folder / "cluster.toml"
    path.write_text(rendered["ConfigMap"]["data"]["cluster.toml"])
    return load_config(path)


def test_the_chart_lints_strictly() -> None:
    report = helm_python.lint(CHART, IMAGE, strict=True, kube_version=f"v{KUBERNETES}.0")
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("fleet", FLEETS, ids=lambda fleet: fleet.name)
def test_a_plan_s_values_render_to_its_fleet(fleet: Any, tmp_path: Path) -> None:
    rendered = render(planned(fleet))
    groups = rendered["RayCluster"]["spec"]["workerGroupSpecs"]
    assert [group["groupName"] for group in groups] == [role.value for role in fleet.shape.roles]
    assert [group["replicas"] for group in groups] == list(fleet.counts)
    config = config_in(rendered, tmp_path)
    for group, kind, pool in zip(groups, fleet.shape.types, config.pools, strict=True):
        container = group["template"]["spec"]["containers"][0]
        vendor = "amd.com/gpu" if kind.spec.device == "MI300X" else "nvidia.com/gpu"
        assert container["resources"]["limits"][vendor] == str(kind.gpus) == f"{pool.gpus:g}"
        assert container["resources"]["requests"][vendor] == str(kind.gpus)
        (label,) = group["template"]["spec"]["nodeSelector"]
        assert label.split("/")[0] == vendor.split("/", maxsplit=1)[0]
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == pool.count


@pytest.mark.parametrize("fleet", FLEETS, ids=lambda fleet: fleet.name)
def test_what_is_rendered_is_valid_kubernetes(fleet: Any) -> None:
    claim = {"models": {"claim": "weights", "mountPath": "/models"}}
    rendered = render({**planned(fleet), **claim})
    cluster = rendered.pop("RayCluster")
    for document in [*rendered.values(), *pods(cluster)]:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert cluster["apiVersion"] == "ray.io/v1"
    for pod in pods(cluster):
        names = {volume["name"] for volume in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= names
            assert "models" in {mount["name"] for mount in container["volumeMounts"]}


def test_an_invalid_pod_would_be_noticed() -> None:
    pod = pods(render()["RayCluster"])[0]
    pod["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_service_leads_to_the_pod_where_alone_gateways_can_run(tmp_path: Path) -> None:
    rendered = render({"gateway": {"port": 7100, "count": 2}}, name="chat")
    service, cluster = rendered["Service"], rendered["RayCluster"]
    assert service["metadata"]["name"] == "chat-gateway"
    assert service["spec"]["selector"] == {
        "ray.io/cluster": cluster["metadata"]["name"], "ray.io/node-type": "head",
    }  # fmt: skip
    assert [port["port"] for port in service["spec"]["ports"]] == [7100, 7101]
    head = cluster["spec"]["headGroupSpec"]
    assert json.loads(json.loads(head["rayStartParams"]["resources"])) == {"gateway": 64}
    workers = cluster["spec"]["workerGroupSpecs"]
    assert all("resources" not in group["rayStartParams"] for group in workers)
    config = config_in(rendered, tmp_path)
    assert config.gateway.resources == {"gateway": 1}
    assert config.gateway.host == "0.0.0.0"
    opened = [port["containerPort"] for port in head["template"]["spec"]["containers"][0]["ports"]]
    assert opened[-2:] == [7100, 7101]


def test_serve_runs_beside_the_head_and_shares_what_a_driver_needs() -> None:
    head, *_ = pods(render()["RayCluster"])
    ray, serve = head["spec"]["containers"]
    assert ray["name"] == "ray-head"
    assert serve["command"] == ["splitweave", "serve", "--config", "/etc/splitweave/cluster.toml"]
    assert serve["image"] == ray["image"] == "registry.example/splitweave:0.1.0"
    assert {"name": "RAY_ADDRESS", "value": "127.0.0.1:6379"} in serve["env"]
    shared = [
        {mount["mountPath"] for mount in container["volumeMounts"]} for container in (ray, serve)
    ]
    assert {"/tmp/ray", "/dev/shm", "/etc/splitweave"} <= shared[0] & shared[1]


def test_every_container_has_the_cluster_s_token() -> None:
    rendered = render()
    secret = rendered["Secret"]
    token = base64.b64decode(secret["data"]["token"]).decode()
    assert len(token) == 48
    assert token.isalnum()
    for pod in pods(rendered["RayCluster"]):
        for container in pod["spec"]["containers"]:
            env = {entry["name"]: entry for entry in container["env"]}
            assert env["RAY_AUTH_MODE"]["value"] == "token"
            named = env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
            assert named == {"name": secret["metadata"]["name"], "key": "token"}


def test_the_chart_s_own_config_is_of_its_own_pools(tmp_path: Path) -> None:
    rendered = render()
    config = config_in(rendered, tmp_path)
    groups = rendered["RayCluster"]["spec"]["workerGroupSpecs"]
    assert [(pool.name, pool.count) for pool in config.pools] == [
        (group["groupName"], group["replicas"]) for group in groups
    ]


def test_a_power_cap_is_noted_where_an_operator_sees_it() -> None:
    prefill = pods(render(planned(FLEETS[2]))["RayCluster"])[1]
    assert prefill["metadata"]["annotations"]["splitweave/power-cap-watts"] == "420"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"image": {"repository": ""}}, "/image/repository"),
        ({"pools": []}, "/pools"),
        ({"pools": [{"name": "Upper", "replicas": 1, "gpus": 1}]}, "/pools/0/name"),
        ({"pools": [{"name": "a", "replicas": 0, "gpus": 1}]}, "/pools/0/replicas"),
        ({"pools": [{"name": "a", "replicas": 1, "gpus": 1, "gpu": 1}]}, "gpu"),
        ({"config": ""}, "/config"),
        ({"gateway": {"port": 0}}, "/gateway/port"),
        ({"gateway": {"service": {"type": "Public"}}}, "/gateway/service/type"),
        ({"workers": 3}, "workers"),
    ],
)
def test_values_that_cannot_work_are_refused_by_key(values: dict[str, Any], told: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=told):
        render(values)
