package prober

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
)

// The gRPC health checking protocol, grpc.health.v1: a request has the name of the
// service as field 1, a response the state, of which one is good. It is one unary
// call, for which grpc-go would be most of this program.
const (
	healthMethod   = "/grpc.health.v1.Health/Check"
	fieldService   = 1
	fieldStatus    = 1
	statusServing  = 1
	statusUnknown  = 2 // of a call: what was sent makes no sense
	lengthOfPrefix = 5
)

// askGRPC asks as kubelets do: without TLS.
func askGRPC(ctx context.Context, t *check.Target) verdict.Finding {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dialHTTP(ctx, t) },
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: mostBody,
	}
	defer transport.CloseIdleConnections()
	body := framed(protowire.AppendString(protowire.AppendTag(nil, fieldService, protowire.BytesType), t.Check.Service))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+hostOf(t)+healthMethod, bytes.NewReader(body))
	if err != nil {
		return down(verdict.Malformed, 0)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	req.Header.Set("Grpc-Timeout", fmt.Sprintf("%dm", t.Check.Timeout/time.Millisecond))
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = resp.Body.Close() }() // its end has been read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mostBody))
	if err != nil {
		return failed(err)
	}
	return judge(resp, answer)
}

// judge says what an answer, whose body has been read, says.
func judge(resp *http.Response, body []byte) verdict.Finding {
	if resp.StatusCode != http.StatusOK {
		return down(verdict.HTTPStatus, resp.StatusCode)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		return down(verdict.Malformed, 0)
	}
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" {
		status = resp.Header.Get("Grpc-Status") // an answer that is nothing but that
	}
	if status != "0" {
		n, err := strconv.Atoi(status)
		if err != nil {
			n = statusUnknown
		}
		return down(verdict.GRPCStatus, n)
	}
	state, err := stateOf(body)
	switch {
	case err != nil:
		return down(verdict.Malformed, 0)
	case state != statusServing:
		return down(verdict.NotServing, int(min(state, 1<<16)))
	}
	return up()
}

// framed puts in front of a message that it is not compressed, and its length.
func framed(message []byte) []byte {
	out := make([]byte, lengthOfPrefix, lengthOfPrefix+len(message))
	binary.BigEndian.PutUint32(out[1:], uint32(len(message)))
	return append(out, message...)
}

// stateOf reads the one message of a body.
func stateOf(body []byte) (uint64, error) {
	if len(body) < lengthOfPrefix || body[0] != 0 || int64(binary.BigEndian.Uint32(body[1:])) != int64(len(body)-lengthOfPrefix) {
		return 0, errors.New("not one message, uncompressed")
	}
	var state uint64
	for b := body[lengthOfPrefix:]; len(b) > 0; {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		if number == fieldStatus && wire == protowire.VarintType {
			state, n = protowire.ConsumeVarint(b)
		} else {
			n = protowire.ConsumeFieldValue(number, wire, b)
		}
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return state, nil
}
