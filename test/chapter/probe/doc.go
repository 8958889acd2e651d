// Command probe asks one address at a steady rate, each time over a new
// connection, and says when each was begun, when it ended and which pod
// answered. It is what measurements see of a Service: run in the network
// namespace of a pod, its packets pass the rules of that pod's node, and as it
// shares the clock with all other processes of the machine, its times can be
// set against theirs. Instead of HTTP it can ask a DNS server for a name.
//
// It prints one line per connection, in the order in which they ended:
//
//	BEGIN END ANSWER   nanoseconds since 1970, and the pod or the address
//	BEGIN END !REASON  the connection failed
//
// It ends when its standard input does, so that it cannot outlive its parent.
package main
