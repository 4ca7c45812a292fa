"""A schema for RayCluster and RayJob: KubeRay's fields, pods by Kubernetes' own schema.

KubeRay's CRDs are in no package that pip installs. The fields and their types are those of the reference for ray.io/v1
(KubeRay 1.6.2); anything else is refused, as the API server does. Everything below a pod template, and the other kinds,
are checked with the strict schemas of Kubernetes itself, which the package kubernetes-validate brings.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

KUBERNETES = "1.37"
FOLDER = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
DEFINITIONS = json.loads((FOLDER / "_definitions.json").read_text())

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
YES: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def closed(required: tuple[str, ...] = (), **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def many(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def core(name: str) -> Schema:
    group = "apimachinery.pkg.apis.meta" if name == "ObjectMeta" else "api.core"
    return {"$ref": f"{DEFINITIONS['$id']}#/$defs/io.k8s.{group}.v1.{name}"}


CREDENTIAL = closed(value=TEXT, valueFrom=core("EnvVarSource"))
HEAD_GROUP = closed(
    ("rayStartParams", "template"),
    template=core("PodTemplateSpec"),
    headService=core("Service"),
    enableIngress=YES,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
)
WORKER_GROUP = closed(
    ("groupName", "maxReplicas", "minReplicas", "rayStartParams", "template"),
    suspend=YES,
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=core("PodTemplateSpec"),
    scaleStrategy=closed(workersToDelete=many(TEXT)),
    numOfHosts=COUNT,
)
AUTOSCALER = closed(
    resources=core("ResourceRequirements"),
    image=TEXT,
    imagePullPolicy=one_of("Always", "Never", "IfNotPresent"),
    securityContext=core("SecurityContext"),
    idleTimeoutSeconds=COUNT,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    version=one_of("v1", "v2"),
    env=many(core("EnvVar")),
    envFrom=many(core("EnvFromSource")),
    volumeMounts=many(core("VolumeMount")),
)
CLUSTER = closed(
    ("headGroupSpec",),
    upgradeStrategy=closed(type=one_of("Recreate", "None")),
    authOptions=closed(enableK8sTokenAuth=YES, secretName=TEXT, mode=one_of("disabled", "token")),
    suspend=YES,
    managedBy=one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=YES,
    gcsFaultToleranceOptions=closed(
        redisUsername=CREDENTIAL, redisPassword=CREDENTIAL, externalStorageNamespace=TEXT, redisAddress=TEXT
    ),
    headGroupSpec=HEAD_GROUP,
    rayVersion=TEXT,
    workerGroupSpecs=many(WORKER_GROUP),
)
JOB = closed(
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=core("PodTemplateSpec"),
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=closed(backoffLimit=COUNT),
    managedBy=one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    ttlSecondsAfterFinished=COUNT,
    preRunningDeadlineSeconds=COUNT,
    shutdownAfterJobFinishes=YES,
    suspend=YES,
)


def schema_of(document: dict[str, Any]) -> Schema:
    """The schema for a Kubernetes object. Raises ``KeyError`` for a ray.io kind that is not known here."""
    if document["apiVersion"] != "ray.io/v1":
        name = f"{document['kind'].lower()}-{document['apiVersion'].rpartition('/')[2]}.json"
        found: Schema = json.loads((FOLDER / name).read_text())
        return found
    spec = {"RayCluster": CLUSTER, "RayJob": JOB}[document["kind"]]
    fields = ("apiVersion", "kind", "metadata", "spec")
    return closed(fields, apiVersion=TEXT, kind=TEXT, metadata=core("ObjectMeta"), spec=spec)


def errors(document: dict[str, Any]) -> list[str]:
    """What is wrong with a Kubernetes object; empty when nothing is."""
    registry: Registry[Any] = Registry().with_resource(DEFINITIONS["$id"], Resource.from_contents(DEFINITIONS))
    schema = {"$schema": DEFINITIONS["$schema"], "$id": f"{DEFINITIONS['$id'].rpartition('/')[0]}/x.json"}
    validator = Draft202012Validator(schema_of(document) | schema, registry=registry)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(document)]
