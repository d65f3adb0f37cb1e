"""The manifests of deploy/kubernetes as ``kubectl kustomize`` renders them, without a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from tests.support.replica import ROOT

KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
NEWEST: Final = "1.37"
SUPPORTED: Final = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", NEWEST)
"""Versions of Kubernetes whose schemas the manifests have to fit."""

Resources = dict[str, dict[str, Any]]


def rendered(folder: Path) -> Resources:
    """By kind and name: ``Service/vapi-cache``; without the hash that kustomize gives the name of what it generates."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns"
    found: Resources = {}
    for resource in YAML(typ="safe").load_all(done.stdout):
        name = resource["metadata"]["name"]
        if resource["kind"] == "ConfigMap":
            name = name.rpartition("-")[0]
        found[f"{resource['kind']}/{name}"] = resource
    return found


def pod_of(resources: Resources) -> dict[str, Any]:
    """The spec of the pods that they start."""
    [starter] = [one for one in resources.values() if one["kind"] in ("Deployment", "StatefulSet")]
    pod: dict[str, Any] = starter["spec"]["template"]["spec"]
    return pod


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; of expressions it knows those that are used."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "DoesNotExist"
        if expression["key"] in labels:
            return False
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
