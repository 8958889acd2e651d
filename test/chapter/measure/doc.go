// Command measure prints the figures that Signpost is held to on a real
// cluster: see package trial for what each means.
//
//	go run ./test/chapter/measure [-n 200] [readiness|churn|kill|outage|rollout|leader|freeze|partition]...
//
// Without a name it measures all, which takes half an hour. It needs the cluster of hack/cluster with
// Signpost in it, and leaves it as it was.
package main
