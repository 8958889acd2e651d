package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
)

// TestRequestsAreLimitedOnlyOnDemand: client-go's own default is 5 per second.
func TestRequestsAreLimitedOnlyOnDemand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443"}}],
		"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {"token": "t"}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ qps, want float32 }{{v1alpha1.Default().ClientConnection.QPS, -1}, {-3, -1}, {20, 20}} {
		config, err := restConfig(t.Context(), &v1alpha1.ClientConnection{Kubeconfig: file, QPS: tt.qps, Burst: 30})
		if err != nil {
			t.Fatal(err)
		}
		if config.QPS != tt.want || config.Burst != 30 {
			t.Errorf("qps %v became %v with a burst of %d, want %v and 30", tt.qps, config.QPS, config.Burst, tt.want)
		}
	}
}
