package healthcheck

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/signpost-dev/signpost/pkg/model"
)

// report is what a load balancer is told of a Service, in kube-proxy's words.
type report struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// localEndpoints returns how many addresses of a family are ready behind svc on the
// node.
func localEndpoints(svc *model.Service, node string, ipv4 bool) int {
	seen := map[netip.Addr]struct{}{}
	for _, g := range svc.Groups {
		for _, e := range g.Endpoints {
			if e.Ready && e.Node == node && e.Addr.Is4() == ipv4 {
				seen[e.Addr] = struct{}{}
			}
		}
	}
	return len(seen)
}

// write answers with 200 if there is somebody here to send to, and 503 if not. The
// header is the number of endpoints, for balancers that weigh nodes by it.
func write(w http.ResponseWriter, name model.Name, local int, healthy bool) {
	var r report
	r.Service.Namespace, r.Service.Name = name.Namespace, name.Name
	r.LocalEndpoints, r.ServiceProxyHealthy = local, healthy
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(local))
	writeJSON(w, local > 0 && healthy, r)
}

func writeJSON(w http.ResponseWriter, ok bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // to who may be gone
}
