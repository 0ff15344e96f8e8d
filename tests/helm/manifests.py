"""Strict validation of Kubernetes manifests without a cluster: types, enums, and no unknown field."""
import functools
import json
import pathlib

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

KUBERNETES = "1.35.0"
CRDS = pathlib.Path(__file__).resolve().parent / "crds"
SCHEMAS = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it strictly: the same key twice is an error."""


def _mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"twice: {sorted(twice)}", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(text):
    return [document for document in yaml.load_all(text, UniqueKeyLoader) if document]


def _closed(schema):
    """An openAPIV3Schema as JSON Schema that refuses fields it does not list."""
    if isinstance(schema, list):
        return [_closed(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {}
    for key, value in schema.items():
        if key == "properties":
            closed[key] = {name: _closed(member) for name, member in value.items()}
        elif key == "pattern":
            if not value.startswith("(?i)"):  # Go's flags are not ECMA's
                closed[key] = value
        elif key not in ("format", "description", "nullable"):
            closed[key] = _closed(value)
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    lists_fields = "properties" in schema and schema.get("type") == "object"
    if lists_fields and "additionalProperties" not in schema:
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    return closed


@functools.cache
def _crd_schemas():
    """(apiVersion, kind) -> JSON Schema."""
    found = {}
    for path in sorted(CRDS.glob("*.yaml")):
        spec = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"$ref": "https://kubernetes.io/api/_definitions.json#/$defs/"
                                                "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


@functools.cache
def _folder():
    version = ".".join(KUBERNETES.split(".")[:2])
    return next(path for path in SCHEMAS.glob("v*-local-strict") if path.name.startswith(f"v{version}."))


@functools.cache
def _registry():
    definitions = json.loads((_folder() / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()


@functools.cache
def _validator(api_version, kind):
    schema = _crd_schemas().get((api_version, kind))
    if schema is None:
        group, _, version = api_version.rpartition("/")
        name = "-".join(part for part in (kind.lower(), group.split(".")[0], version) if part)
        path = _folder() / f"{name}.json"
        if not path.exists():
            raise LookupError(f"no schema of {api_version} {kind}")
        schema = json.loads(path.read_text())
    return jsonschema.Draft202012Validator(schema, registry=_registry())


def errors(manifest):
    """What a strict API server would object to, one line each."""
    validator = _validator(manifest["apiVersion"], manifest["kind"])
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
            for error in validator.iter_errors(manifest)]


def is_valid(manifest):
    return _validator(manifest["apiVersion"], manifest["kind"]).is_valid(manifest)


# Maps whose keys are the user's; a Service's selector is one besides.
FREE_FORM = {"labels", "annotations", "matchLabels", "nodeSelector", "data", "requests", "limits"}


def objects(node, path=()):
    """Every object with a fixed set of fields, as (path, object)."""
    if isinstance(node, dict):
        yield path, node
        service = node.get("clusterIP") is not None or "ports" in node
        for key, value in node.items():
            if key not in FREE_FORM and not (service and key == "selector"):
                yield from objects(value, path + (key,))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from objects(value, path + (index,))
