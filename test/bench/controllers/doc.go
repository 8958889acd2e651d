// Command controllers measures the endpoint controllers of Signpost side by side
// with those of kube-controller-manager, against a real kube-apiserver and etcd:
// how long it takes from a pod's status being written to the EndpointSlice that
// says so being seen by a watch, how many writes that takes, and what it costs.
//
// All contenders get the same cluster in turn, in one run: pods exist in the API
// only. Each starts over what the one before has published being removed, which
// measures its start; then pods change their readiness at a steady rate, whether
// or not the changes before have been published. What is left in the end is waited
// for, so that a contender which falls behind shows it in its percentiles.
//
//	make bench-controllers
package main
