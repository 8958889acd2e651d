package daemon

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestSilenceEndsWithEachWord of a response that goes on for long, as a watch does.
func TestSilenceEndsWithEachWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, words := io.Pipe()
		h := &heard{}
		client := &http.Client{Transport: h.wrap(roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
		}))}
		if got := testutil.ToFloat64(h.gauge()); got != 0 {
			t.Errorf("before the first word: %v s", got)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		time.Sleep(time.Minute)
		if got := testutil.ToFloat64(h.gauge()); got != 60 {
			t.Errorf("after a minute of silence: %v s", got)
		}
		go func() { _, _ = words.Write([]byte("event")) }()
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if got := testutil.ToFloat64(h.gauge()); got != 0 {
			t.Errorf("just after a word: %v s", got)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
