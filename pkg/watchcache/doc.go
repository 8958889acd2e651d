// Package watchcache is the one view of the cluster that a node has: one watch
// for each kind, of which it publishes a model.Snapshot whenever something
// changes that packets or names depend on.
//
// It is a shell over the pure package translate. What a node may cost the API
// server is decided here: it watches Services, EndpointSlices and Namespaces
// (names only), and its own Node, and it never watches Pods. The leader's term
// has a cache of its own (NewTerm), which it throws away when it ends.
//
// It must not import another shell: the proxy, the DNS server and the
// controllers each declare the interface that they need of it.
package watchcache
