"""What the API server would say of a manifest: each field is known, of the right type, and what is required is there.

Kubernetes' own types come from its Python client, which is generated from the server's OpenAPI; those of KubeRay's
resources are written here after its API types (v1, operator 1.5.1 to 1.6).
"""

import re
from collections.abc import Iterator
from typing import Any

from kubernetes import client

RAY_CLUSTER = {
    "rayVersion": "str",
    "enableInTreeAutoscaling": "bool",
    "suspend": "bool",
    "managedBy": "str",
    "headServiceAnnotations": "dict(str, str)",
    "authOptions": {"mode": ("disabled", "token")},
    "autoscalerOptions": {
        "version": ("v1", "v2"),
        "idleTimeoutSeconds": "int",
        "upscalingMode": ("Default", "Aggressive", "Conservative"),
        "image": "str",
        "imagePullPolicy": "str",
        "resources": "V1ResourceRequirements",
        "env": "list[V1EnvVar]",
        "envFrom": "list[V1EnvFromSource]",
        "volumeMounts": "list[V1VolumeMount]",
        "securityContext": "V1SecurityContext",
    },
    "gcsFaultToleranceOptions": {
        "redisAddress": "str",
        "externalStorageNamespace": "str",
        "redisUsername": {"value": "str", "valueFrom": "V1EnvVarSource"},
        "redisPassword": {"value": "str", "valueFrom": "V1EnvVarSource"},
    },
    "headGroupSpec": {
        "serviceType": ("ClusterIP", "NodePort", "LoadBalancer"),
        "headService": "V1Service",
        "enableIngress": "bool",
        "labels": "dict(str, str)",
        "resources": "dict(str, str)",
        "rayStartParams": "dict(str, str)",
        "template": "V1PodTemplateSpec",
    },
    "workerGroupSpecs": [
        {
            "groupName": "str",
            "replicas": "int",
            "minReplicas": "int",
            "maxReplicas": "int",
            "numOfHosts": "int",
            "idleTimeoutSeconds": "int",
            "suspend": "bool",
            "labels": "dict(str, str)",
            "resources": "dict(str, str)",
            "rayStartParams": "dict(str, str)",
            "scaleStrategy": {"workersToDelete": "list[str]"},
            "template": "V1PodTemplateSpec",
        }
    ],
}
RAY_JOB = {
    "entrypoint": "str",
    "runtimeEnvYAML": "str",
    "jobId": "str",
    "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    "clusterSelector": "dict(str, str)",
    "rayClusterSpec": RAY_CLUSTER,
    "shutdownAfterJobFinishes": "bool",
    "ttlSecondsAfterFinished": "int",
    "activeDeadlineSeconds": "int",
    "backoffLimit": "int",
    "suspend": "bool",
    "metadata": "dict(str, str)",
    "entrypointNumCpus": "float",
    "entrypointNumGpus": "float",
    "entrypointResources": "str",
    "submitterPodTemplate": "V1PodTemplateSpec",
    "submitterConfig": {"backoffLimit": "int"},
}
KINDS: dict[tuple[str, str], Any] = {
    ("ray.io/v1", "RayCluster"): {"metadata": "V1ObjectMeta", "spec": RAY_CLUSTER},
    ("ray.io/v1", "RayJob"): {"metadata": "V1ObjectMeta", "spec": RAY_JOB},
    ("v1", "ConfigMap"): "V1ConfigMap",
    ("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim",
    ("v1", "Service"): "V1Service",
    ("v1", "ServiceAccount"): "V1ServiceAccount",
    ("apps/v1", "StatefulSet"): "V1StatefulSet",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
}
PLAIN: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "object": object,
}
INT_OR_STRING = {"port", "target_port", "targetPort"}
"""The client calls these `object` or `str`."""


def problems(manifest: dict[str, Any]) -> list[str]:
    """One line for each field that is not known, has another type, or is missing."""
    body = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    kind = (manifest["apiVersion"], manifest["kind"])
    return list(_check(KINDS[kind], body, kind[1]))


def _check(schema: Any, value: Any, at: str) -> Iterator[str]:
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            yield f"{at}: {value!r} is no mapping"
            return
        for key, inner in value.items():
            if key in schema:
                yield from _check(schema[key], inner, f"{at}.{key}")
            else:
                yield f"{at}.{key}: no such field"
    elif isinstance(schema, list):
        for i, inner in enumerate(value):
            yield from _check(schema[0], inner, f"{at}[{i}]")
    elif isinstance(schema, tuple):
        if value not in schema:
            yield f"{at}: {value!r} is none of {schema}"
    elif many := re.fullmatch(r"list\[(.+)\]", schema):
        yield from _check([many[1]], value, at)
    elif mapping := re.fullmatch(r"dict[(\[]str, (.+)[)\]]", schema):
        for key, inner in value.items():
            yield from _check(mapping[1], inner, f"{at}.{key}")
    elif schema in PLAIN:
        if not isinstance(value, PLAIN[schema]) or (schema == "int" and isinstance(value, bool)):
            yield f"{at}: {value!r} is no {schema}"
    else:
        yield from _check_model(getattr(client, schema), value, at)


def _check_model(model: Any, value: Any, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: {value!r} is no {model.__name__}"
        return
    fields = {json_name: (name, model.openapi_types[name]) for name, json_name in model.attribute_map.items()}
    for key, inner in value.items():
        if key not in fields:
            yield f"{at}.{key}: {model.__name__} has no such field"
        elif not (key in INT_OR_STRING and isinstance(inner, int)):
            yield from _check(fields[key][1], inner, f"{at}.{key}")
    given = {fields[key][0]: inner for key, inner in value.items() if key in fields}
    try:
        model(**given)  # the client refuses an absent field that the server requires
    except ValueError as e:
        yield f"{at}: {e}"


JSON_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}


def differences(schema: Any, crd: dict[str, Any], at: str) -> Iterator[str]:
    """Where the types that are written here are not those of a CRD's `openAPIV3Schema`; Kubernetes' own are not looked
    into. What the CRD has besides is no difference."""
    kind = crd.get("type")
    if isinstance(schema, dict):
        known = crd.get("properties", {})
        for key, inner in schema.items():
            if key not in known:
                yield f"{at}.{key}: the CRD has no such field"
            else:
                yield from differences(inner, known[key], f"{at}.{key}")
    elif isinstance(schema, list):
        yield from differences(schema[0], crd.get("items", {}), f"{at}[]")
    elif isinstance(schema, tuple):
        if "enum" in crd and not set(schema) <= set(crd["enum"]):
            yield f"{at}: the CRD takes {crd['enum']}"
    elif many := re.fullmatch(r"list\[(.+)\]", schema):
        yield from differences([many[1]], crd, at)
    elif mapping := re.fullmatch(r"dict[(\[]str, (.+)[)\]]", schema):
        if not isinstance(inner := crd.get("additionalProperties"), dict):
            yield f"{at}: no mapping in the CRD"
        else:
            yield from differences(mapping[1], inner, f"{at}{{}}")
    elif schema in JSON_TYPES and kind != JSON_TYPES[schema]:
        yield f"{at}: {kind} in the CRD, {schema} here"
