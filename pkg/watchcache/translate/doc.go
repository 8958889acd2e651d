// Package translate turns what the Kubernetes API says into the words of
// package model. It is where API types stop: everything after it, rules and
// names alike, is made from a model.Snapshot.
//
// It is pure. Given the same objects it gives the same Snapshot, in whatever
// order they came and by whatever steps: Next applied to a series of changes
// equals Build of the final state (TestIncrementalEqualsFull). It must never
// import a client, an informer or another room of Signpost than model, because
// it is what the scenario tests run without a cluster. Whatever is wrong with an
// object becomes a model.Problem of that one Service; the rest goes on.
package translate
