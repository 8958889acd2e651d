package debian

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestMissing(t *testing.T) {
	const status = "installed iptables\nconfig-files conntrack\nnot-installed etcd-server\ninstalled runc\n"
	for _, tt := range []struct {
		name           string
		packages, want []string
	}{
		{"all there", []string{"runc", "iptables"}, nil},
		{"removed, but its configuration is left", []string{"iptables", "conntrack"}, []string{"conntrack"}},
		{"known and unknown, named twice", []string{"unheard-of", "etcd-server", "unheard-of"}, []string{"etcd-server", "unheard-of"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, missing(tt.packages, status), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}
