package pool

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Verdict is what is decided about a Service of type LoadBalancer.
type Verdict struct {
	UID types.UID
	// Ours is false if its class is somebody else's: its addresses are none of
	// Signpost's business then, and Addresses is nil.
	Ours bool
	// Addresses are those that the Service has, at most one of each family, in the
	// order of its families.
	Addresses []netip.Addr
	// Satisfied says that it has what it asks for. A Service that is not may have
	// addresses all the same.
	Satisfied bool
	// Reason is one of v1alpha1's for ConditionAddressAssigned; empty for a Service
	// that is not ours and needs nothing. Message says the same to people.
	Reason, Message string
}

func (v *Verdict) equal(other *Verdict) bool {
	return v.UID == other.UID && v.Ours == other.Ours && v.Satisfied == other.Satisfied &&
		v.Reason == other.Reason && v.Message == other.Message && slices.Equal(v.Addresses, other.Addresses)
}

// refusal is why a Service does not get an address.
type refusal struct{ reason, message string }
