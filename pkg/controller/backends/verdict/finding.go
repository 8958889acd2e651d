package verdict

import (
	"fmt"
	"strconv"
)

// State is what is known of a backend.
type State uint8

// The states. Their numbers are spoken between nodes.
const (
	Unknown State = iota
	Up
	Down
)

// String returns the state as text.
func (s State) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "state " + strconv.Itoa(int(s))
}

// Cause is why a check failed.
type Cause uint8

// The causes. Their numbers are spoken between nodes: new ones come last.
const (
	NoCause Cause = iota
	// Refused: nobody listens.
	Refused
	// TimedOut: no answer in time.
	TimedOut
	// Unreachable: no way there.
	Unreachable
	// Closed: the connection was closed in the midst.
	Closed
	// HTTPStatus: the answer has the status of Detail.
	HTTPStatus
	// NotServing: the gRPC server says that it does not serve; Detail is the
	// number of the state that it says.
	NotServing
	// GRPCStatus: the gRPC call failed with the status of Detail.
	GRPCStatus
	// Malformed: the answer is none of that protocol.
	Malformed
	// Handshake: TLS failed.
	Handshake
)

// Finding is what one node finds of a backend.
type Finding struct {
	State State
	// Cause and Detail are those of the last check that failed, while Down.
	Cause  Cause
	Detail uint16
}

// Because returns why a backend is Down.
func (f Finding) Because() string {
	switch f.Cause {
	case NoCause:
	case Refused:
		return "connection refused"
	case TimedOut:
		return "timed out"
	case Unreachable:
		return "unreachable"
	case Closed:
		return "connection closed"
	case HTTPStatus:
		return fmt.Sprintf("HTTP status %d", f.Detail)
	case NotServing:
		return "not serving"
	case GRPCStatus:
		return fmt.Sprintf("gRPC status %d", f.Detail)
	case Malformed:
		return "malformed answer"
	case Handshake:
		return "TLS handshake failed"
	}
	return "check failed"
}

// Streak makes a Finding of checks that one node does one after the other. The
// zero Streak knows nothing. It is not safe for concurrent use.
type Streak struct {
	finding Finding
	// against is how many checks in a row contradict the finding.
	against int
}

// Finding returns what the checks so far say.
func (s *Streak) Finding() Finding { return s.finding }

// Note takes in a check: Up if it succeeded, else Down with its cause. A backend
// that nothing is known of is Up with the first success, but Down only after as
// many failures in a row as any other: the node may have only just begun.
func (s *Streak) Note(result Finding, failures, successes int) {
	needed := successes
	switch {
	case result.State == s.finding.State:
		s.finding, s.against = result, 0
		return
	case result.State == Down:
		needed = failures
	case s.finding.State == Unknown:
		needed = 1
	}
	if s.against++; result.State == Up && s.finding.State == Unknown {
		s.against = 1 // a failure before it does not count against it
	}
	if s.against >= needed {
		s.finding, s.against = result, 0
	}
}
