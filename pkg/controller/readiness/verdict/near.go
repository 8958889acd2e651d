package verdict

import "strings"

// NearMiss is a pod that has all but one of the labels that a selector wants.
type NearMiss struct {
	// Pod is its name.
	Pod string
	// Label is the one that differs; Want is what the selector wants it to be, and
	// Have what it is. Absent is true if the pod has no such label.
	Label, Want, Have string
	Absent            bool
}

// String says the difference in words.
func (n NearMiss) String() string {
	if n.Absent {
		return "pod " + n.Pod + " has no label " + n.Label + " (want " + n.Want + ")"
	}
	return "pod " + n.Pod + " differs in label " + n.Label + "=" + n.Have + " (want " + n.Want + ")"
}

// Near says whether a pod with these labels is nearly selected. Of a selector of
// a single label all pods have "all but one", so there the value must look like
// what is wanted.
func Near(selector map[string]string, pod string, labels map[string]string) (NearMiss, bool) {
	var miss NearMiss
	for name, want := range selector {
		have, exists := labels[name]
		if exists && have == want {
			continue
		}
		if miss.Label != "" {
			return NearMiss{}, false
		}
		miss = NearMiss{Pod: pod, Label: name, Want: want, Have: have, Absent: !exists}
	}
	if miss.Label == "" || len(selector) == 1 && (miss.Absent || !alike(miss.Have, miss.Want)) {
		return NearMiss{}, false
	}
	return miss, true
}

// alike says whether two values may be meant to be the same: one begins or ends
// with the other, or they differ in case or by a slip of the pen.
func alike(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	a, b = strings.ToLower(a), strings.ToLower(b)
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) || strings.HasSuffix(a, b) || strings.HasSuffix(b, a) || oneEdit(a, b)
}

// oneEdit says whether a byte more, less or other makes a to b.
func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 || len(b) < 3 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) == len(b) {
		return a[min(i+1, len(a)):] == b[min(i+1, len(b)):]
	}
	return a[i:] == b[i+1:]
}
