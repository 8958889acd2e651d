// Command probe opens new connections to one address at a steady rate and says
// for each when it was begun, when it ended and which pod answered. It is what
// measurements see of a Service: run in the network namespace of a node, its
// packets pass the rules of that node, and as it shares the clock with all
// other processes of the machine, its times can be set against theirs.
//
// It prints one line per connection, in the order in which they ended:
//
//	BEGIN END POD      nanoseconds since 1970, and the name that was answered
//	BEGIN END !REASON  the connection failed
//
// It ends when its standard input does, so that it cannot outlive its parent.
package main
