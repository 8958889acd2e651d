// Command measure prints the figures that Signpost is held to on a real
// cluster: see package trial for what each means.
//
//	go run ./test/chapter/measure [-n 200] [readiness|churn|kill|outage]...
//
// Without a name it measures all. It needs the cluster of hack/cluster with
// Signpost in it, and leaves it as it was.
package main
