"""For check: rendered objects against Kubernetes' JSON schemas and each other, and the configuration among them
against the bridge.

check.py objects KUBERNETES_VERSION FILE DEFINITION...
check.py config NEXUDUS_BRIDGE FILE
check.py rules FOLDER FILE
"""

import math
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import yaml

DEFAULT_CONFIG = "/etc/nexudus-bridge/nexudus-bridge.toml"


def closed(schema):
    """A schema of a custom resource that refuses unknown fields, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def custom_schemas(files):
    """The schemas of custom resources by version and kind, from their definitions."""
    schemas = {}
    for file in files:
        definition = yaml.safe_load(Path(file).read_text())["spec"]
        for version in definition["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[f"{definition['group']}/{version['name']}", definition["names"]["kind"]] = schema
    return schemas


def objects(version, documents, definitions):
    """Schemas, and what they cannot say: references between objects, and the time to end."""
    schemas = custom_schemas(definitions)
    for document in documents:
        schema = schemas.get((document["apiVersion"], document["kind"]))
        if schema:
            jsonschema.Draft202012Validator(schema).validate(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)
    by_kind = {}
    for document in documents:
        by_kind.setdefault(document["kind"], []).append(document)
    (deployment,) = by_kind["Deployment"]
    template = deployment["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (container,) = pod["containers"]

    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in by_kind["Service"]]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in by_kind.get("PodDisruptionBudget", [])]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in by_kind.get("NetworkPolicy", [])]
    selectors += [spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]]
    for selector in selectors:
        assert selector.items() <= labels.items(), f"{selector} does not choose the bridge's pods"
        (test,) = by_kind["Pod"]
        assert not selector.items() <= test["metadata"]["labels"].items(), f"{selector} chooses the test's pod"
    for monitor in by_kind.get("ServiceMonitor", []):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        chosen = [service for service in by_kind["Service"] if wanted <= service["metadata"]["labels"].items()]
        assert [service["spec"]["ports"][0]["name"] for service in chosen] == ["admin"], "not the admin Service"
        (endpoint,) = monitor["spec"]["endpoints"]
        (job,) = [each["replacement"] for each in endpoint["relabelings"] if each["targetLabel"] == "job"]
        assert "nexudus-bridge" in job, f"the rules do not choose the job {job}"
        assert deployment["metadata"]["name"] in job, f"the job {job} does not name the release"

    ports = {port["name"] for port in container["ports"]}
    for service in by_kind["Service"]:
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    services = {service["metadata"]["name"]: service["spec"]["ports"][0]["port"] for service in by_kind["Service"]}
    for ingress in by_kind.get("Ingress", []):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            backend = path["backend"]["service"]
            assert path["path"] == "/webhooks" and services[backend["name"]] == backend["port"]["number"]
    for route in by_kind.get("HTTPRoute", []):
        (rule,) = route["spec"]["rules"]
        (match,), (backend,) = rule["matches"], rule["backendRefs"]
        assert match["path"] == {"type": "PathPrefix", "value": "/webhooks"} and services[backend["name"]] == backend["port"]
    volumes = [volume["name"] for volume in pod["volumes"]]
    mounts = [mount["name"] for mount in container["volumeMounts"]]
    assert sorted(volumes) == sorted(mounts) and len(set(volumes)) == len(volumes), f"{volumes} and {mounts}"
    accounts = [account["metadata"]["name"] for account in by_kind["ServiceAccount"]]
    assert accounts == [pod["serviceAccountName"]] and pod["automountServiceAccountToken"] is False

    (test,) = by_kind["Pod"]
    kept = test["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert kept == "before-hook-creation", "helm test --logs finds no pod"

    settings = tomllib.loads(toml_of(documents))
    ways_out = {port["port"] for policy in by_kind.get("NetworkPolicy", []) for way in policy["spec"]["egress"]
                for port in way["ports"]}
    needed = ports_of_others(settings) if ways_out else set()
    assert needed <= ways_out, f"{needed - ways_out} is no way out"
    variables = {each["name"]: each["value"] for each in container.get("env", [])}
    if folder := variables.get("SSL_CERT_DIR"):
        # Each variable alone would replace all authorities.
        assert variables["SSL_CERT_FILE"] == "/etc/ssl/certs/ca-certificates.crt"
        assert [mount["mountPath"] for mount in container["volumeMounts"]].count(folder) == 1, f"{folder} is not mounted"

    ingress = settings["ingress"]
    least = seconds(ingress["shutdown_delay"]) + seconds(ingress["shutdown_grace"]) + 15
    assert pod["terminationGracePeriodSeconds"] == math.ceil(least), f"{least} s are needed"
    print(f"{len(documents)} objects are valid for Kubernetes {version}")


def ports_of_others(settings):
    """Of Nexudus's API, the token server and the collector."""
    urls = [settings["kafka"].get("oauth", {}).get("token_endpoint"), settings.get("telemetry", {}).get("otlp_endpoint")]
    if "nexudus" in settings:
        urls.append(settings["nexudus"].get("base_url", "https://spaces.nexudus.com"))
    parts = [urlsplit(url) for url in urls if url]
    return {part.port or {"http": 80, "https": 443}[part.scheme] for part in parts}


def seconds(duration):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)\s*(ms|s|m|h)", duration))


def toml_of(documents):
    maps = [each.get("data", {}) for each in documents if each["kind"] == "ConfigMap"]
    (text,) = [data["nexudus-bridge.toml"] for data in maps if "nexudus-bridge.toml" in data]
    return text


def rules(folder, documents):
    """Writes the rules into files as in deploy/prometheus/rules, for promtool."""
    (rule,) = [each for each in documents if each["kind"] == "PrometheusRule"]
    groups = {group["name"]: group for group in rule["spec"]["groups"]}
    for file in Path("nexudus-bridge/files/rules").glob("*.yml"):
        names = [group["name"] for group in yaml.safe_load(file.read_text())["groups"]]
        Path(folder, file.name).write_text(yaml.safe_dump({"groups": [groups.pop(name) for name in names]}))
    assert not groups, f"{list(groups)} are groups of no file"


def config(program, documents):
    """`config check` of the bridge, with invented files in the place of those that are mounted."""
    (deployment,) = [each for each in documents if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["serve", "--config", DEFAULT_CONFIG]
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder, "certificate")
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=check", "-days", "2"]
        command += ["-keyout", f"{folder}/key", "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        text = toml_of(documents)
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            for item in (volume.get("secret") or volume.get("configMap") or {}).get("items", []):
                path = Path(folder + mount["mountPath"], item["path"])
                path.parent.mkdir(parents=True, exist_ok=True)
                sources = {".crt": certificate, ".key": Path(folder, "key")}
                source = sources.get(path.suffix)
                path.write_text(source.read_text() if source else "inventedinvented\n")
        for base in ("/run/secrets/", "/run/config/"):
            text = text.replace(f'"{base}', f'"{folder}{base}')
        file = Path(folder, "nexudus-bridge.toml")
        file.write_text(text)
        checked = subprocess.run([program, "config", "check", "--config", file], capture_output=True, text=True)
        assert checked.returncode == 0, f"{checked.stderr}\n{text}"
    print("the bridge accepts the configuration")


def main():
    what, argument, file, *definitions = sys.argv[1:]
    documents = [document for document in yaml.safe_load_all(Path(file).read_text()) if document]
    if what == "objects":
        objects(argument, documents, definitions)
    else:
        {"config": config, "rules": rules}[what](argument, documents)


main()
