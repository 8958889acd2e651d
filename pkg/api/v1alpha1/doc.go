// Package v1alpha1 is version v1alpha1 of the API group signpost.dev: the kinds
// that Signpost adds to a cluster, as Go types, and the names of the annotations,
// conditions and classes that it knows on objects of others.
//
// It also says what the text of an object means, as far as more than one wing has
// to read it alike: which addresses a pool has, and which of two pools comes
// first. The schema by which the API server checks these objects is
// config/default/load-balancer-pools.yaml; a test holds that both have the same
// fields.
//
// The package must not import another package of Signpost, nor client-go: it is
// words that controllers and nodes share.
package v1alpha1
