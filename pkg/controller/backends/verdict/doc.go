// Package verdict decides which backends of a Service work, from what several
// nodes find when they check them.
//
//	checks of one node ──► Streak ──► Finding ┐
//	        of another ──► Streak ──► Finding ┼─► Decide ──► works, and why not
//	      of the third ──► Streak ──► Finding ┘
//
// The mistake that must not happen is to take away backends that work: because a
// node cannot reach them, because nobody checks, or because the check is wrong. So
// it takes a majority to change what holds, and if nothing were left, all stay.
//
// The package is pure: it imports nothing of ours, and reads neither clock nor
// anything else of the outside.
package verdict
