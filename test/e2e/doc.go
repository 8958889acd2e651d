// Package e2e holds the end-to-end tests: they run against the real two-node
// cluster of hack/cluster with Signpost in it, under the build tag e2e. What
// they assert is what the demo shows (package chapter), what a user feels while
// the cluster changes and breaks (package trial, with bounds that leave room for
// a busy machine: the measured figures are logged), and that the DaemonSet runs
// with the rights of config/default and no others.
package e2e
