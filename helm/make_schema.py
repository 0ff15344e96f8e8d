#!/usr/bin/env python3
"""Writes krait/values.schema.json: types from values.yaml's defaults, what they cannot say from here,
and the fields of `config` from proto/krait/config.proto. --check only says whether it is fresh."""
import json
import pathlib
import re
import sys

import yaml

HELM = pathlib.Path(__file__).resolve().parent
PROTO = HELM.parent / "proto" / "krait" / "config.proto"

# What the chart sets itself, from other values.
OWNED = {"listen", "admin_listen", "model_path", "model_name", "insecure_plaintext", "port_file",
         "drain_timeout_ms", "endpoint_lag_ms", "name", "role", "advertise", "coordinators",
         "tensor_parallel_size", "processes", "process_index", "group_address", "draft_address",
         "max_draft_tokens", "ngram"}
SCALARS = {"string": "string", "bool": "boolean", "int32": "integer", "int64": "integer",
           "double": "number"}

PORT = {"minimum": 1, "maximum": 65535}
SECONDS = {"minimum": 0, "maximum": 86400}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECT = {"type": "object"}
OBJECTS = {"type": "array", "items": OBJECT}
AUTOSCALING = {"minReplicas": {"minimum": 1}, "maxReplicas": {"minimum": 1},
               "targetWaitingRequests": {"minimum": 1},
               "scaleDownStabilizationSeconds": {"minimum": 0, "maximum": 3600}}
RESOURCES = {"type": "object", "additionalProperties": False, "properties": {
    part: {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}
    for part in ("requests", "limits")}}
DIGEST = {"pattern": "^(sha256:[0-9a-f]{64})?$"}
FILES = {"type": "array", "items": {
    "type": "object", "additionalProperties": False, "required": ["path"], "properties": {
        "path": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$"},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "url": {"type": "string", "pattern": "^https?://[^'\\s]+$"}}}}

# By the last parts of a value's path; the longest match counts. A type here replaces the default's.
RULES = {
    "commonLabels": STRINGS, "podLabels": STRINGS, "podAnnotations": STRINGS, "annotations": STRINGS,
    "labels": STRINGS, "nodeSelector": STRINGS, "ncclEnv": STRINGS, "resources": RESOURCES,
    "affinity": OBJECT, "tolerations": OBJECTS, "topologySpreadConstraints": OBJECTS,
    "extraEnv": OBJECTS, "extraObjects": OBJECTS, "clients": OBJECTS, "monitoring": OBJECTS,
    "imagePullSecrets": {"type": "array", "items": {"type": "string"}},
    "accessModes": {"type": "array", "minItems": 1, "items": {"enum": [
        "ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]}},
    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "tag": {"not": {"const": "latest"}}, "digest": DIGEST, "repository": {"minLength": 1},
    "model.name": {"pattern": "^[A-Za-z0-9._-]{1,128}$"}, "model.path": {"minLength": 1},
    "mountPath": {"pattern": "^/[A-Za-z0-9._/-]+$"},
    "source.type": {"enum": ["pvc", "hostPath", "download"]},
    "hostPath.path": {"pattern": "^(/.*)?$"}, "model.files": FILES,
    "port": PORT, "adminPort": PORT, "groupPort": PORT,
    "draft.gpus": {"minimum": 0, "maximum": 16}, "coordinator.replicas": {"minimum": 1},
    "endpointLagSeconds": SECONDS, "timeoutSeconds": SECONDS,
    "pdb.maxUnavailable": {"minimum": 1}, "autoscaling": AUTOSCALING,
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "worker.kind": {"enum": ["StatefulSet", "LeaderWorkerSet"]},
    "worker.groups": {"minimum": 0}, "groupSize": {"minimum": 1, "maximum": 64},
    "tensorParallelSize": {"minimum": 1, "maximum": 64},
    "maxDraftTokens": {"minimum": 0, "maximum": 15}, "startupFailureThreshold": {"minimum": 1},
    "runAsUser": {"minimum": 1}, "runAsGroup": {"minimum": 1}, "fsGroup": {"minimum": 1},
    "interval": {"pattern": "^[0-9]+(ms|s|m)$"}, "tests.timeoutSeconds": {"minimum": 1},
    "backoffLimit": {"minimum": 0},
}


def messages(text):
    """Of a .proto file: message -> its body, without comments."""
    text = re.sub(r"//.*", "", text)
    for match in re.finditer(r"^message (\w+) \{(.*?)^\}", text, re.M | re.S):
        yield match[1], match[2]


def config_schema(bodies, message):
    body = bodies[message]
    enums = {name: re.findall(r"(\w+) = \d+;", values)
             for name, values in re.findall(r"enum (\w+) \{(.*?)\}", body, re.S)}
    body = re.sub(r"enum \w+ \{.*?\}", "", body, flags=re.S)
    properties = {}
    for repeated, kind, field in re.findall(r"(optional |repeated |)(\w+) (\w+) = \d+;", body):
        if field in OWNED:
            continue
        if kind in SCALARS:
            schema = {"type": SCALARS[kind]}
        elif kind in enums:
            schema = {"enum": enums[kind]}
        else:
            schema = config_schema(bodies, kind)
        properties[field] = {"type": "array", "items": schema} if repeated == "repeated " else schema
    return {"type": "object", "additionalProperties": False, "properties": properties}


def rule(path):
    for length in range(len(path), 0, -1):
        found = RULES.get(".".join(path[-length:]))
        if found is not None:
            return found
    return {}


def schema_of(value, path, configs):
    if ".".join(path) in configs:
        return configs[".".join(path)]
    found = rule(path)
    if "type" in found:
        return found
    if isinstance(value, dict):
        properties = {key: schema_of(v, path + [key], configs) for key, v in value.items()}
        for key, extra in found.items():  # limits of the members
            properties[key] = {**properties[key], **extra}
        return {"type": "object", "additionalProperties": False, "properties": properties}
    kinds = {bool: "boolean", int: "integer", str: "string"}
    return found if "enum" in found else {"type": kinds[type(value)], **found}


def make():
    bodies = dict(messages(PROTO.read_text()))
    unknown = OWNED - set(re.findall(r"(\w+) = \d+;", "".join(bodies.values())))
    if unknown:
        sys.exit(f"make_schema.py: config.proto has no {sorted(unknown)}")
    configs = {"coordinator.config": config_schema(bodies, "CoordinatorConfig"),
               "worker.config": config_schema(bodies, "WorkerConfig"),
               "draft.config": config_schema(bodies, "WorkerConfig")}
    values = yaml.safe_load((HELM / "krait" / "values.yaml").read_text())
    schema = schema_of(values, [], configs)
    schema["properties"]["global"] = OBJECT  # Helm's own, of parent charts
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **schema}, indent=1) + "\n"


def main():
    target = HELM / "krait" / "values.schema.json"
    text = make()
    if sys.argv[1:] == ["--check"]:
        if not target.exists() or target.read_text() != text:
            sys.exit("helm/krait/values.schema.json is not fresh: run helm/make_schema.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        target.write_text(text)


if __name__ == "__main__":
    main()
