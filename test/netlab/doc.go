// Package netlab makes a small network inside one machine for tests: network
// namespaces for a node, its pods and a host outside of it, joined by veth
// pairs, with servers that answer with their name and clients that say who
// answered. All packets stay in namespaces that the Lab has made, and Close
// removes every one of them.
//
//	client pod ─┐
//	            ├─ node (forwards; this is where rules go) ── outside
//	backend pods┘
//
// It needs root. It is for tests only: nothing that goes into the binary may
// import it. It is not a test file itself because several packages' tests use it.
//
// # Threads
//
// A network namespace belongs to a thread. What has to happen in a namespace is
// given to Namespace.Do, which runs it in a goroutine locked to a thread of its
// own that ends with it. A socket belongs to the namespace that it was made in,
// for as long as it lives, so that it can be used from any thread afterwards; a process
// inherits the namespace of the thread that starts it.
package netlab
