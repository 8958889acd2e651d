// Package mirror publishes as EndpointSlices what somebody has written into the
// Endpoints of a Service without selector: the controller
// "endpointslicemirroring" of kube-controller-manager.
//
//	informers ──► Service, Endpoints  as they are             ┐
//	          ──► ledger              what mirrors them already ├─► plan ──► writes
//	                                                          ┘  (pure)      │
//	                              ▲── what was written goes back at once ────┘
//
// It is a shell around plan.MakeMirror: it hears of changes, makes the writes of
// the plan and tries again until they succeed. A Controller lives for one term of
// the leader and leaves no handler behind.
//
// It must not import the other wings (proxy, dns), nor the shell of another
// controller: what they share has rooms of its own (ledger, listen).
package mirror
