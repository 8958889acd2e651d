// Package health answers questions about the process over HTTP: is it alive
// (/livez), does it serve (/readyz), and its metrics (/metrics).
//
// It knows nothing of what it reports on: checks are functions that the daemon
// gives it, so it imports no other package of Signpost. A check must answer at
// once, from memory, as the kubelet asks every few seconds with a short patience.
package health
