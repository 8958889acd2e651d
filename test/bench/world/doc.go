// Package world makes clusters that exist in the API only, of a size that no
// machine here could run: Nodes, Services and pods whose status is written as
// kubelets would.
package world
