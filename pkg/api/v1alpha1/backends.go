package v1alpha1

import "strings"

// Annotations of a Service without selector, whose backends are what somebody has
// written into its Endpoints or EndpointSlices, or what names stand for.
const (
	// AnnotationBackendNames are DNS names, separated by commas, whose addresses
	// are backends of the Service, at the target ports of its ports.
	AnnotationBackendNames = "signpost.dev/backend-names"
	// AnnotationHealthCheck says how each backend is checked: http, https, tcp or
	// grpc. Without it none is.
	AnnotationHealthCheck = "signpost.dev/health-check"
	// AnnotationHealthCheckPort is the port that is checked: a number, or the name
	// of a port. By default it is the first TCP port of the backend.
	AnnotationHealthCheckPort = "signpost.dev/health-check-port"
	// AnnotationHealthCheckPath is the path and query to GET, by default "/".
	AnnotationHealthCheckPath = "signpost.dev/health-check-path"
	// AnnotationHealthCheckHost is the Host to ask for by http and https, and the
	// :authority by grpc. By default it is the address and port of the backend.
	AnnotationHealthCheckHost = "signpost.dev/health-check-host"
	// AnnotationHealthCheckService is the service that grpc asks about, by default
	// "", which stands for the whole server.
	AnnotationHealthCheckService = "signpost.dev/health-check-service"
	// AnnotationHealthCheckInterval is how long each of the nodes that check waits
	// between two checks of a backend, 1s to 5m, by default 2s.
	AnnotationHealthCheckInterval = "signpost.dev/health-check-interval"
	// AnnotationHealthCheckTimeout is how long a check may take, 100ms to 30s, by
	// default 1s.
	AnnotationHealthCheckTimeout = "signpost.dev/health-check-timeout"
	// AnnotationHealthCheckFailures is how many checks in a row have to fail for a
	// backend to leave, 1 to 100, by default 3.
	AnnotationHealthCheckFailures = "signpost.dev/health-check-failures"
	// AnnotationHealthCheckSuccesses is how many checks in a row have to succeed
	// for it to come back, 1 to 100, by default 2.
	AnnotationHealthCheckSuccesses = "signpost.dev/health-check-successes"
)

// The values of AnnotationHealthCheck.
const (
	HealthCheckHTTP  = "http"
	HealthCheckHTTPS = "https"
	HealthCheckTCP   = "tcp"
	HealthCheckGRPC  = "grpc"
)

// BackendsManager is the value of the label endpointslice.kubernetes.io/managed-by
// of the EndpointSlices that say which external backends of a Service work. For a
// Service that asks for that, they count, and no others.
const BackendsManager = "external-backends.signpost.dev"

// WantsBackends says whether a Service with these annotations asks for
// EndpointSlices of BackendsManager, be it in a way that cannot be understood.
func WantsBackends(annotations map[string]string) bool {
	for a := range annotations {
		if a == AnnotationBackendNames || strings.HasPrefix(a, AnnotationHealthCheck) {
			return true
		}
	}
	return false
}

// ConditionBackendsHealthy is the condition of a Service that WantsBackends: it is
// True if all its backends work. Its reason and message say what else there is.
const ConditionBackendsHealthy = "signpost.dev/BackendsHealthy"

// The reasons of ConditionBackendsHealthy.
const (
	// ReasonBackendsHealthy: all work.
	ReasonBackendsHealthy = "AllHealthy"
	// ReasonBackendsNotChecked: there is no health check, so that all count as working.
	ReasonBackendsNotChecked = "NotChecked"
	// ReasonBackendsDown: some fail their check, and get nothing.
	ReasonBackendsDown = "BackendsDown"
	// ReasonBackendsFailOpen: all of a family fail their check, or nobody can check
	// them. They get packets as if they worked: none would be no better.
	ReasonBackendsFailOpen = "FailOpen"
	// ReasonBackendsNone: there are none.
	ReasonBackendsNone = "NoBackends"
	// ReasonBackendsUnknown: not all have been checked yet.
	ReasonBackendsUnknown = "Checking"
	// ReasonBackendsUnresolved: a name has no address, or cannot be resolved now.
	ReasonBackendsUnresolved = "NamesNotResolved"
	// ReasonBackendsInvalid: it cannot be understood what the Service asks for. Nothing
	// is checked then, and all count as working.
	ReasonBackendsInvalid = "InvalidHealthCheck"
)
