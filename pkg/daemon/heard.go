package daemon

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// heard knows when the API server was last heard of. What is served while it is
// silent may be as old as that. Watches hear of it about once a minute though nothing
// happens. It is safe for concurrent use.
type heard struct{ at atomic.Pointer[time.Time] }

// gauge returns the time of silence as a metric; it counts from the first word.
func (h *heard) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "signpost_api_silence_seconds",
		Help: "Time since the API server was last heard of: what is served may be as old as that. About a minute is normal.",
	}, func() float64 {
		if at := h.at.Load(); at != nil {
			return time.Since(*at).Seconds()
		}
		return 0
	})
}

func (h *heard) note() {
	now := time.Now()
	h.at.Store(&now)
}

// wrap returns next, listening to what comes through it.
func (h *heard) wrap(next http.RoundTripper) http.RoundTripper { return &hearing{h, next} }

type hearing struct {
	heard *heard
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (h *hearing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := h.next.RoundTrip(r)
	if err == nil {
		h.heard.note()
		resp.Body = &heardBody{resp.Body, h.heard}
	}
	return resp, err
}

type heardBody struct {
	io.ReadCloser
	heard *heard
}

// Read implements io.Reader.
func (b *heardBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.heard.note()
	}
	return n, err
}
