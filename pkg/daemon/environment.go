package daemon

import (
	"fmt"
	"os"
	"strings"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
)

// The environment that stands in for what the configuration leaves empty.
const (
	envNodeName  = "NODE_NAME"
	envAPIServer = "SIGNPOST_API_SERVER"
)

// FromEnvironment fills in what a configuration leaves to the environment: the
// name of the node, and the address of the API server.
func FromEnvironment(cfg *v1alpha1.SignpostConfiguration) error {
	if server := os.Getenv(envAPIServer); cfg.ClientConnection.Server == "" && server != "" {
		cfg.ClientConnection.Server = server
		if faults := cfg.Validate(); len(faults) > 0 {
			return fmt.Errorf("$%s: %w", envAPIServer, faults[0])
		}
	}
	if cfg.NodeName == "" {
		cfg.NodeName = os.Getenv(envNodeName)
	}
	if cfg.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("nodeName: not given, $%s is not set, and the host has no name: %w", envNodeName, err)
		}
		cfg.NodeName = strings.ToLower(strings.TrimSpace(host)) // as kubelets do
	}
	return nil
}
