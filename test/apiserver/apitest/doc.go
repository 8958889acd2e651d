// Package apitest is what tests beside a real API server share: one server for
// the tests of a package, and a namespace of it for each test, with what a test
// does there a hundred times in one line each.
//
// It knows nothing of Signpost: what a package starts in such a namespace is that
// package's.
package apitest
