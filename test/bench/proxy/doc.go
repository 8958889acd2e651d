// Command proxy measures what Signpost does to packets side by side with a real
// kube-proxy, against one real kube-apiserver and etcd: how long it takes from the start
// until every Service answers, from an EndpointSlice being written until the first
// connection reaches the new endpoint and the last one the old, what a change
// costs, and what the rules cost the connections that meet them.
//
// The contenders take turns, each on a node of its own made of namespaces. Pods exist there:
// all endpoints are addresses that one of two pods answers at, so that every connection
// really is one. With -fresh it counts Services whose names are known before there is a
// way to them, with CoreDNS beside kube-proxy.
//
//	make bench-proxy
package main
