// Package model holds the words that the wings of Signpost share: what a
// cluster's Services are, once the Kubernetes API has been read and before
// packets or names are made of it.
//
// A Snapshot is the whole of it at one moment. It is IMMUTABLE: whoever holds
// one may keep it for as long as they like, read it from any goroutine, and
// must never write to anything reachable from it. A change makes a new Snapshot
// that shares all that did not change; that a Service did not change can
// therefore be seen by comparing pointers (see ServiceMap.Diff).
//
// The package imports nothing of Signpost and nothing of Kubernetes: API types
// stop at watchcache/translate, so that all that comes after can be tested with
// values that fit on a line, and carries none of the API machinery's weight.
// It reads no clock, no socket and no file.
package model
