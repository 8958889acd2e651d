// Package packed keeps answers in the form in which they are sent, so that a
// question that was asked before costs a look-up and a copy.
//
//	Book of a View ──► Find(name, type) ──► Reply ──► Append: ID, flags, the name as it
//	      │               │ none yet                   is spelled, a turn, cut to size, OPT
//	      │               └──► Pack ──► records.View ──► Reply, kept in the table
//	      └─ Next: the View of a newer Snapshot, the same table
//
// A Reply is kept with its records.Basis, and is of use for as long as the View at
// hand holds that. So a change touches nothing here; what it invalidates is found
// out when it is asked for. Negative answers are kept without their SOA record,
// whose serial number each change moves: there is one for all of them.
//
// The names of the table are as they are on the wire, in lower case. An answer
// that would be written otherwise for a question in capitals (names in it end like
// the question's, and are spelled alike) is for questions in lower case only.
//
// Memory is bounded, and what is kept longest are answers that are in use: a flood
// of names that are asked for once pushes out only others of its kind.
//
// It is pure: it reads no clock, no socket and no file, never logs, takes chance as
// an argument, and must never import a shell or anything of Kubernetes. What it
// makes is octet for octet what package dns makes of the same records.Answer
// without it, turned by chance; a test there holds that with random clusters.
package packed
