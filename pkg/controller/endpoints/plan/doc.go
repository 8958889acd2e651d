// Package plan decides what EndpointSlices and Endpoints a Service should have,
// and which writes lead there: a function from what is to what to write.
//
// The objects mean what those of kube-controller-manager 1.36 mean; a cluster
// can change from it to Signpost and back without a write. What differs, on
// purpose:
//
//   - what is left behind by a selector that was removed, or by a Service that
//     became an ExternalName, is deleted where it is provably the controllers'
//     own (kubernetes/kubernetes#118376);
//   - writes are ordered so that the removal of an address never waits for
//     additions, see Phase;
//   - the trigger time comes from what changed, not from the memory of a process,
//     so that a restart reports nothing old as new;
//   - an address that two pods claim is published for one of them, see owners;
//   - topology hints are decided from the slices and the zones' CPUs alone, and do
//     not change from plan to plan (kubernetes/kubernetes#114215), see hintByZones;
//   - when a Service's ports change, each slice keeps its addresses and gets the
//     new ports in one write.
//
// MakeMirror plans the slices of a Service without selector, which mirror an
// Endpoints that somebody else writes. They differ from upstream's in that
//
//   - what the controllers left behind themselves is not mirrored, and nothing is
//     for an ExternalName;
//   - an address that is not ready does not serve either, and says so; going back
//     to the stock controller rewrites each such slice once;
//   - also a lost owner and hints that somebody set are repaired.
//
// Making a plan of an unchanged Service gives no writes, and so does planning
// again after the writes are done; the order of the input does not matter.
//
// The package is pure: it reads no clock, no socket and no file, never logs, and
// must not import client-go or controller-runtime. It may import the API types,
// because they are its input and its output. It never changes an object that it
// is given: they belong to a cache.
//
// Of k8s.io/endpointslice it uses trafficdist, which is pure, and the words of
// topologycache, but not its TopologyCache: that remembers what it gave to each
// Service, and breaks ties by the order of a map. What it knows of the nodes comes
// as Input.ZoneCPU; what it remembers is in the slices. The tests hold the rest of
// that module, its Reconciler, against this package.
package plan
