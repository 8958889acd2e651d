package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// truncate cuts subsets down to MaxEndpoints addresses, the ready ones first,
// from each subset by its share, and says whether it had to. It changes the
// list it is given.
func truncate(subsets []corev1.EndpointSubset) ([]corev1.EndpointSubset, bool) {
	ready, notReady := 0, 0
	for i := range subsets {
		ready += len(subsets[i].Addresses)
		notReady += len(subsets[i].NotReadyAddresses)
	}
	switch {
	case ready+notReady <= MaxEndpoints:
		return subsets, false
	case ready > MaxEndpoints:
		for i := range subsets {
			subsets[i].NotReadyAddresses = nil
		}
		cut(subsets, MaxEndpoints, ready, func(s *corev1.EndpointSubset) *[]corev1.EndpointAddress { return &s.Addresses })
	default:
		cut(subsets, MaxEndpoints-ready, notReady, func(s *corev1.EndpointSubset) *[]corev1.EndpointAddress { return &s.NotReadyAddresses })
	}
	// The API refuses a subset without any address. And what is left of two
	// subsets may be the same addresses.
	return repack(slices.DeleteFunc(subsets, func(s corev1.EndpointSubset) bool {
		return len(s.Addresses)+len(s.NotReadyAddresses) == 0
	})), true
}

// cut leaves room of the total addresses that list finds in subsets.
func cut(subsets []corev1.EndpointSubset, room, total int, list func(*corev1.EndpointSubset) *[]corev1.EndpointAddress) {
	left := room
	for i := range subsets {
		l := list(&subsets[i])
		share := min((len(*l)*room+total-1)/total, left) // rounded up
		*l = (*l)[:share]
		left -= share
	}
}
