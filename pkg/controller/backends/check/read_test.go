package check

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// service has these annotations: pairs of what follows "signpost.dev/", and the value.
func service(pairs ...string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc", Annotations: map[string]string{"other.dev/health-check": "x"}}}
	for i := 0; i < len(pairs); i += 2 {
		svc.Annotations["signpost.dev/"+pairs[i]] = pairs[i+1]
	}
	return svc
}

func defaults(kind Kind, change func(*Check)) *Check {
	c := &Check{Kind: kind, Interval: 2 * time.Second, Timeout: time.Second, Failures: 3, Successes: 2}
	if change != nil {
		change(c)
	}
	return c
}

func TestRead(t *testing.T) {
	for name, test := range map[string]struct {
		service *corev1.Service
		check   *Check
		names   []string
	}{
		"tcp":  {service("health-check", "tcp"), defaults(TCP, nil), nil},
		"http": {service("health-check", "http"), defaults(HTTP, func(c *Check) { c.Path = "/" }), nil},
		"all of http": {
			service("health-check", " HTTPS ", "health-check-path", "/ready?full=1", "health-check-port", "08443", "health-check-host", "www.example.com:443",
				"health-check-interval", "10s", "health-check-timeout", "250ms", "health-check-failures", "1", "health-check-successes", "5"),
			&Check{HTTPS, "8443", "/ready?full=1", "www.example.com:443", "", 10 * time.Second, 250 * time.Millisecond, 1, 5}, nil,
		},
		"grpc":           {service("health-check", "grpc", "health-check-service", "shop.Cart", "health-check-port", "api"), defaults(GRPC, func(c *Check) { c.Service, c.Port = "shop.Cart", "api" }), nil},
		"host addresses": {service("health-check", "http", "health-check-host", "[2001:db8::1]"), defaults(HTTP, func(c *Check) { c.Path, c.Host = "/", "[2001:db8::1]" }), nil},
		"names":          {service("backend-names", "DB-2.example.com., db-1.example.com,db-2.example.com"), nil, []string{"db-1.example.com", "db-2.example.com"}},
		"both":           {service("backend-names", "db", "health-check", "tcp"), defaults(TCP, nil), []string{"db"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Read(test.service)
			if diff := cmp.Diff(Request{Check: test.check, Names: test.names}, got, cmpopts.EquateEmpty()); diff != "" || !ok {
				t.Errorf("%v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func TestNothingIsAsked(t *testing.T) {
	svc := service()
	svc.Spec.Selector = map[string]string{"a": "b"}
	if got, ok := Read(svc); ok || Publishes(svc) {
		t.Errorf("%+v", got)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, test := range map[string]struct {
		service *corev1.Service
		want    []string
	}{
		"kind":          {service("health-check", "ping"), []string{`health-check: "ping" is not one of http, https, tcp and grpc`}},
		"empty kind":    {service("health-check", ""), []string{`health-check: "" is not one of http, https, tcp and grpc`}},
		"no kind":       {service("health-check-port", "80"), []string{"health-check-port: it needs signpost.dev/health-check, which says how to check"}},
		"mistyped":      {service("health-check", "tcp", "health-check-intervall", "1s"), []string{"health-check-intervall: there is no such annotation"}},
		"port":          {service("health-check", "tcp", "health-check-port", "65536"), []string{"health-check-port: 65536 is not between 1 and 65535"}},
		"port 0":        {service("health-check", "tcp", "health-check-port", "0"), []string{"health-check-port: 0 is not between 1 and 65535"}},
		"port name":     {service("health-check", "tcp", "health-check-port", "a b"), []string{`health-check-port: "a b" is neither a port number nor the name of a port`}},
		"no path":       {service("health-check", "http", "health-check-path", "healthz"), []string{`health-check-path: "healthz" is not a path such as /healthz`}},
		"url":           {service("health-check", "http", "health-check-path", "http://x/"), []string{`health-check-path: "http://x/" is not a path such as /healthz`}},
		"two lines":     {service("health-check", "http", "health-check-path", "/a\r\nX: y"), []string{`health-check-path: "/a\r\nX: y" is not a path such as /healthz`}},
		"path and tcp":  {service("health-check", "tcp", "health-check-path", "/x"), []string{"health-check-path: it has no meaning for tcp"}},
		"host":          {service("health-check", "http", "health-check-host", "a b"), []string{`health-check-host: "a b" is not a host such as www.example.com`}},
		"host port":     {service("health-check", "http", "health-check-host", "a:0"), []string{`health-check-host: "a:0" is not a host such as www.example.com`}},
		"service, http": {service("health-check", "http", "health-check-service", "x"), []string{"health-check-service: it has no meaning for http"}},
		"long service":  {service("health-check", "grpc", "health-check-service", long), []string{"health-check-service: it is too long, or no text"}},
		"no duration":   {service("health-check", "tcp", "health-check-interval", "2"), []string{`health-check-interval: "2" is not a duration such as 2s`}},
		"too often":     {service("health-check", "tcp", "health-check-interval", "1ms"), []string{"health-check-interval: 1ms is not between 1s and 5m0s"}},
		"too patient":   {service("health-check", "tcp", "health-check-timeout", "1h"), []string{"health-check-timeout: 1h is not between 100ms and 30s"}},
		"two faults": {service("health-check", "tcp", "health-check-failures", "0", "health-check-successes", "many"), []string{
			`health-check-failures: "0" is not a number between 1 and 100`, `health-check-successes: "many" is not a number between 1 and 100`}},
		"no names":   {service("backend-names", " "), []string{"backend-names: it names nothing"}},
		"an address": {service("backend-names", "192.0.2.1"), []string{`backend-names: "192.0.2.1" is not a DNS name such as db.example.com; addresses go into Endpoints or EndpointSlices`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Read(test.service)
			var problems []string
			for _, p := range got.Problems {
				problems = append(problems, strings.TrimPrefix(p.String(), "annotation signpost.dev/"))
			}
			if diff := cmp.Diff(test.want, problems); diff != "" || !ok || got.Check != nil {
				t.Errorf("%v, %+v (-want +got):\n%s", ok, got.Check, diff)
			}
		})
	}
}

// TestOneBadNameLeavesTheOthers: and a bad check leaves the names.
func TestOneBadNameLeavesTheOthers(t *testing.T) {
	got, _ := Read(service("backend-names", "a.example.com,b_,c.example.com", "health-check", "ping"))
	if diff := cmp.Diff([]string{"a.example.com", "c.example.com"}, got.Names); diff != "" || len(got.Problems) != 2 || got.Check != nil {
		t.Errorf("%+v", got)
	}
	got, _ = Read(service("backend-names", "b_", "health-check", "tcp"))
	if got.Check == nil || len(got.Problems) != 1 {
		t.Errorf("a bad name takes the check with it: %+v", got)
	}
}

func TestServicesThatHaveNone(t *testing.T) {
	selecting := service("health-check", "tcp")
	selecting.Spec.Selector = map[string]string{"app": "a"}
	external := service("backend-names", "x")
	external.Spec.Type = corev1.ServiceTypeExternalName
	for _, svc := range []*corev1.Service{selecting, external} {
		got, ok := Read(svc)
		if !ok || Publishes(svc) || got.Check != nil || got.Names != nil || len(got.Problems) != 1 {
			t.Errorf("%v, %+v", ok, got)
		}
	}
	if !Publishes(service("health-check", "nonsense")) {
		t.Error("what cannot be understood must not change who publishes")
	}
}

// FuzzRead: whatever the annotations say, there is a check that can be done, or a
// problem.
func FuzzRead(f *testing.F) {
	f.Add("http", "80", "/", "host", "", "2s", "1s", "3", "2", "a,b")
	f.Add("grpc", "x", "", "", "s", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, kind, port, path, host, service_, interval, timeout, failures, successes, names string) {
		svc := service("health-check", kind, "backend-names", names)
		for a, v := range map[string]string{"port": port, "path": path, "host": host, "service": service_, "interval": interval, "timeout": timeout, "failures": failures, "successes": successes} {
			if v != "" {
				svc.Annotations["signpost.dev/health-check-"+a] = v
			}
		}
		got, ok := Read(svc)
		c := got.Check
		if !ok || c == nil && len(got.Problems) == 0 || len(got.Names) > mostNames {
			t.Fatalf("%v, %+v", ok, got)
		}
		if c == nil {
			return
		}
		if c.Interval < time.Second || c.Timeout <= 0 || c.Failures < 1 || c.Successes < 1 || strings.ContainsAny(c.Path+c.Host, " \r\n") || (c.Path == "") != (c.Kind == TCP || c.Kind == GRPC) {
			t.Errorf("%+v", c)
		}
	})
}
