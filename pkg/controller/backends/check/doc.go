// Package check reads what the annotations of a Service say about its external
// backends: how they are to be checked, and the names that stand for some. All
// nodes come to the same, so that a backend and the way to check it have a Key by
// which nodes can speak of them in a few bytes.
//
// The package is pure: it must not read a clock or anything else of the outside,
// nor log, and must not import a shell. What cannot be understood comes back as
// problems.
package check
