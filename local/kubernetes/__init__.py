"""A real Kubernetes on this machine, and real clients for it, without containers.

The API server, etcd and the controller manager are Kubernetes' own programs: RBAC, impersonation,
admission, watches, audit log and every refusal's wording are the real thing. What a cluster has
beyond them is played by one small program of ours, `fakelet` (see `fakelet/main.go`):

- it registers one Ready node and binds every pod to it, as a scheduler would;
- a pod is Running and Ready at once. Nothing of it runs: no image is pulled, no command executed;
- a pod whose restartPolicy is Never or OnFailure, as a Job's, ends as Succeeded about a second
  after its start, whatever its command is. A Job that fails can't be had this way;
- a deleted pod is gone at once: there is no grace period to wait for;
- `kubectl logs` shows a first line with the pod, the image and its arguments, then one line a
  second (the latest 1,000); `-f` ends when the pod does. A file placed by hand at
  `Cluster.logs`/NAMESPACE/POD/CONTAINER.log (or .previous.log), of lines "RFC-3339-TIME TEXT",
  is served instead;
- exec runs its command on this machine, attach echoes, port-forward joins the same local port.

Not there: node selectors, taints, resources, probes, volumes, images, pod networking, services'
addresses, DNS, ingress, metrics.

Everything listens on 127.0.0.1 (etcd on a Unix socket alone) and asks for a credential: a second
user of this machine can reach neither etcd nor fakelet's exec. All certificates are checked.

| module | what |
|---|---|
| `binaries` | finds or builds the four programs |
| `clients` | kubectl and helm |
| `cluster` | starts and stops a cluster |
| `audit` | reads the API server's audit log |

`python -m local.kubernetes` prepares binaries and clients and prints where they are.
"""
