package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGet(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"a pod", "pod     alpaca-prod-6b9d9f7c5d-x2x7k\nclient  10.0.0.1\n", 200, "alpaca-prod-6b9d9f7c5d-x2x7k"},
		{"no pod", "hello\n", 200, "!no_pod_name_in_the_answer"},
		{"not well", "pod     alpaca-prod-1", 503, "!status_503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer server.Close()
			ask, err := asker(server.URL, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	ask, err := asker(server.URL, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(); !strings.HasPrefix(got, "!") || !strings.Contains(got, "refused") || strings.Contains(got, " ") {
		t.Errorf("got %q, want a failure in one field that says refused", got)
	}
}

func TestUnknownScheme(t *testing.T) {
	if _, err := asker("ftp://10.96.0.1/", time.Second); err == nil {
		t.Error("ftp was accepted")
	}
}

// TestProbeIsOpen holds that a slow answer does not delay the next question.
func TestProbeIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		out := bufio.NewWriter(&text)
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Millisecond)
		defer cancel()
		probe(ctx, func() string { time.Sleep(time.Second); return "a-b" }, 10*time.Millisecond, out)
		if got := strings.Count(text.String(), " a-b\n"); got != 9 {
			t.Errorf("%d answers, want 9:\n%s", got, text.String())
		}
	})
}
