// Package plan works out which EndpointSlices say of the external backends of a
// Service which of them work.
//
//	slices of others ┐                ┌► ours: a copy of each, with the conditions
//	names' addresses ┴► Sources ─► Make ─► that follow from the checks
//
// There is one slice of ours for each of somebody else's, with its endpoints and
// ports, so that nothing is moved about; those of others are never written to.
//
// The package is pure: it must not read a clock or anything else of the outside,
// nor log, and must not import a shell. The writes are those of the endpoint
// controllers' plan, as the ledger makes them.
package plan
