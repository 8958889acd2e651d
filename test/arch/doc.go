// Package arch holds the test that keeps the floors of the house: who may import
// whom. See pkg/README.md for the picture. It runs `go list`, whose output the
// test cache does not know of: run it with -count=1, as `make verify` does.
package arch
