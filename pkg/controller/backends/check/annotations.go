package check

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// What holds where nothing is said: those of HAProxy.
const (
	DefaultInterval  = 2 * time.Second
	DefaultTimeout   = time.Second
	DefaultFailures  = 3
	DefaultSuccesses = 2
)

// longest bounds in bytes what is sent to backends.
const longest = 1024

// check returns the check that is asked for, nil if there is none. What is wrong is
// in r.wrong.
func (r *reader) check() *Check {
	kind := Kind(strings.ToLower(strings.TrimSpace(r.annotations[v1alpha1.AnnotationHealthCheck])))
	c := &Check{
		Kind: kind, Interval: DefaultInterval, Timeout: DefaultTimeout,
		Failures: DefaultFailures, Successes: DefaultSuccesses,
	}
	_, asked := r.annotations[v1alpha1.AnnotationHealthCheck]
	known := slices.Contains([]Kind{HTTP, HTTPS, TCP, GRPC}, kind)
	if asked && !known {
		r.fail(v1alpha1.AnnotationHealthCheck, "%q is not one of http, https, tcp and grpc", kind)
	}
	for _, annotation := range slices.Sorted(maps.Keys(r.annotations)) {
		if !strings.HasPrefix(annotation, v1alpha1.AnnotationHealthCheck) || annotation == v1alpha1.AnnotationHealthCheck {
			continue
		}
		if !asked {
			r.fail(annotation, "it needs %s, which says how to check", v1alpha1.AnnotationHealthCheck)
			continue
		}
		r.part(c, annotation, known)
	}
	if !asked {
		return nil
	}
	if c.Path == "" && (kind == HTTP || kind == HTTPS) {
		c.Path = "/"
	}
	return c
}

// part reads one annotation into c. known says that its kind is one.
func (r *reader) part(c *Check, annotation string, known bool) {
	text := strings.TrimSpace(r.annotations[annotation])
	var err error
	kinds := []Kind{HTTP, HTTPS, TCP, GRPC}
	switch annotation {
	case v1alpha1.AnnotationHealthCheckPort:
		c.Port, err = portOf(text)
	case v1alpha1.AnnotationHealthCheckPath:
		c.Path, err, kinds = text, checkPath(text), []Kind{HTTP, HTTPS}
	case v1alpha1.AnnotationHealthCheckHost:
		c.Host, err, kinds = text, checkHost(text), []Kind{HTTP, HTTPS, GRPC}
	case v1alpha1.AnnotationHealthCheckService:
		c.Service, err, kinds = text, checkService(text), []Kind{GRPC}
	case v1alpha1.AnnotationHealthCheckInterval:
		c.Interval, err = durationOf(text, time.Second, 5*time.Minute)
	case v1alpha1.AnnotationHealthCheckTimeout:
		c.Timeout, err = durationOf(text, 100*time.Millisecond, 30*time.Second)
	case v1alpha1.AnnotationHealthCheckFailures:
		c.Failures, err = countOf(text)
	case v1alpha1.AnnotationHealthCheckSuccesses:
		c.Successes, err = countOf(text)
	default:
		err = errors.New("there is no such annotation")
	}
	switch {
	case known && !slices.Contains(kinds, c.Kind):
		r.fail(annotation, "it has no meaning for %s", c.Kind)
	case err != nil:
		r.fail(annotation, "%v", err)
	}
}

// portOf wants a number, or what can be the name of a Service's port.
func portOf(s string) (string, error) {
	if isNumber(s) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 65535 {
			return "", fmt.Errorf("%s is not between 1 and 65535", s)
		}
		return strconv.Itoa(n), nil
	}
	if len(validation.IsDNS1123Label(s)) > 0 {
		return "", fmt.Errorf("%q is neither a port number nor the name of a port", s)
	}
	return s, nil
}

// checkPath wants what can follow GET.
func checkPath(s string) error {
	if u, err := url.ParseRequestURI(s); err != nil || !strings.HasPrefix(s, "/") || u.Host != "" || u.Fragment != "" || strings.ContainsRune(s, '#') || len(s) > longest || !isPrintable(s) {
		return fmt.Errorf("%q is not a path such as /healthz", s)
	}
	return nil
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// checkHost wants a name or an address, with or without a port.
func checkHost(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), "1"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	_, isNoAddress := netip.ParseAddr(host)
	if err != nil || n == 0 || isNoAddress != nil && len(validation.IsDNS1123Subdomain(strings.ToLower(host))) > 0 {
		return fmt.Errorf("%q is not a host such as www.example.com", s)
	}
	return nil
}

// checkService: grpc has names such as package.Service, and servers may have any.
func checkService(s string) error {
	if len(s) > longest || !utf8.ValidString(s) {
		return errors.New("it is too long, or no text")
	}
	return nil
}

func durationOf(s string, low, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration such as 2s", s)
	case d < low || d > high:
		return 0, fmt.Errorf("%s is not between %s and %s", s, low, high)
	}
	return d, nil
}

func countOf(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%q is not a number between 1 and 100", s)
	}
	return n, nil
}
