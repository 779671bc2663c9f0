package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

const (
	podWorkers = 4
	// A pod that is meant to end does so this long after its start.
	runTime = time.Second
	// What a node may do to a pod at most before it is left for the next change of that pod.
	maxTries = 8
)

// podLoop brings every pod of the cluster to the state that its scheduler and its kubelet would.
type podLoop struct {
	client    kubernetes.Interface
	node      string
	factory   informers.SharedInformerFactory
	informer  cache.SharedIndexInformer
	lister    listers.PodLister
	queue     workqueue.TypedRateLimitingInterface[string]
	addresses addresses
}

func newPodLoop(client kubernetes.Interface, node string) *podLoop {
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	return &podLoop{
		client: client, node: node, factory: factory, informer: pods.Informer(), lister: pods.Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]()),
	}
}

// start returns once the pods that exist already are known.
func (l *podLoop) start(ctx context.Context) error {
	enqueue := func(object any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			l.queue.Add(key)
		}
	}
	_, err := l.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) },
	})
	if err != nil {
		return err
	}
	l.factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), l.informer.HasSynced) {
		return fmt.Errorf("pods could not be listed")
	}
	for range podWorkers {
		go l.work(ctx)
	}
	go func() { <-ctx.Done(); l.queue.ShutDown() }()
	return nil
}

func (l *podLoop) work(ctx context.Context) {
	for {
		key, stopped := l.queue.Get()
		if stopped {
			return
		}
		err := l.sync(ctx, key)
		switch {
		case err == nil || errors.IsNotFound(err) || ctx.Err() != nil:
			l.queue.Forget(key)
		case l.queue.NumRequeues(key) < maxTries:
			l.queue.AddRateLimited(key) // mostly a conflict: the cache was behind
		default:
			log.Printf("pod %s: %v", key, err)
			l.queue.Forget(key)
		}
		l.queue.Done(key)
	}
}

func (l *podLoop) sync(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return err
	}
	pod, err := l.lister.Pods(namespace).Get(name)
	if err != nil {
		return err
	}
	pods := l.client.CoreV1().Pods(namespace)
	now := metav1.Now()
	switch step, after := nextStep(pod, l.node, now.Time); step {
	case bindPod:
		return pods.Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: pod.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: l.node},
		}, metav1.CreateOptions{})
	case runPod:
		return l.patchStatus(ctx, pod, runningStatus(pod, l.addresses.next(), now))
	case finishPod:
		return l.patchStatus(ctx, pod, succeededStatus(pod, now))
	case removePod:
		grace := int64(0)
		return pods.Delete(ctx, name, metav1.DeleteOptions{
			GracePeriodSeconds: &grace, Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
		})
	case askAgain:
		l.queue.AddAfter(key, after)
	}
	return nil
}

// patchStatus is conditional on the pod that was seen, so that a new pod of the same name is left alone.
func (l *podLoop) patchStatus(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status":   status,
	})
	if err != nil {
		return err
	}
	_, err = l.client.CoreV1().Pods(pod.Namespace).Patch(
		ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
