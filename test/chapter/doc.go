// Package chapter walks a cluster through what the textbook chapter on service
// discovery shows: a Deployment, a Service over it, its endpoints, its name,
// its packets, readiness, node ports, and its end. Each Step runs the commands
// that a reader would type, and then asserts what the chapter says one sees.
// The demo prints it, the end-to-end tests run it; neither adds a check of its
// own, so what is shown is what is tested.
//
// The steps build on one another and run in order. They use the namespace
// default and remove there what they need to make.
package chapter
