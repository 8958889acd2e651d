package endpoints

import "sync"

// additionsTurn is how many removals are taken in a row before an addition that
// waits gets a turn: so that a cluster which always loses some pod still gets
// new ones.
const additionsTurn = 8

// lanes is the order in which keys are taken: those of which traffic has to be
// taken from something first, then the others, each in the order in which they
// came. It implements workqueue.Queue, whose calls the workqueue serializes; its
// other methods are safe for concurrent use.
//
// A key gets into the lane of removals by raise, before it is added; what is
// raised stays so until it is taken, wherever it waits meanwhile.
type lanes struct {
	mu     sync.Mutex
	raised map[key]struct{}
	// taken has the keys that were raised, and are being worked on.
	taken map[key]struct{}
	// waiting has the keys of both lanes, and whether it is the one of removals.
	// A key that has moved up leaves its place in the other lane behind.
	waiting             map[key]bool
	removals, additions []key
	urgent              int // how many of waiting are removals
	row                 int // removals taken in a row while additions waited
}

func newLanes() *lanes {
	return &lanes{raised: map[key]struct{}{}, taken: map[key]struct{}{}, waiting: map[key]bool{}}
}

func (l *lanes) raise(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raised[k] = struct{}{}
}

// raiseAgain raises a key that was a removal when it was taken, and failed.
func (l *lanes) raiseAgain(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, removal := l.taken[k]; removal {
		l.raised[k] = struct{}{}
	}
}

// done forgets what a key was when it was taken.
func (l *lanes) done(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.taken, k)
}

// pressing says whether work on the additions of k should make room for a
// removal: of k itself, or of a Service for which no worker is free.
func (l *lanes) pressing(k key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, same := l.raised[k]
	return same || l.urgent > 0
}

// Touch implements workqueue.Queue: a key that waits was added again.
func (l *lanes) Touch(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, raised := l.raised[k]
	if removal, waits := l.waiting[k]; waits && raised && !removal {
		l.putLocked(k, true)
	}
}

// Push implements workqueue.Queue.
func (l *lanes) Push(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, raised := l.raised[k]
	l.putLocked(k, raised)
}

func (l *lanes) putLocked(k key, removal bool) {
	l.waiting[k] = removal
	if removal {
		l.urgent++
		l.removals = append(l.removals, k)
		return
	}
	l.additions = append(l.additions, k)
}

// Len implements workqueue.Queue.
func (l *lanes) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// Pop implements workqueue.Queue; something waits.
func (l *lanes) Pop() key {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.nextLocked()
	delete(l.waiting, k)
	if _, removal := l.raised[k]; removal {
		delete(l.raised, k)
		l.taken[k] = struct{}{}
	}
	return k
}

func (l *lanes) nextLocked() key {
	ordinary := len(l.waiting) - l.urgent
	if l.urgent > 0 && (ordinary == 0 || l.row < additionsTurn) {
		l.urgent--
		if l.row++; ordinary == 0 {
			l.row = 0
		}
		return shift(&l.removals)
	}
	l.row = 0
	for {
		k := shift(&l.additions)
		if removal, waits := l.waiting[k]; waits && !removal {
			return k
		}
	}
}

func shift(lane *[]key) key {
	k := (*lane)[0]
	(*lane)[0] = key{} // the array lives on
	*lane = (*lane)[1:]
	return k
}
