// Fakelet stands in for a node of a Kubernetes cluster on one machine: kubelet and scheduler in one process, without
// containers.
//
// It registers one Ready Node, binds every pod that waits for a node, and keeps each pod's status as a kubelet would:
// Running and Ready at once; Succeeded after a second where restartPolicy is Never or OnFailure (the pods of Jobs); gone
// as soon as it is deleted. So Deployments roll out, Jobs complete and namespaces finish, while no image is pulled and no
// command of a pod is run. Node selectors, taints, resources, probes and init containers' commands are not looked at.
//
// It serves the kubelet's API to the API server alone, which must show the client certificate of -client-ca:
//
//   - logs: the file <logs>/<namespace>/<pod>/<container>.log (.previous.log) if it exists, of lines
//     "<RFC 3339 time> <text>"; else a first line that names the pod, the image and its arguments, then one line a second;
//   - exec: the given command, run on this machine with POD_NAMESPACE, POD_NAME and CONTAINER set;
//   - attach: a process that echoes its input; port-forward: the same port of 127.0.0.1.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// How long commands of exec and attach may take to end once the process is told to stop.
const stopTime = 2 * time.Second

type options struct {
	node, kubeconfig, logs, certificate, key, clientCA string
}

func main() {
	var o options
	flag.StringVar(&o.node, "node", "local", "name of the node")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server")
	flag.StringVar(&o.logs, "logs", "", "folder of log files placed by hand")
	flag.StringVar(&o.certificate, "tls-cert", "", "certificate of the kubelet's API, for 127.0.0.1")
	flag.StringVar(&o.key, "tls-key", "", "its private key")
	flag.StringVar(&o.clientCA, "client-ca", "", "certificate that a caller must show or be signed by")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1 // no client-side limit: the API server is alone on this machine
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	tlsConfig, err := serverTLS(o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	pods := newPodLoop(client, o.node)
	commands := &commands{}
	server := &http.Server{
		Handler:           &kubeletAPI{logs: o.logs, pods: pods.lister, commands: commands},
		BaseContext:       func(net.Listener) context.Context { return ctx },
		TLSConfig:         tlsConfig,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // an upgrade needs HTTP/1.1
		ReadHeaderTimeout: 10 * time.Second,
	}
	failed := make(chan error, 2)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	if err := pods.start(ctx); err != nil {
		return err
	}
	if err := registerNode(ctx, client, o.node, listener.Addr().(*net.TCPAddr).Port); err != nil {
		return err
	}
	log.Printf("node %s serves the kubelet's API on %s", o.node, listener.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	commands.wait(stopTime)
	return server.Close()
}

func serverTLS(o options) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(o.certificate, o.key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(o.clientCA)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", o.clientCA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert, // exec runs commands: other users of this machine must not reach it
		ClientCAs:    clients,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	}, nil
}
