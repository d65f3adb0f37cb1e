"""The Kubernetes manifests fit the schemas, fit together, and give a pod no more rights than it needs."""

from __future__ import annotations

import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from service import __version__
from service.config import Settings
from service.errors import SettingsError
from service.load_config import load_settings
from service.server.serve import GRACEFUL_S
from tests.support.image import last
from tests.support.manifests import KUBERNETES, NEWEST, SUPPORTED, Resources, pod_of, rendered, selects
from tests.support.replica import ROOT, Replica

SECRETS = "/run/secrets/vapi-cache/"


@pytest.fixture(scope="module", params=["base", "spool"])
def resources(request: pytest.FixtureRequest) -> Resources:
    return rendered(KUBERNETES / request.param)


@pytest.fixture(scope="module")
def base() -> Resources:
    return rendered(KUBERNETES / "base")


@pytest.fixture(scope="module")
def with_spool() -> Resources:
    return rendered(KUBERNETES / "spool")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    """What the README's kustomization gives: with a spool, and with the component that watches it."""
    folder = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(KUBERNETES, folder)
    [shown] = re.findall(r"```yaml\n(.*?)```", (ROOT / "deploy" / "README.md").read_text(), re.DOTALL)
    (folder / "mine").mkdir()
    (folder / "mine" / "kustomization.yaml").write_text(shown)
    return rendered(folder / "mine")


@pytest.fixture(scope="module")
def secret() -> Any:
    return YAML(typ="safe").load(KUBERNETES / "secret.example.yaml")


@pytest.fixture
def files(tmp_path: Path, secret: Any) -> Path:
    """The Secret as it is mounted, once it was filled in."""
    for name in secret["stringData"]:
        value = "redis://redis:6379/0" if name == "redis_url" else f"value-of-{name}"
        (tmp_path / name).write_text(value)
    return tmp_path


def container_of(resources: Resources) -> dict[str, Any]:
    [container] = pod_of(resources)["containers"]
    found: dict[str, Any] = container
    return found


def environment_of(resources: Resources, secrets: Path) -> dict[str, str]:
    given: dict[str, str] = dict(resources["ConfigMap/vapi-cache"]["data"])
    given |= {one["name"]: one["value"] for one in container_of(resources)["env"]}
    return {name: value.replace(SECRETS, f"{secrets}/") for name, value in given.items()}


@pytest.mark.parametrize("version", SUPPORTED)
def test_each_manifest_is_one_by_the_schema(resources: Resources, secret: Any, version: str) -> None:
    for resource in [*resources.values(), secret]:
        kubernetes_validate.validate(resource, version, strict=True)


def test_the_pods_are_those_that_the_restricted_standard_lets_in(resources: Resources) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    pod, container = pod_of(resources), container_of(resources)
    user, group = map(int, last("USER").split(":"))
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": user, "runAsGroup": group, "fsGroup": group,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} == {"secret", "emptyDir"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] in [one["metadata"]["name"] for one in resources.values()]
    assert container["resources"]["limits"].keys() == {"memory"}


def test_no_secret_stands_in_the_environment(resources: Resources, secret: Any) -> None:
    for one in container_of(resources)["env"]:
        if one["name"].endswith("_FILE"):
            assert one["value"].startswith(SECRETS)
            assert one["value"].removeprefix(SECRETS) in secret["stringData"]
    assert not [name for name in resources["ConfigMap/vapi-cache"]["data"] if re.search("SECRET|TOKEN|_KEY|URL", name)]
    [volume] = [one for one in pod_of(resources)["volumes"] if "secret" in one]
    assert volume["secret"] == {"secretName": secret["metadata"]["name"], "defaultMode": 0o440}


def test_the_settings_start_the_service(resources: Resources, files: Path) -> None:
    environment = environment_of(resources, files)
    settings = load_settings(environment)
    assert {name.removesuffix("_FILE") for name in environment} <= {name.upper() for name in Settings.__struct_fields__}
    assert settings.vapi_webhook_secret
    assert settings.api_read_tokens
    assert settings.api_admin_tokens
    assert (settings.host, settings.port) == ("0.0.0.0", int(last("EXPOSE")))


def test_a_secret_that_was_not_filled_in_stops_the_start(base: Resources, files: Path, secret: Any) -> None:
    for name, value in secret["stringData"].items():
        assert value == ""
        if name != "metrics_token":
            (files / name).write_text(value)
            with pytest.raises(SettingsError, match=f"^{name.upper()}_FILE: the file is empty"):
                load_settings(environment_of(base, files))
            (files / name).write_text("redis://redis" if name == "redis_url" else "x")


def test_a_pod_is_given_the_time_that_it_needs_to_go(resources: Resources) -> None:
    assert pod_of(resources)["terminationGracePeriodSeconds"] > Settings().drain_s + GRACEFUL_S


def test_the_probes_ask_what_the_service_answers(resources: Resources) -> None:
    container = container_of(resources)
    replica = Replica(vapi_webhook_secret="s", api_read_tokens="r", api_admin_tokens="a").start()
    try:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == container["ports"][0]["name"]
            with urllib.request.urlopen(replica.url + asked["path"]) as answer:
                assert answer.status == 200
    finally:
        replica.stop()
    assert container["livenessProbe"]["httpGet"]["path"].endswith("/live"), "Redis may be away"
    assert container["readinessProbe"]["httpGet"]["path"].endswith("/ready")
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < Settings().drain_s


