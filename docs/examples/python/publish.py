"""Publishes which commit is live, as a ConfigMap. KUBECONFIG is found by the client itself."""

import os

from kubernetes import client, config

NAMESPACE, NAME = "shop", "live"

config.load_kube_config()
api = client.CoreV1Api()
live = client.V1ConfigMap(
    metadata=client.V1ObjectMeta(name=NAME),
    data={"commit": os.environ["CI_COMMIT_SHA"], "job": os.environ["CI_JOB_ID"]},
)
known = api.list_namespaced_config_map(NAMESPACE, field_selector=f"metadata.name={NAME}").items
if known:
    api.patch_namespaced_config_map(NAME, NAMESPACE, live)
else:
    api.create_namespaced_config_map(NAMESPACE, live)
