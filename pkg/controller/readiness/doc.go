// Package readiness tells people why a Service does not work: the Teller turns
// what verdict says of a Service without usable endpoints into an Event on it and
// into its condition signpost.dev/EndpointsReady.
//
// A condition is a write to an object that every node watches, so a Service that
// works gets none: it is written when a Service has been without endpoints for a
// while, and again when it has some.
//
// The package must not import the controllers that know the pods, in
// pkg/controller/endpoints: they hand in what they know, and pkg/daemon joins
// them. Nor must it import another wing (proxy, dns).
package readiness
