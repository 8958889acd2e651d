// Package verdict says why a pod is in or out of a Service: for a pod that a
// Service selects, and one address family, exactly one Verdict, with its reason
// as data and with the endpoint conditions that follow from it.
//
// The plan of the endpoint controllers and the explanations given to people use
// the same functions, so that what is explained is what is done.
//
// The package is pure: it reads no clock, no socket and no file, never logs, and
// must not import client-go or controller-runtime. It may import the API types,
// because they are its input.
package verdict
