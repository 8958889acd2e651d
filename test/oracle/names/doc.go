// Package names holds Signpost's name server against CoreDNS: both watch the same
// real API server, both are asked the same, and every difference must be one that
// is argued for in this package.
//
// There are two tests. One asks the questions of testdata/questions.txt about the
// objects of testdata/objects.yaml and knows the exact answers; the other makes
// objects and questions at random, from a seed. CoreDNS is the release that
// hack/cluster/programs pins, with the Corefile of kubeadm, as a process in a
// network namespace that stands for its pod. Signpost's server and watch cache run
// in the test itself, on loopback.
//
// It consists of tests only, with the build tag integration.
package names
