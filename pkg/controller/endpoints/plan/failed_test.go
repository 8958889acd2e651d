package plan

import (
	"testing"
)

// TestFailedNode: of 250 pods on two nodes one node fails. Its endpoints are no
// longer for use, in as many writes as there are slices and before anything else;
// and when it is back, so are they.
func TestFailedNode(t *testing.T) {
	pods := manyPods(250)
	for i := range pods {
		pods[i].Spec.NodeName = []string{"node-1", "node-2"}[i%2]
	}
	w := newWorld(service()).nodes(twoNodes).pods(pods...)
	w.sync(t, bothKinds)
	all := w.ready(t)

	w.Failed = map[string]string{"node-1": "silent for 4 s"}
	p := w.sync(t, bothKinds)
	if len(p.Writes) != 4 {
		t.Errorf("%d writes for three slices and the Endpoints", len(p.Writes))
	}
	for _, write := range p.Writes {
		if write.Phase != Removals {
			t.Errorf("%s of %T is of phase %d", write.Verb, write.Object, write.Phase)
		}
	}
	others := w.ready(t)
	if others != 125 || all != 250 {
		t.Errorf("%d of %d endpoints are ready", others, all)
	}

	w.Failed = nil
	w.sync(t, bothKinds)
	if back := w.ready(t); back != all {
		t.Errorf("%d of %d endpoints are back", back, all)
	}
}

// ready counts the endpoints that are ready, and holds that those on a failed node
// are neither that nor serving, and that the Endpoints object says the same.
func (w *world) ready(t *testing.T) int {
	t.Helper()
	n := 0
	for _, s := range w.Slices {
		for _, e := range s.Endpoints {
			_, failed := w.Failed[*e.NodeName]
			if *e.Conditions.Ready == failed || *e.Conditions.Serving == failed {
				t.Errorf("%v on %s is ready %t, serving %t", e.Addresses, *e.NodeName, *e.Conditions.Ready, *e.Conditions.Serving)
			}
			if *e.Conditions.Ready {
				n++
			}
		}
	}
	listed := 0
	for _, s := range w.Endpoints.Subsets {
		listed += len(s.Addresses)
	}
	if listed != n {
		t.Errorf("%d addresses in the Endpoints, %d in the slices", listed, n)
	}
	return n
}
