package forward

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// failuresToDown is how many times in a row an upstream must be silent to be
	// asked last, for minDown at first and for twice as long each time, up to
	// maxDown. There is no hurry: who waits is not left with that one.
	failuresToDown = 4
	// latesToDown is the same for questions that somebody else had to be asked, too,
	// because this one was slower than mostly: it takes less time to find out.
	latesToDown = 8
	minDown     = time.Second
	maxDown     = 30 * time.Second
	// silence is how long an upstream must have said nothing for questions not to be
	// wasted on it.
	silence = 10 * time.Second
	// mannersFor is how long an upstream's lack of manners is remembered.
	mannersFor = time.Hour
	// lossMemory is over how many questions, about, the loss is measured.
	lossMemory = 64
)

// upstream is a resolver, and what is known of its health: only what the answers
// to real questions say.
type upstream struct {
	addr netip.AddrPort

	mu        sync.Mutex
	failures  int
	lates     int // since the last answer
	downFor   time.Duration
	downUntil time.Time
	lastHeard time.Time
	loss      float64 // share of questions without an answer, the last ones counting most
	// took are the last times that answers took, a ring; slow is their 95th
	// percentile, or 0 if there are too few.
	took     [64]time.Duration
	answered int
	slow     time.Duration

	withoutEDNS, withoutCase time.Time // until when

	warned, reported atomic.Bool
}

// isDown also gives out the one question that tries an upstream which was down:
// as long as that one has no answer, the others need not wait for it, too.
func (u *upstream) isDown(now time.Time, attempt time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Before(u.downUntil) {
		return true
	}
	if u.failures >= failuresToDown {
		// A little less than the attempt, as failed heeds no failure before.
		u.downUntil = now.Add(attempt * 9 / 10)
	}
	return false
}

// succeeded notes an answer that took so long.
func (u *upstream) succeeded(took time.Duration, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastHeard = now
	u.failures, u.lates, u.downFor, u.downUntil = 0, 0, 0, time.Time{}
	u.loss -= u.loss / lossMemory
	u.took[u.answered%len(u.took)] = took
	if u.answered++; u.answered%8 == 0 {
		sorted := u.took
		n := min(u.answered, len(sorted))
		slices.Sort(sorted[:n])
		u.slow = sorted[n*95/100]
	}
}

// failed notes that there was no answer, and reports whether u is down since
// then. Failures of questions that were under way when u went down say nothing new.
func (u *upstream) failed(now time.Time) (down bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.loss += (1 - u.loss) / lossMemory
	u.failures++
	return u.goDown(now)
}

// lost notes that u answered when it was asked once more: the first question, or
// its answer, got lost.
func (u *upstream) lost() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.loss += (1 - u.loss) / lossMemory
}

// late notes that u was slower than it mostly is, and reports like failed.
func (u *upstream) late(now time.Time) (down bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.lates++; u.lates < latesToDown {
		return false
	}
	u.failures = max(u.failures, failuresToDown)
	return u.goDown(now)
}

// goDown needs the lock.
func (u *upstream) goDown(now time.Time) bool {
	if u.failures < failuresToDown || now.Before(u.downUntil) {
		return false
	}
	u.downFor = min(max(2*u.downFor, minDown), maxDown)
	u.downUntil = now.Add(u.downFor)
	return true
}

// patience returns how long to wait for u before somebody else is asked, too, and
// how long before u itself is asked once more.
func (u *upstream) patience() (hedge, resend time.Duration) {
	const (
		unknown          = 100 * time.Millisecond
		shortest         = 10 * time.Millisecond
		longest          = 500 * time.Millisecond
		lossy            = .01
		resendWhenLossy  = 100 * time.Millisecond
		resendWhenSilent = 400 * time.Millisecond
	)
	u.mu.Lock()
	defer u.mu.Unlock()
	hedge = unknown
	if u.slow > 0 {
		hedge = min(max(u.slow, shortest), longest)
	}
	if u.loss > lossy {
		return hedge, resendWhenLossy
	}
	// Datagrams do not get lost here: it is the name that takes its time.
	return hedge, resendWhenSilent
}

// isSilent reports whether u has said nothing for long.
func (u *upstream) isSilent(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return now.Sub(u.lastHeard) > silence
}

// manners returns what u can be asked with.
func (u *upstream) manners(now time.Time) (edns, cased bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !now.Before(u.withoutEDNS), !now.Before(u.withoutCase)
}

func (u *upstream) lacksEDNS(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.withoutEDNS = now.Add(mannersFor)
}

func (u *upstream) lacksCase(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.withoutCase = now.Add(mannersFor)
}

// tell logs that u has fallen silent, and that it is back, once each.
func (u *upstream) tell(log *slog.Logger, silent bool) {
	switch {
	case u.reported.Load() == silent || u.reported.Swap(silent) == silent:
	case silent:
		log.Warn("an upstream does not answer and is asked last", "upstream", u.addr)
	default:
		log.Info("an upstream answers again", "upstream", u.addr)
	}
}

func (u *upstream) warnOfSelf(log *slog.Logger) {
	if !u.warned.Swap(true) {
		log.Warn("left out an upstream that is this server itself", "upstream", u.addr)
	}
}

// upstreams keeps what is known of each upstream, whoever names it.
type upstreams struct{ m sync.Map }

func (us *upstreams) get(addr netip.AddrPort) *upstream {
	if u, ok := us.m.Load(addr); ok {
		return u.(*upstream)
	}
	u, _ := us.m.LoadOrStore(addr, &upstream{addr: addr})
	return u.(*upstream)
}
