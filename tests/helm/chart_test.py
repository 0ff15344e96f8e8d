"""Tests of helm/krait with both major versions of Helm. Run by run.sh, which provides the tools."""
import functools
import json
import pathlib
import subprocess
import tempfile
import unittest

import yaml

import manifests

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "krait"
SHAPES = sorted((CHART / "ci").glob("*.yaml"))
HELMS = ("helm4", "helm3")
MONITORING = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
MARGIN_SECONDS = 10


def helm(version, *arguments):
    return subprocess.run([version, *map(str, arguments)], capture_output=True, text=True, check=False)


@functools.cache
def render(version, shape, with_crds=True):
    apis = [f"--api-versions=monitoring.coreos.com/v1/{kind}" for kind in MONITORING] if with_crds else []
    done = helm(version, "template", "test", CHART, "--namespace", "serving", "--values", shape,
                "--kube-version", manifests.KUBERNETES, *apis)
    if done.returncode:
        raise AssertionError(f"{version} template {shape.name}: {done.stderr}")
    return manifests.load(done.stdout)


def shape(name):
    return CHART / "ci" / f"{name}.yaml"


def of_kind(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def pod_templates(documents):
    """(name of the object, its selector's matchLabels or None, pod template)"""
    for document in documents:
        spec, name = document.get("spec", {}), f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield name, spec["selector"]["matchLabels"], spec["template"]
        elif document["kind"] == "Job":
            yield name, None, spec["template"]
        elif document["kind"] == "Pod":
            yield name, None, document
        elif document["kind"] == "LeaderWorkerSet":
            for part in ("leaderTemplate", "workerTemplate"):
                yield f"{name}.{part}", None, spec["leaderWorkerTemplate"][part]


def configs(documents):
    """The configuration files of the processes, by name."""
    found = next(d for d in of_kind(documents, "ConfigMap") if "coordinator.json" in d["data"])
    return {name: json.loads(text) for name, text in found["data"].items()}


class ShapeTest(unittest.TestCase):
    """What holds for every values file of ci/, with both Helms, with and without the operator."""

    def each(self):
        for version in HELMS:
            for values in SHAPES:
                with self.subTest(helm=version, values=values.name):
                    yield version, values

    def test_lints_strictly(self):
        for version, values in self.each():
            done = helm(version, "lint", "--strict", CHART, "--values", values)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertNotIn("[WARNING]", done.stdout)

    def test_both_helms_render_the_same(self):
        for values in SHAPES:
            key = lambda d: (d["kind"], d["metadata"]["name"])
            self.assertEqual(sorted(render("helm4", values), key=key),
                             sorted(render("helm3", values), key=key), values.name)

    def test_is_valid_strictly(self):
        for version, values in self.each():
            for with_crds in (True, False):
                for document in render(version, values, with_crds):
                    self.assertEqual(manifests.errors(document), [],
                                     f"{document['kind']} {document['metadata']['name']}")

    def test_monitoring_objects_only_where_the_cluster_knows_them(self):
        for version, values in self.each():
            kinds = [d["kind"] for d in render(version, values, with_crds=False)]
            self.assertFalse(set(kinds) & set(MONITORING))
        kinds = [d["kind"] for d in render("helm4", shape("everything"))]
        self.assertEqual({kind: kinds.count(kind) for kind in MONITORING},
                         {kind: 1 for kind in MONITORING})

    def test_names_are_unique(self):
        for version, values in self.each():
            names = [(d["kind"], d["metadata"]["name"]) for d in render(version, values)]
            self.assertEqual(len(names), len(set(names)))

    def test_notes_render(self):  # Helm 3 needs a cluster for it
        for values in SHAPES:
            done = helm("helm4", "install", "test", CHART, "--dry-run=client", "--values", values)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("krait generate --coordinator", done.stdout.split("NOTES:")[1])

    def test_notes_warn_of_open_networks(self):
        closed, opened = (helm("helm4", "install", "test", CHART, "--dry-run=client", "--values",
                               shape(name)).stdout.split("NOTES:")[1] for name in ("everything", "minimal"))
        self.assertIn("networkPolicy.enabled is off", opened)
        self.assertNotIn("networkPolicy.enabled is off", closed)
        self.assertIn("LoadBalancer", closed)


class PodTest(unittest.TestCase):
    def each(self):
        for values in SHAPES:
            for name, selector, template in pod_templates(render("helm4", values)):
                with self.subTest(values=values.name, pod=name):
                    yield values, selector, template

    def containers(self):
        for values, _, template in self.each():
            spec = template["spec"]
            for container in spec["containers"] + spec.get("initContainers", []):
                yield values, spec, container

    def test_selectors_hold_only_what_never_changes(self):
        for _, selector, template in self.each():
            if selector is not None:
                self.assertEqual(set(selector), {f"app.kubernetes.io/{key}" for key in
                                                 ("name", "instance", "component")})
                self.assertLessEqual(selector.items(), template["metadata"]["labels"].items())

    def test_containers_are_restricted(self):
        for values, spec, container in self.containers():
            self.assertTrue(spec["securityContext"]["runAsNonRoot"])
            self.assertGreater(spec["securityContext"]["runAsUser"], 0)
            self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertFalse(spec["automountServiceAccountToken"])
            self.assertFalse(spec["enableServiceLinks"])
            security = container["securityContext"]
            self.assertFalse(security["allowPrivilegeEscalation"])
            self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
            gpu = "nvidia.com/gpu" in container["resources"].get("limits", {})
            self.assertTrue(gpu or security["readOnlyRootFilesystem"], container["name"])

    def test_images_are_pinned(self):
        for _, _, container in self.containers():
            name = container["image"].rsplit("/", 1)[-1]
            self.assertRegex(name, r"@sha256:|:[0-9]")

    def test_requests_and_memory_limits_are_set(self):
        for _, _, container in self.containers():
            self.assertIn("memory", container["resources"]["limits"])
            self.assertIn("cpu", container["resources"]["requests"])

    def test_grace_period_is_prestop_and_drain_and_margin(self):
        for values, _, template in self.each():
            spec, files = template["spec"], configs(render("helm4", values))
            for container in spec["containers"]:
                file = files.get(f"{container['name']}.json")
                if file is None:
                    continue
                sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {"seconds": 0})
                self.assertEqual(spec["terminationGracePeriodSeconds"],
                                 sleep["seconds"] + file["drain_timeout_ms"] // 1000 + MARGIN_SECONDS)

    def test_mounts_name_volumes_and_probes_name_ports(self):
        for _, spec, container in self.containers():
            volumes = {volume["name"] for volume in spec.get("volumes", [])}
            self.assertLessEqual({m["name"] for m in container.get("volumeMounts", [])}, volumes)
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    self.assertIn(container[probe]["httpGet"]["port"], ports)

    def test_processes_listen_where_the_pod_says(self):
        for values, _, template in self.each():
            files = configs(render("helm4", values))
            for container in template["spec"]["containers"]:
                file = files.get(f"{container['name']}.json", {})
                ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
                for name, field in (("grpc", "listen"), ("admin", "admin_listen"),
                                    ("draft-admin", "admin_listen")):
                    if name in ports:
                        self.assertEqual(file[field], f"0.0.0.0:{ports[name]}")

    def test_services_find_pods_and_their_ports(self):
        for values in SHAPES:
            documents = render("helm4", values)
            templates = [template for _, _, template in pod_templates(documents)]
            for service in of_kind(documents, "Service"):
                chosen = [t for t in templates
                          if service["spec"]["selector"].items() <= t["metadata"]["labels"].items()]
                self.assertTrue(chosen, service["metadata"]["name"])
                ports = {p["name"] for t in chosen for c in t["spec"]["containers"] for p in c["ports"]}
                for port in service["spec"]["ports"]:
                    self.assertIn(port["targetPort"], ports)


class DecisionTest(unittest.TestCase):
    """What single values choose."""

    def test_draft_has_gpus_of_its_own_and_is_reached_over_loopback(self):
        documents = render("helm4", shape("tp4-draft1"))
        containers = {c["name"]: c for _, _, t in pod_templates(of_kind(documents, "StatefulSet"))
                      for c in t["spec"]["containers"]}
        gpus = {name: c["resources"]["limits"]["nvidia.com/gpu"] for name, c in containers.items()}
        self.assertEqual(gpus, {"target": 4, "draft": 1})
        files = configs(documents)
        self.assertEqual(files["target.json"]["draft_address"], files["draft.json"]["listen"])
        self.assertTrue(files["draft.json"]["listen"].startswith("127.0.0.1:"))
        self.assertNotIn("readinessProbe", containers["draft"])

    def test_a_process_computes_on_the_gpus_its_container_asks_for(self):
        devices = set()
        for values in SHAPES:
            documents = render("helm4", values)
            files = configs(documents)
            for _, _, template in pod_templates(documents):
                for container in template["spec"]["containers"]:
                    if container["name"] in ("target", "draft"):
                        gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
                        device = files[f"{container['name']}.json"].get("device", "cpu")
                        self.assertEqual(device, "cuda" if gpus else "cpu", values.name)
                        devices.add(device)
        self.assertEqual(devices, {"cpu", "cuda"})

    def test_only_the_leader_of_a_group_has_a_draft(self):
        (lws,) = of_kind(render("helm4", shape("leader-worker-set")), "LeaderWorkerSet")
        template = lws["spec"]["leaderWorkerTemplate"]
        names = {part: [c["name"] for c in template[part]["spec"]["containers"]]
                 for part in ("leaderTemplate", "workerTemplate")}
        self.assertEqual(names, {"leaderTemplate": ["target", "draft"], "workerTemplate": ["target"]})
        self.assertEqual(template["size"], 2)

    def test_processes_of_a_group_share_one_file_and_differ_by_flags(self):
        documents = render("helm4", shape("leader-worker-set"))
        self.assertEqual(configs(documents)["target.json"]["processes"], 2)
        for _, _, template in pod_templates(of_kind(documents, "LeaderWorkerSet")):
            target = template["spec"]["containers"][0]
            self.assertIn("--process_index=$(LWS_WORKER_INDEX)", target["args"])
            self.assertEqual(target["resources"]["limits"]["nvidia.com/gpu"], 8)

    def test_workers_find_coordinators_that_are_not_ready(self):
        documents = render("helm4", shape("minimal"))
        (registry,) = [s for s in of_kind(documents, "Service")
                       if s["metadata"]["name"].endswith("-registry")]
        self.assertTrue(registry["spec"]["publishNotReadyAddresses"])
        self.assertEqual(configs(documents)["target.json"]["coordinators"],
                         [f"dns:///{registry['metadata']['name']}:50051"])

    def test_autoscaling_owns_the_number_of_replicas(self):
        scaled, fixed = (render("helm4", shape(name)) for name in ("everything", "minimal"))
        self.assertEqual(len(of_kind(scaled, "HorizontalPodAutoscaler")), 2)
        for kind in ("Deployment", "StatefulSet"):
            self.assertNotIn("replicas", of_kind(scaled, kind)[0]["spec"])
            self.assertIn("replicas", of_kind(fixed, kind)[0]["spec"])

    def test_a_single_pod_has_no_disruption_budget(self):
        budgets = {name: {b["metadata"]["name"].rsplit("-", 1)[1] for b in
                          of_kind(render("helm4", shape(name)), "PodDisruptionBudget")}
                   for name in ("one-gpu", "minimal", "two-replicas")}
        self.assertEqual(budgets, {"one-gpu": set(), "minimal": {"coordinator"},
                                   "two-replicas": {"coordinator", "worker"}})

    def test_download_job_changes_its_name_with_its_files(self):
        (one,), (other,) = (of_kind(render("helm4", shape(name)), "Job")
                            for name in ("two-replicas", "everything"))
        self.assertNotEqual(one["metadata"]["name"][-8:], other["metadata"]["name"][-8:])

    def test_rules_are_not_templated_and_name_the_runbook_of_the_values(self):
        (rules,) = of_kind(render("helm4", shape("everything")), "PrometheusRule")
        alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
        self.assertTrue(alerts)
        for alert in alerts:
            self.assertTrue(alert["annotations"]["runbook_url"].startswith(
                "https://example.com/krait/RUNBOOK.md#"), alert)
        self.assertIn("{{ $labels", json.dumps(alerts))


class StrictnessTest(unittest.TestCase):
    """The validation itself: an unknown field in any object of any manifest is found."""

    def test_unknown_field_anywhere_is_an_error(self):
        planted = 0
        for name in ("everything", "leader-worker-set"):
            for document in render("helm4", shape(name)):
                for path, target in manifests.objects(document):
                    target["unknownField"] = "x"
                    self.assertFalse(manifests.is_valid(document),
                                     f"{document['kind']} {'.'.join(map(str, path))}")
                    del target["unknownField"]
                    planted += 1
                self.assertTrue(manifests.is_valid(document))
        self.assertGreater(planted, 400)

    def test_wrong_type_is_an_error(self):
        (deployment,) = of_kind(render("helm3", shape("minimal")), "Deployment")
        deployment["spec"]["replicas"] = "two"
        self.assertFalse(manifests.is_valid(deployment))
        deployment["spec"]["replicas"] = 2

    def test_key_that_stands_twice_is_an_error(self):
        with self.assertRaises(yaml.constructor.ConstructorError):
            manifests.load("kind: A\nkind: B\n")

    def test_unknown_kind_is_an_error(self):
        with self.assertRaises(LookupError):
            manifests.errors({"apiVersion": "apps/v1", "kind": "Deploymint"})


# (what is wrong, the key that the message has to name)
BAD_VALUES = [
    ({"modell": {}}, "modell"),
    ({"worker": {"tensorParalelSize": 2}}, "tensorParalelSize"),
    ({"worker": {"kind": "DaemonSet"}}, "kind"),
    ({"worker": {"tensorParallelSize": 0}}, "tensorParallelSize"),
    ({"worker": {"tensorParallelSize": "two"}}, "tensorParallelSize"),
    ({"worker": {"maxDraftTokens": 16}}, "maxDraftTokens"),
    ({"worker": {"config": {"page_sise": 16}}}, "page_sise"),
    ({"worker": {"config": {"page_size": "16"}}}, "page_size"),
    ({"worker": {"config": {"listen": "0.0.0.0:1"}}}, "listen"),
    ({"worker": {"config": {"weight_dtype": "FP8"}}}, "weight_dtype"),
    ({"worker": {"config": {"limits": {"grpc_memory": 1}}}}, "grpc_memory"),
    ({"worker": {"shm": {"size": "1Gi"}}}, "size"),
    ({"worker": {"groupSize": 2}}, "groupSize"),
    ({"worker": {"kind": "LeaderWorkerSet", "groupSize": 2, "tensorParallelSize": 3}}, "tensorParallelSize"),
    ({"worker": {"ngram": True}, "draft": {"enabled": True}}, "ngram"),
    ({"coordinator": {"config": {"page_size": 16}}}, "page_size"),
    ({"coordinator": {"replicas": 0}}, "replicas"),
    ({"coordinator": {"port": 70000}}, "port"),
    ({"coordinator": {"service": {"type": "ExternalName"}}}, "type"),
    ({"coordinator": {"drain": {"timeoutSeconds": -1}}}, "timeoutSeconds"),
    ({"coordinator": {"resources": {"claims": []}}}, "claims"),
    ({"model": {"source": {"type": "s3"}}}, "type"),
    ({"model": {"source": {"pvc": {"existingClaim": ""}}}}, "existingClaim"),
    ({"model": {"source": {"type": "hostPath"}}}, "hostPath"),
    ({"model": {"source": {"type": "download"}}}, "files"),
    ({"model": {"source": {"type": "download"}, "files": [{"path": "a"}]}}, "sha256"),
    ({"model": {"files": [{"path": "../a"}]}}, "path"),
    ({"model": {"files": [{"path": "a", "sha1": "b"}]}}, "sha1"),
    ({"model": {"verify": True, "files": [{"path": "a"}]}}, "sha256"),
    ({"model": {"name": "a b"}}, "name"),
    ({"image": {"worker": {"tag": "latest"}}}, "tag"),
    ({"image": {"worker": {"digest": "sha256:12"}}}, "digest"),
    ({"podSecurity": {"runAsUser": 0}}, "runAsUser"),
    ({"metrics": {"podMonitor": {"interval": "often"}}}, "interval"),
]


class BadValuesTest(unittest.TestCase):
    def test_is_refused_by_name(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "bad.yaml"
            for values, key in BAD_VALUES:
                path.write_text(json.dumps(values))
                for version in HELMS:
                    with self.subTest(helm=version, values=values):
                        done = helm(version, "template", "test", CHART, "--values", shape("minimal"),
                                    "--values", path)
                        self.assertNotEqual(done.returncode, 0)
                        self.assertIn(key, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)
