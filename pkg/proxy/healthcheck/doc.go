// Package healthcheck tells load balancers whether to send to this node: for each
// Service with the external traffic policy Local at its healthCheckNodePort, and for the node as
// a whole. What it says, and how, is what kube-proxy 1.36 says (KEP-3836, KEP-3458).
//
// It must not import Kubernetes, nor the DNS or controller wings: Services come as
// model.Snapshots.
package healthcheck