def test_everything_finds_the_pods(resources: Resources) -> None:
    [starter] = [one for one in resources.values() if one["kind"] in ("Deployment", "StatefulSet")]
    labels = starter["spec"]["template"]["metadata"]["labels"]
    assert selects(starter["spec"]["selector"], labels)
    for kind, selector in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert selects(resources[f"{kind}/vapi-cache"]["spec"][selector], labels)
    for service in [one for one in resources.values() if one["kind"] == "Service"]:
        assert service["spec"]["selector"].items() <= labels.items()
        assert service["spec"]["ports"][0]["targetPort"] == container_of(resources)["ports"][0]["name"]
    assert container_of(resources)["ports"][0]["containerPort"] == int(last("EXPOSE"))


def test_the_image_is_of_this_version(resources: Resources) -> None:
    assert container_of(resources)["image"].endswith(f"/vapi-cache:{__version__}")


def test_only_webhooks_come_in_from_outside(resources: Resources) -> None:
    [rule] = resources["Ingress/vapi-cache"]["spec"]["rules"]
    replica = Replica(vapi_webhook_secret="s").start()
    try:
        for path in rule["http"]["paths"]:
            assert "/webhook" in path["path"]
            assert path["backend"]["service"] == {"name": "vapi-cache", "port": {"name": "http"}}
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(replica.url + path["path"], data=b"{}")
            assert refused.value.code == 401, "there is such a route"
            refused.value.close()
    finally:
        replica.stop()


def test_the_network_is_closed_but_for_what_is_named(resources: Resources) -> None:
    policy = resources["NetworkPolicy/vapi-cache"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    [allowed] = policy["ingress"]
    assert allowed["from"] == [{"namespaceSelector": {"matchLabels": {"vapi-cache/access": "true"}}}]
    assert allowed["ports"] == [{"port": "http"}]
    anywhere = [rule for rule in policy["egress"] if any("ipBlock" in one for one in rule.get("to", []))]
    assert [rule["ports"] for rule in anywhere] == [[{"port": 443}]]
    assert anywhere[0]["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]


def test_the_deployment_is_scaled_by_cpu_and_rolls_without_a_gap(base: Resources) -> None:
    scaler = base["HorizontalPodAutoscaler/vapi-cache"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vapi-cache"}
    assert [metric["resource"]["name"] for metric in scaler["metrics"]] == ["cpu"]
    assert "cpu" in container_of(base)["resources"]["requests"], "a share of what is requested"
    deployment = base["Deployment/vapi-cache"]["spec"]
    assert "replicas" not in deployment, "each apply would undo what the autoscaler did"
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_example_of_scaling_by_parked_polls_fits_the_schema_and_names_a_metric_that_is_there() -> None:
    text = (KUBERNETES / "base" / "horizontalpodautoscaler.yaml").read_text()
    example = re.sub(r"^    # (- type: Pods|  .*)$", r"    \1", text, flags=re.MULTILINE)
    scaler = YAML(typ="safe").load(example)
    kubernetes_validate.validate(scaler, NEWEST, strict=True)
    [name] = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"] if one["type"] == "Pods"]
    replica = Replica().start()
    try:
        with urllib.request.urlopen(replica.url + "/metrics") as answer:
            assert f"# TYPE {name} gauge" in answer.read().decode()
    finally:
        replica.stop()


def test_each_replica_with_a_spool_has_a_volume_of_its_own(with_spool: Resources, files: Path) -> None:
    assert "Deployment/vapi-cache" not in with_spool
    assert not [name for name in with_spool if name.startswith("HorizontalPodAutoscaler/")]
    replicas = with_spool["StatefulSet/vapi-cache"]["spec"]
    assert replicas["replicas"] >= 2
    assert f"Service/{replicas['serviceName']}" in with_spool
    assert replicas["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    [claim] = replicas["volumeClaimTemplates"]
    [mount] = [one for one in container_of(with_spool)["volumeMounts"] if one["name"] == claim["metadata"]["name"]]
    assert mount["mountPath"] == last("VOLUME"), "elsewhere the engine's own volume would cover it"
    settings = load_settings(environment_of(with_spool, files))
    assert settings.spool_dir is not None
    assert settings.spool_dir.startswith(f"{mount['mountPath']}/"), "a folder that the service makes, with mode 0700"
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert int(size.removesuffix("Gi")) * 2**30 >= 2 * settings.spool_max_bytes


def test_prometheus_counts_each_replica_once_with_a_token_of_the_secret(
    example: Resources, base: Resources, secret: Any
) -> None:
    monitor = example["ServiceMonitor/vapi-cache"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"].keys() == {"selector", "endpoints"}
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint == {
        "port": "http", "path": "/metrics", "interval": "15s",
        "authorization": {"credentials": {"name": secret["metadata"]["name"], "key": "metrics_token"}},
    }  # fmt: skip
    assert "metrics_token" in secret["stringData"]
    for resources in (example, base):
        services = [one["metadata"] for one in resources.values() if one["kind"] == "Service"]
        assert [one["name"] for one in services if selects(monitor["spec"]["selector"], one["labels"])] == [
            "vapi-cache"
        ]


def test_the_example_of_the_readme_changes_the_image_and_the_host(example: Resources) -> None:
    assert container_of(example)["image"] == "your.registry/vapi-cache:1"
    ingress = example["Ingress/vapi-cache"]["spec"]
    assert ingress["rules"][0]["host"] == ingress["tls"][0]["hosts"][0] == "calls.your.example"
    assert "StatefulSet/vapi-cache" in example
