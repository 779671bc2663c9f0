"""Commands that change, wait, follow and delete, and helm's."""

from __future__ import annotations

from tests.kubectl_matrix.step import Step, eventual, refused, shown_as, topic

CHANGE = topic(
    "create and change",
    "kubectl create configmap made --from-literal=a=b --from-file=blob=/usr/bin/true",
    "kubectl create configmap made --from-literal=a=b",
    "kubectl create secret generic hidden --from-literal=password=x --output=yaml",
    "kubectl create role reader2 --verb=get --resource=pods",
    "kubectl create quota most --hard=pods=50",
    "kubectl create deployment other --image=registry.example/other:1 --replicas=0",
    "kubectl create -f owned.yaml --dry-run=server --output=yaml",
    "kubectl create --raw=/api/v1/namespaces/$SPACE/configmaps -f raw.json",
    "kubectl expose deployment other --port=80",
    "kubectl set image deployment/other other=registry.example/other:2",
    "kubectl set env deployment/other LEVEL=info",
    "kubectl label configmap made tier=one --overwrite",
    "kubectl annotate configmap made note='with spaces, = and ü'",
    "kubectl label configmap made 'bad label!=x'",
    """kubectl patch configmap made --patch='{"data": {"c": "d"}}'""",
    """kubectl patch configmap made --type=merge --patch='{"data": {"a": null}}' --output=yaml""",
    """kubectl patch configmap made --type=json --patch='[{"op": "remove", "path": "/data/c"}]'""",
    """kubectl patch configmap made --type=json --patch='[{"op": "remove", "path": "/x"}]'""",
    """kubectl patch configmap made --patch='{"data": 7}'""",
    "kubectl patch deployment other --subresource=scale --type=merge"
    """ --patch='{"spec": {"replicas": 0}}'""",
    "kubectl scale deployment/other --replicas=0 --current-replicas=5",
    "kubectl autoscale deployment other --min=1 --max=2 --cpu-percent=80",
    "kubectl replace -f owned.yaml",
    "kubectl replace --force -f owned.yaml",
    "KUBE_EDITOR='sed -i s/red/green/' kubectl edit configmap owned",
    "kubectl cordon local --dry-run=server",
    "kubectl taint nodes local a=b:NoSchedule --dry-run=server",
)
ROLLOUT = topic(
    "rollout and wait",
    "kubectl rollout history deployment/web",
    "kubectl set image deployment/web web=registry.example/web:2",
    "kubectl rollout status deployment/web --timeout=60s | tail -1",
    "kubectl rollout history deployment/web --revision=2",
    "kubectl rollout undo deployment/web",
    "kubectl rollout status deployment/web --timeout=60s | tail -1",
    "kubectl rollout pause deployment/web",
    "kubectl rollout resume deployment/web",
    "kubectl rollout restart deployment/web",
    "kubectl scale deployment/web --replicas=1 --timeout=30s",
    "kubectl wait --for=jsonpath='{.status.availableReplicas}'=1 deployment/web --timeout=60s",
    "kubectl wait --for=condition=Nonsense deployment/web --timeout=2s",
    shown_as(
        "kubectl wait --for=create configmap/later",
        "(sleep 1; kubectl create configmap later >/dev/null) &"
        " kubectl wait --for=create configmap/later --timeout=30s",
    ),
    shown_as(
        "kubectl wait --for=delete configmap/later",
        "(sleep 1; kubectl delete configmap later >/dev/null) &"
        " kubectl wait --for=delete configmap/later --timeout=30s",
    ),
    "kubectl create job once --image=registry.example/once:1 -- work",
    "kubectl wait --for=condition=complete job/once --timeout=60s",
    "kubectl create cronjob nightly --image=registry.example/n:1 --schedule='0 3 * * *'",
    "kubectl create job by-hand --from=cronjob/nightly",
    "kubectl get cronjob nightly",
)
_LOG = "$LOGS/$SPACE/quiet"
LOGS = topic(
    "logs",
    shown_as(
        "kubectl apply -f quiet.yaml && kubectl wait --for=condition=Ready",
        f"mkdir -p {_LOG}"
        f" && printf '2026-01-01T00:00:0%s.000000001Z line %s ü\\n' 1 1 2 2 3 3 >{_LOG}/quiet.log"
        f" && printf '2025-01-01T00:00:00.000000001Z before\\n' >{_LOG}/quiet.previous.log"
        " && kubectl apply -f quiet.yaml"
        " && kubectl wait --for=condition=Ready pod/quiet --timeout=60s",
    ),
    "kubectl logs quiet",
    "kubectl logs quiet --tail=1 --timestamps",
    "kubectl logs quiet --since-time=2026-01-01T00:00:02Z",
    "kubectl logs quiet --limit-bytes=5",
    "kubectl logs quiet --previous",
    "kubectl logs -l app=quiet --prefix",
    "kubectl logs quiet --container=nonsense",
    "kubectl logs missing",
    "kubectl logs job/once --limit-bytes=12",
    shown_as(
        "kubectl logs --follow quiet (it grows, then the pod ends)",
        "(for n in 4 5 6; do sleep 0.5;"
        f" printf '2026-01-01T00:00:0%sZ line\\n' $n >>{_LOG}/quiet.log; done;"
        " sleep 1; kubectl delete pod quiet --now >/dev/null 2>&1) & kubectl logs --follow quiet",
    ),
)
NOT_CARRIED = topic(
    "not carried",
    shown_as(
        "kubectl apply -f loud.yaml && kubectl wait --for=condition=Ready",
        "mkdir -p $LOGS/$SPACE/loud && touch $LOGS/$SPACE/loud/loud.log"
        " && kubectl apply -f loud.yaml"
        " && kubectl wait --for=condition=Ready pod/loud --timeout=60s",
    ),
    refused("kubectl exec loud -- true", "unsupported"),
    refused("timeout 3 kubectl attach loud", "unsupported"),
    refused("kubectl cp loud:/etc/hostname hostname", "unsupported"),
    refused("timeout 3 kubectl port-forward loud 0:8080", "unsupported"),
    refused("kubectl get pods --as=somebody", "client_impersonation"),
    shown_as("kubectl logs loud (an empty log)", "kubectl logs loud"),
)
WATCH = topic(
    "watch",
    shown_as(
        "kubectl get configmaps --watch --output-watch-events --output=name",
        "(sleep 1.5; for n in 1 2 3; do kubectl create configmap seen-$n; done;"
        " kubectl delete configmap seen-2) >/dev/null &"
        " timeout 6 kubectl get configmaps --watch-only --output-watch-events",
    ),
    shown_as(
        "kubectl get configmap seen-1 --watch --output=jsonpath",
        "(sleep 1.5; kubectl label configmap seen-1 a=b) >/dev/null &"
        " timeout 5 kubectl get configmap seen-1 --watch --output=jsonpath='{.metadata.labels}'",
    ),
    "kubectl get configmaps --watch --request-timeout=2s --output=name",
)
LISTS = topic(
    "lists, paging and large answers",
    shown_as(
        "kubectl apply -f - (60 config maps)",
        "for n in $(seq 60); do printf -- '---\\napiVersion: v1\\nkind: ConfigMap\\nmetadata:\\n"
        "  name: many-%s\\n  labels: {app: many}\\n' $n; done | kubectl apply -f -",
    ),
    "kubectl get configmaps -l app=many --chunk-size=7 --output=name",
    "kubectl get configmaps -l app=many --chunk-size=0 --output=name",
    "kubectl get --raw=/api/v1/namespaces/$SPACE/configmaps?limit=2 | grep -o 'Count.*'",
    shown_as(
        "kubectl create configmap --from-file (900 KB)",
        "head -c 900000 /dev/zero | tr '\\0' x >large"
        " && kubectl create configmap large --from-file=large",
    ),
    "kubectl get configmap large --output=jsonpath='{.data}' | sha256sum",
    shown_as(
        "kubectl create configmap --from-file (4 MB: too large)",
        "head -c 4000000 /dev/zero | tr '\\0' x >larger"
        " && kubectl create configmap larger --from-file=larger",
    ),
)
CUSTOM = topic(
    "custom resources",
    "kubectl apply -f kinds.yaml",
    "kubectl wait --for=condition=Established crd/cars.$SPACE.example --timeout=30s",
    Step(command="kubectl apply -f car.yaml", eventual=True),
    "kubectl get cars.$SPACE.example",
    "kubectl apply -f wrong-car.yaml",
    "kubectl explain cars.spec.doors --api-version=$SPACE.example/v1",
    "kubectl scale cars.$SPACE.example/fast --replicas=4",
    """kubectl patch cars.$SPACE.example fast --type=strategic --patch='{"spec": {"doors": 2}}'""",
    """kubectl patch cars.$SPACE.example fast --type=merge --subresource=status"""
    """ --patch='{"status": {"doors": 1}}'""",
    "kubectl get cars.$SPACE.example fast --output=yaml",
    "kubectl apply -f large-kind.json",
    "kubectl apply --server-side -f large-kind.json",
    "kubectl get crd larges.$SPACE.example --output=jsonpath='{.spec.versions}' | sha256sum",
    "kubectl delete -f large-kind.json -f kinds.yaml --wait=true",
)
DELETE = topic(
    "delete",
    "kubectl delete configmap made --dry-run=server",
    "kubectl delete configmap made",
    "kubectl delete configmap made",
    "kubectl delete configmap made --ignore-not-found",
    "kubectl delete --raw=/api/v1/namespaces/$SPACE/configmaps/raw | grep -o Success",
    "kubectl delete configmaps -l app=many | wc -l",
    "kubectl delete deployment other --cascade=orphan",
    "kubectl delete job once by-hand --wait=false",
    "kubectl delete deployment web --cascade=foreground --timeout=60s",
    "kubectl delete service,configmap --all",
)
HELM = topic(
    "helm",
    "helm list",
    "helm install shelf chart --wait --timeout=90s",
    "helm install shelf chart",
    "helm list --output=json",
    eventual("helm status shelf"),
    "helm get manifest shelf",
    "helm get values shelf --all",
    "helm get hooks shelf",
    "helm upgrade shelf chart --set=title=second,replicas=2 --dry-run=server",
    "helm upgrade shelf chart --set=title=second,replicas=2 --wait --timeout=90s",
    "kubectl get configmap shelf --output=jsonpath='{.data.title}'",
    "helm history shelf",
    "helm test shelf --timeout=60s",
    "helm rollback shelf 1 --wait --timeout=90s",
    "helm upgrade --install second chart --set=replicas=0",
    "helm upgrade shelf chart --set-string=replicas=many",
    "helm list --short",
    "helm uninstall shelf --keep-history",
    "helm list --uninstalled --short",
    "helm uninstall shelf second",
    "helm status shelf",
    "helm template shelf chart --validate",
)
