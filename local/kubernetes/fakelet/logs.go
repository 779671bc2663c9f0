package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	tickTime = time.Second
	// A container's own log keeps its first line and this many of the latest others.
	keptTicks = 1000
	// How often a followed log is looked at again.
	pollTime = 100 * time.Millisecond
)

// line is one line of a log; text has its line end, except where the last line of a file is unfinished.
type line struct {
	at   string // RFC 3339
	text string
}

// source gives the lines that are new since the last call.
type source interface {
	read(now time.Time) ([]line, error)
}

// logRequest holds the query of https://kubernetes.io/docs/reference/kubernetes-api/ "read log of the specified Pod",
// as the API server passes it on.
type logRequest struct {
	follow, timestamps, previous bool
	since                        time.Time
	tail                         int // -1: all
}

func parseLogRequest(q url.Values, now time.Time) (logRequest, error) {
	r := logRequest{
		follow:     q.Get("follow") == "true",
		timestamps: q.Get("timestamps") == "true",
		previous:   q.Get("previous") == "true",
		tail:       -1,
	}
	var err error
	if v := q.Get("tailLines"); v != "" {
		if r.tail, err = strconv.Atoi(v); err != nil || r.tail < 0 {
			return r, fmt.Errorf("tailLines %q is not a count", v)
		}
	}
	if v := q.Get("sinceTime"); v != "" {
		if r.since, err = time.Parse(time.RFC3339, v); err != nil {
			return r, fmt.Errorf("sinceTime: %w", err)
		}
	}
	if v := q.Get("sinceSeconds"); v != "" {
		seconds, err := strconv.Atoi(v)
		if err != nil {
			return r, fmt.Errorf("sinceSeconds: %w", err)
		}
		r.since = now.Add(-time.Duration(seconds) * time.Second)
	}
	return r, nil
}

func (r logRequest) wants(l line) bool {
	if r.since.IsZero() {
		return true
	}
	at, err := time.Parse(time.RFC3339Nano, l.at)
	return err != nil || !at.Before(r.since)
}

func (r logRequest) write(w io.Writer, lines []line) error {
	for _, l := range lines {
		text := l.text
		if r.timestamps {
			text = l.at + " " + text
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

func (k *kubeletAPI) serveLogs(w http.ResponseWriter, r *http.Request, namespace, name, container string) {
	request, err := parseLogRequest(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, err := k.pods.Pods(namespace).Get(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	lines, done, err := k.openLog(pod, container, request.previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer done()
	w.Header().Set("Content-Type", "text/plain")
	running := func() bool { return k.runs(namespace, name, pod.UID) }
	// An error here is the caller's connection: there is nobody to tell.
	_ = copyLog(r.Context(), w, request, lines, running)
}

// copyLog sends what the log holds, then, to a follower, what comes until the pod ends.
func copyLog(ctx context.Context, w io.Writer, request logRequest, log source, running func() bool) error {
	lines, err := log.read(time.Now())
	if err != nil {
		return err
	}
	lines = slices.DeleteFunc(lines, func(l line) bool { return !request.wants(l) })
	if request.tail >= 0 && request.tail < len(lines) {
		lines = lines[len(lines)-request.tail:]
	}
	flusher, _ := w.(http.Flusher)
	poll := time.NewTicker(pollTime)
	defer poll.Stop()
	for last := !request.follow; ; {
		if err := request.write(w, lines); err != nil {
			return err
		}
		// As the kubelet: while there is no line, the caller gets no head either.
		if flusher != nil && len(lines) > 0 {
			flusher.Flush()
		}
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
		last = !running() // before the read, so that the pod's last words are sent
		if lines, err = log.read(time.Now()); err != nil {
			return err
		}
	}
}

// runs tells whether that very pod, not a later one of the same name, still writes logs.
func (k *kubeletAPI) runs(namespace, name string, uid types.UID) bool {
	pod, err := k.pods.Pods(namespace).Get(name)
	return err == nil && pod.UID == uid && pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning
}

// openLog prefers a file placed by hand to the log that the container makes up by itself.
func (k *kubeletAPI) openLog(pod *corev1.Pod, container string, previous bool) (source, func(), error) {
	suffix := ".log"
	if previous {
		suffix = ".previous.log"
	}
	file, err := os.Open(filepath.Join(k.logs, pod.Namespace, pod.Name, container+suffix))
	switch {
	case err == nil:
		return &fileLog{reader: bufio.NewReader(file)}, func() { _ = file.Close() }, nil
	case previous || !os.IsNotExist(err):
		return nil, nil, fmt.Errorf("container %q of pod %q has no such log", container, pod.Name)
	}
	all := append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...)
	at := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == container })
	if at < 0 {
		return nil, nil, fmt.Errorf("pod %q has no container %q", pod.Name, container)
	}
	return newOwnLog(pod, all[at], at < len(pod.Spec.InitContainers)), func() {}, nil
}

// fileLog reads lines "<RFC 3339 time> <text>" as they are appended.
type fileLog struct {
	reader *bufio.Reader
	part   string
}

func (f *fileLog) read(time.Time) ([]line, error) {
	var lines []line
	for {
		text, err := f.reader.ReadString('\n')
		f.part += text
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		at, rest, _ := strings.Cut(f.part, " ")
		lines = append(lines, line{at, rest})
		f.part = ""
	}
}

// ownLog is a log that nobody has to write: its lines follow from the container's start and the time.
type ownLog struct {
	first      line
	start, end time.Time // end is zero while the container runs
	next       int       // the next line to send; 0 is the first
}

func newOwnLog(pod *corev1.Pod, container corev1.Container, initial bool) *ownLog {
	start := startedAt(pod)
	words := strings.Join(append(slices.Clone(container.Command), container.Args...), " ")
	own := &ownLog{start: start, first: line{
		start.UTC().Format(time.RFC3339Nano),
		fmt.Sprintf("started pod=%s/%s container=%s image=%s args=%q\n",
			pod.Namespace, pod.Name, container.Name, container.Image, words),
	}}
	if initial {
		own.end = start
	}
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == container.Name && status.State.Terminated != nil {
			own.end = status.State.Terminated.FinishedAt.Time
		}
	}
	return own
}

func (o *ownLog) read(now time.Time) ([]line, error) {
	if !o.end.IsZero() {
		now = o.end
	}
	var lines []line
	if o.next == 0 {
		lines = append(lines, o.first)
		o.next = 1
	}
	latest := int(now.Sub(o.start) / tickTime)
	for o.next = max(o.next, latest-keptTicks+1); o.next <= latest; o.next++ {
		at := o.start.Add(time.Duration(o.next) * tickTime)
		lines = append(lines, line{at.UTC().Format(time.RFC3339Nano), fmt.Sprintf("running for %d s\n", o.next)})
	}
	return lines, nil
}
