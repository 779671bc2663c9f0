package main

import (
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const nodeIP = "127.0.0.1"

type step int

const (
	doNothing step = iota
	bindPod
	runPod
	finishPod
	removePod
	askAgain
)

// nextStep decides what a pod needs now; for askAgain, also after what time.
func nextStep(pod *corev1.Pod, node string, now time.Time) (step, time.Duration) {
	switch {
	case pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && len(pod.Spec.SchedulingGates) == 0:
		return bindPod, 0
	case pod.Spec.NodeName != node:
		return doNothing, 0
	case pod.DeletionTimestamp != nil:
		if pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0 {
			return doNothing, 0 // only finalizers hold it
		}
		return removePod, 0
	case pod.Status.Phase == corev1.PodPending || pod.Status.Phase == "":
		return runPod, 0
	case pod.Status.Phase == corev1.PodRunning && pod.Spec.RestartPolicy != corev1.RestartPolicyAlways:
		if left := runTime - now.Sub(startedAt(pod)); left > 0 {
			return askAgain, left
		}
		return finishPod, 0
	}
	return doNothing, 0
}

func startedAt(pod *corev1.Pod) time.Time {
	if pod.Status.StartTime == nil {
		return pod.CreationTimestamp.Time
	}
	return pod.Status.StartTime.Time
}

func runningStatus(pod *corev1.Pod, address string, now metav1.Time) corev1.PodStatus {
	return corev1.PodStatus{
		Phase:     corev1.PodRunning,
		StartTime: &now,
		HostIP:    nodeIP,
		HostIPs:   []corev1.HostIP{{IP: nodeIP}},
		PodIP:     address,
		PodIPs:    []corev1.PodIP{{IP: address}},
		Conditions: conditions(now, "", corev1.PodScheduled, corev1.PodInitialized,
			corev1.ContainersReady, corev1.PodReady),
		InitContainerStatuses: containerStatuses(pod.Spec.InitContainers, terminated(now, now), false),
		ContainerStatuses: containerStatuses(pod.Spec.Containers,
			corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}, true),
	}
}

func succeededStatus(pod *corev1.Pod, now metav1.Time) corev1.PodStatus {
	status := *pod.Status.DeepCopy()
	status.Phase = corev1.PodSucceeded
	status.Conditions = append(
		conditions(now, "", corev1.PodScheduled, corev1.PodInitialized),
		conditions(now, "PodCompleted", corev1.ContainersReady, corev1.PodReady)...)
	status.ContainerStatuses = containerStatuses(
		pod.Spec.Containers, terminated(metav1.NewTime(startedAt(pod)), now), false)
	return status
}

// conditions are true without a reason, and false with one.
func conditions(now metav1.Time, reason string, kinds ...corev1.PodConditionType) []corev1.PodCondition {
	value := corev1.ConditionTrue
	if reason != "" {
		value = corev1.ConditionFalse
	}
	all := make([]corev1.PodCondition, 0, len(kinds))
	for _, kind := range kinds {
		all = append(all, corev1.PodCondition{Type: kind, Status: value, Reason: reason, LastTransitionTime: now})
	}
	return all
}

func containerStatuses(containers []corev1.Container, state corev1.ContainerState, ready bool) []corev1.ContainerStatus {
	all := make([]corev1.ContainerStatus, 0, len(containers))
	for _, c := range containers {
		all = append(all, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: "none://" + c.Image, ContainerID: "none://" + c.Name,
			State: state, Ready: ready, Started: &ready,
		})
	}
	return all
}

func terminated(started, finished metav1.Time) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: "Completed", StartedAt: started, FinishedAt: finished,
	}}
}

// addresses gives each pod one of its own, as endpoints may not be loopback addresses. Nothing listens there.
type addresses struct{ last atomic.Uint32 }

func (a *addresses) next() string {
	n := a.last.Add(1)
	return fmt.Sprintf("10.244.%d.%d", n/254%256, n%254+1)
}
