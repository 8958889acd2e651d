package prober

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
)

const (
	// userAgent is what backends see in their logs.
	userAgent = "signpost-health-check"
	// mostBody bounds in bytes what is read of an answer, as of headers.
	mostBody = 64 << 10
	// mostRedirects bounds how many redirections on the same host are followed.
	mostRedirects = 10
)

// check does one check, for as long as it may take. It returns an Unknown finding
// if it could not be done here.
func (p *Prober) check(ctx context.Context, t *check.Target) verdict.Finding {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, t.Check.Timeout)
	defer cancel()
	var out verdict.Finding
	switch t.Check.Kind {
	case check.TCP:
		out = askTCP(limited, t)
	case check.HTTP, check.HTTPS:
		out = askHTTP(limited, t)
	case check.GRPC:
		out = askGRPC(limited, t)
	}
	if out.State == verdict.Up && limited.Err() != nil {
		out = down(verdict.TimedOut, 0) // an answer to the end of the connection, as it were
	}
	if ctx.Err() == nil {
		p.metrics.took.WithLabelValues(string(t.Check.Kind)).Observe(time.Since(began).Seconds())
		p.metrics.checks.WithLabelValues(string(t.Check.Kind), out.State.String()).Inc()
	}
	return out
}

func up() verdict.Finding { return verdict.Finding{State: verdict.Up} }

func down(cause verdict.Cause, detail int) verdict.Finding {
	return verdict.Finding{State: verdict.Down, Cause: cause, Detail: uint16(min(max(detail, 0), 65535))}
}

// askTCP: a connection is all that it takes.
func askTCP(ctx context.Context, t *check.Target) verdict.Finding {
	conn, err := dial(ctx, t)
	if err != nil {
		return failed(err)
	}
	_ = conn.Close() // nothing was sent
	return up()
}

// askHTTP: a status from 200 to 399 is good, as it is to kubelets. Redirections on
// the same host are followed; one to elsewhere is an answer like others. A
// certificate need not be good: there is nobody here to say which ones are.
func askHTTP(ctx context.Context, t *check.Target) verdict.Finding {
	u, err := url.ParseRequestURI(t.Check.Path)
	if err != nil {
		return down(verdict.Malformed, 0)
	}
	u.Scheme, u.Host = string(t.Check.Kind), hostOf(t)
	transport := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dialHTTP(ctx, t) },
		DialTLSContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dialTLS(ctx, t, u.Hostname()) },
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: mostBody,
	}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, CheckRedirect: stayThere}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return down(verdict.Malformed, 0)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "*/*")
	resp, err := c.Do(req)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = resp.Body.Close() }() // its end is not of interest
	if _, err := io.CopyN(io.Discard, resp.Body, mostBody); err != nil && !errors.Is(err, io.EOF) {
		return failed(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return down(verdict.HTTPStatus, resp.StatusCode)
	}
	return up()
}

func hostOf(t *check.Target) string {
	if t.Check.Host != "" {
		return t.Check.Host
	}
	return t.At.String()
}

// stayThere follows redirections to where the request went.
func stayThere(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Host != first.Host || req.URL.Scheme != first.Scheme || len(via) > mostRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// failed says what an error says of a backend. If it is this node that has no
// sockets, or no address, left, it says nothing.
func failed(err error) verdict.Finding {
	var network net.Error
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, own) {
			return verdict.Finding{}
		}
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return down(verdict.Refused, 0)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return down(verdict.Unreachable, 0)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return down(verdict.TimedOut, 0)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return down(verdict.Closed, 0)
	case isHandshake(err):
		return down(verdict.Handshake, 0)
	}
	return down(verdict.Malformed, 0)
}

func isHandshake(err error) bool {
	_, record := errors.AsType[tls.RecordHeaderError](err)
	op, network := errors.AsType[*net.OpError](err)
	alert := network && (op.Op == "remote error" || op.Op == "local error") // as crypto/tls calls alerts
	return record || alert || errors.Is(err, http.ErrSchemeMismatch)
}
