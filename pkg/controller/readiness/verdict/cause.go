package verdict

import corev1 "k8s.io/api/core/v1"

// whyNotReady looks for the first container, then the first gate, that keeps a
// pod from being ready. Containers first: a gate often waits for them.
func whyNotReady(pod *corev1.Pod) (reason Reason, subject, detail string) {
	restartable := restartableOf(pod)
	if c := unfinishedInit(pod, restartable); c != nil {
		return Initializing, c.Name, containerState(c, "runs")
	}
	if c := notReadyContainer(pod, restartable); c != nil {
		return ContainerNotReady, c.Name, containerState(c, "readiness probe fails")
	}
	for _, gate := range pod.Spec.ReadinessGates {
		c := condition(pod, gate.ConditionType)
		switch {
		case c == nil:
			return GateNotTrue, string(gate.ConditionType), "no such condition"
		case c.Status != corev1.ConditionTrue:
			return GateNotTrue, string(gate.ConditionType), c.Reason
		}
	}
	if c := condition(pod, corev1.PodReady); c != nil {
		return NotReady, "", c.Reason
	}
	return NotReady, "", "no Ready condition"
}

// whyNoAddress says what a pod without address waits for, as far as it tells.
func whyNoAddress(pod *corev1.Pod) string {
	if c := condition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		return c.Reason
	}
	restartable := restartableOf(pod)
	if c := unfinishedInit(pod, restartable); c != nil {
		return containerState(c, "")
	}
	if c := notReadyContainer(pod, restartable); c != nil {
		return containerState(c, "")
	}
	return ""
}

func restartableOf(pod *corev1.Pod) map[string]bool {
	out := map[string]bool{}
	for i := range pod.Spec.InitContainers {
		out[pod.Spec.InitContainers[i].Name] = isRestartable(&pod.Spec.InitContainers[i])
	}
	return out
}

// unfinishedInit returns the ordinary init container that is at work or has
// failed. Those behind it wait for the pod, those before it have ended well.
func unfinishedInit(pod *corev1.Pod, restartable map[string]bool) *corev1.ContainerStatus {
	const behind = "PodInitializing"
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		switch s := c.State; {
		case restartable[c.Name]:
		case s.Running != nil, s.Terminated != nil && s.Terminated.ExitCode != 0,
			s.Waiting != nil && s.Waiting.Reason != "" && s.Waiting.Reason != behind:
			return c
		}
	}
	return nil
}

// notReadyContainer returns the first container that counts for readiness and is
// not ready: ordinary ones, and init containers that are restartable.
func notReadyContainer(pod *corev1.Pod, restartable map[string]bool) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if !pod.Status.ContainerStatuses[i].Ready {
			return &pod.Status.ContainerStatuses[i]
		}
	}
	for i := range pod.Status.InitContainerStatuses {
		if c := &pod.Status.InitContainerStatuses[i]; !c.Ready && restartable[c.Name] {
			return c
		}
	}
	return nil
}

// containerState says what a container that is not ready does; whenRunning is
// for one that has started.
func containerState(c *corev1.ContainerStatus, whenRunning string) string {
	switch {
	case c.State.Waiting != nil:
		return c.State.Waiting.Reason
	case c.State.Terminated != nil:
		return c.State.Terminated.Reason
	case c.State.Running != nil && c.Started != nil && !*c.Started:
		return "startup probe has not succeeded"
	case c.State.Running != nil:
		return whenRunning
	}
	return ""
}
