package main

import (
	"log"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/listers/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// How long an exec, attach or port-forward may be silent, as in the kubelet.
const idleTime = 4 * time.Hour

// kubeletAPI is what the API server asks of a kubelet:
// /containerLogs/NAMESPACE/POD/CONTAINER, /exec, /attach and /portForward the same, with an optional uid before the last.
type kubeletAPI struct {
	logs     string
	pods     v1.PodLister
	commands *commands
}

func (k *kubeletAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	log.Printf("%s %s", r.Method, r.URL.Path)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case parts[0] == "containerLogs" && len(parts) == 4:
		k.serveLogs(w, r, parts[1], parts[2], parts[3])
	case (parts[0] == "exec" || parts[0] == "attach") && (len(parts) == 4 || len(parts) == 5):
		k.serveCommand(w, r, parts[0], parts[1]+"/"+parts[2], parts[len(parts)-1])
	case parts[0] == "portForward" && (len(parts) == 3 || len(parts) == 4):
		k.servePortForward(w, r, parts[1]+"/"+parts[2])
	default:
		http.NotFound(w, r)
	}
}

func (k *kubeletAPI) serveCommand(w http.ResponseWriter, r *http.Request, verb, pod, container string) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	creation, protocols := remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols
	if verb == "exec" {
		remotecommand.ServeExec(w, r, k.commands, pod, "", container, r.URL.Query()["command"], options,
			idleTime, creation, protocols)
		return
	}
	remotecommand.ServeAttach(w, r, k.commands, pod, "", container, options, idleTime, creation, protocols)
}

func (k *kubeletAPI) servePortForward(w http.ResponseWriter, r *http.Request, pod string) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, k.commands, pod, "", options,
		idleTime, remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
}
