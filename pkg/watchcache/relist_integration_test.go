//go:build integration

package watchcache

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/test/apiserver"
)

// TestContainedFollowsTheServer: what the server has written is claimed soon, be
// it visible or not, and also after a watch that could not be continued.
func TestContainedFollowsTheServer(t *testing.T) {
	klog.SetLogger(logr.Discard())
	server, err := apiserver.Start(t.Context(), apiserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	api := kubernetes.NewForConfigOrDie(server.Config())
	config := server.Config()
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json"
	scissors := &scissors{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { scissors.next = next; return scissors })
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Config: config, HTTPClient: httpClient, NodeName: "n", Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	_, err = api.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slice, err := api.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}}},
		Ports:       []discoveryv1.EndpointPort{{Port: new(int32(80))}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	claimed := func(what, address string) {
		t.Helper()
		want, began := versionOf(slice.ResourceVersion), time.Now()
		for {
			if snap := c.Snapshot(); snap != nil && want > 0 && c.Contained(snap.Generation) >= want {
				svc := snap.Services.Get(model.Name{Namespace: "default", Name: "web"})
				if svc == nil || len(svc.Groups) == 0 || svc.Groups[0].Endpoints[0].Addr.String() != address {
					t.Fatalf("%s: version %d is claimed, but the Service is %+v", what, want, svc)
				}
				t.Logf("%s: claimed %v after the write", what, time.Since(began).Round(time.Millisecond))
				return
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("%s: version %d is not claimed in time", what, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	write := func(change func()) {
		t.Helper()
		change()
		if slice, err = api.DiscoveryV1().EndpointSlices("default").Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	claimed("new", "10.1.0.1")
	write(func() { slice.Endpoints[0].Addresses[0] = "10.1.0.2" })
	claimed("another address", "10.1.0.2")
	write(func() { slice.Labels["team"] = "blue" })
	claimed("another label", "10.1.0.2")

	cut := scissors.cut(t)
	write(func() { slice.Endpoints[0].Addresses[0] = "10.1.0.3" })
	cut()
	claimed("while nobody watched", "10.1.0.3")
	write(func() { slice.Endpoints[0].Addresses[0] = "10.1.0.4" })
	claimed("after that", "10.1.0.4")
}

// scissors is a transport that can end the watch of EndpointSlices, and have the
// server say that it knows nothing any more of what came since.
type scissors struct {
	next http.RoundTripper

	mu     sync.Mutex
	open   []*severed
	broken bool
	lists  int
}

// severed is a body that can be ended.
type severed struct {
	io.ReadCloser
	once sync.Once
	end  chan struct{}
}

func (s *severed) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	select {
	case <-s.end:
		return 0, io.EOF
	default:
		return n, err
	}
}

func (s *scissors) RoundTrip(req *http.Request) (*http.Response, error) {
	q := req.URL.Query()
	if !strings.HasSuffix(req.URL.Path, "/endpointslices") || q.Get("watch") != "true" {
		return s.next.RoundTrip(req)
	}
	s.mu.Lock()
	broken, again := s.broken, q.Get("sendInitialEvents") == "true"
	if again {
		s.lists++
	}
	s.mu.Unlock()
	switch {
	case broken && again:
		return nil, errors.New("not yet")
	case broken:
		return &http.Response{
			StatusCode: http.StatusGone, Status: "410 Gone", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   io.NopCloser(strings.NewReader(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old"}`)),
		}, nil
	}
	resp, err := s.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body := &severed{ReadCloser: resp.Body, end: make(chan struct{})}
	resp.Body = body
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, body)
	return resp, nil
}

// cut ends the watch; what it returns lets the next list through, and holds that
// one was asked for.
func (s *scissors) cut(t *testing.T) (mend func()) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
	was := s.lists
	for _, body := range s.open {
		body.once.Do(func() { close(body.end); _ = body.Close() })
	}
	s.open = nil
	return func() {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			s.mu.Lock()
			listed := s.lists > was
			s.broken = s.broken && !listed
			s.mu.Unlock()
			if listed {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("nobody has asked for a new list")
			}
		}
	}
}
