"""kube_pods.py FOLDER < rendered chart: writes FOLDER/NAME.yaml for every pod the chart's controllers and
its helm tests would make, each with the ConfigMaps, for `podman play kube --network host`.

Podman takes the pods as they are rendered but for what `for_podman` changes."""
import pathlib
import re
import sys

import yaml

LOOPBACK = "127.0.0.1"


def pods(documents):
    """The pods that a cluster's controllers would make of the manifests, one of each kind."""
    for document in documents:
        name = document["metadata"]["name"]
        if document["kind"] in ("Deployment", "StatefulSet"):
            template = document["spec"]["template"]
            yield {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
                   "metadata": {**template["metadata"], "name": f"{name}-0"}}
        elif document["kind"] == "Pod":
            yield document


def resolve(container, pod):
    """Podman knows no downward API: what the kubelet would put in for a fieldRef and for $(NAME)."""
    fields = {"metadata.name": pod["metadata"]["name"], "status.podIP": LOOPBACK}
    for variable in container.get("env", []):
        if "valueFrom" in variable:
            variable["value"] = fields[variable.pop("valueFrom")["fieldRef"]["fieldPath"]]
    values = {variable["name"]: variable["value"] for variable in container.get("env", [])}
    container["args"] = [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], argument)
                         for argument in container["args"]]


def mount_hosts(pod, path):
    """The names of the chart's services, which a cluster's DNS would know. On the host's network podman
    does not heed hostAliases."""
    pod["spec"].setdefault("volumes", []).append(
        {"name": "hosts", "hostPath": {"path": str(path), "type": "File"}})
    for container in pod["spec"]["containers"]:
        container.setdefault("volumeMounts", []).append(
            {"name": "hosts", "mountPath": "/etc/hosts", "readOnly": True})


def for_podman(pod, hosts):
    pod["metadata"].pop("annotations", None)  # podman 4.3 takes no value above 63 characters
    for container in pod["spec"]["containers"]:
        resolve(container, pod)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            container.pop(probe, None)  # podman runs them by systemd's timers; images.sh asks instead
        container.pop("lifecycle", None)  # and has no preStop
        container.pop("ports", None)  # on the host's network there are none to map
    mount_hosts(pod, hosts)
    return pod


def main():
    folder = pathlib.Path(sys.argv[1])
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
    services = [one["metadata"]["name"] for one in documents if one["kind"] == "Service"]
    hosts = folder / "hosts"
    hosts.write_text(f"{LOOPBACK} localhost {' '.join(services)}\n")
    maps = [one for one in documents if one["kind"] == "ConfigMap"]
    for pod in pods(documents):
        path = folder / f"{pod['metadata']['name']}.yaml"
        path.write_text(yaml.safe_dump_all([*maps, for_podman(pod, hosts)]))
        print(pod["metadata"]["name"], pod["spec"].get("terminationGracePeriodSeconds", 0))


if __name__ == "__main__":
    main()
