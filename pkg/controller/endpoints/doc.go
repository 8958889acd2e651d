// Package endpoints publishes which pods stand behind each Service, as
// EndpointSlices and as Endpoints: the controllers "endpointslice" and
// "endpoint" of kube-controller-manager in one.
//
//	informers ──► index      which pods a Service selects     ┐
//	          ──► published  what is published for it already ├─► plan ──► writes
//	                                                          ┘  (pure)      │
//	                              ▲── what was written goes back at once ────┘
//
// It is the shell around the pure package plan: it hears of changes, keeps the
// input of each plan at hand, makes the writes of the plan and tries again until
// they succeed.
//
// A Controller lives for one term of the leader. What it needs of the process's
// lifetime (Services, EndpointSlices) it reads through handlers that it removes
// again at its end, so that any number of terms leaves nothing behind.
//
// It must not import the other wings (proxy, dns), nor other shells: whoever
// needs what it knows is joined to it by package daemon.
package endpoints
