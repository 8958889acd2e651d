package iptables

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRefused reads what the programs of iptables 1.8.9 say.
func TestRefused(t *testing.T) {
	const text = "*nat\n:A - [0:0]\n-A A -m foo\n-A A -j X\nCOMMIT\n"
	const help = "Try `iptables-restore -h' or 'iptables-restore --help' for more information.\n"
	tests := []struct {
		name, stderr string
		want         *RefusedError
	}{
		{"unknown match", "iptables-nft-restore v1.8.9 (nf_tables): Couldn't load match `foo':No such file or directory\n\nError occurred at line: 3\n" + help,
			&RefusedError{Program: "p", Line: 3, Text: "-A A -m foo", Message: "Couldn't load match `foo':No such file or directory"}},
		{"kernel over nft", "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: RULE_APPEND failed (Invalid argument): rule in chain A\n",
			&RefusedError{Program: "p", Line: 4, Text: "-A A -j X", Message: "line 4: RULE_APPEND failed (Invalid argument): rule in chain A"}},
		{"kernel, legacy", "iptables-restore: line 5 failed\n",
			&RefusedError{Program: "p", Line: 5, Text: "COMMIT", Message: "iptables-restore: line 5 failed"}},
		{"silence", "", &RefusedError{Program: "p", Message: "failed without a word"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := errors.AsType[*RefusedError](refused("p", text, tt.stderr))
			if diff := cmp.Diff(tt.want, got); !ok || diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	locked := refused("p", text, "Another app is currently holding the xtables lock; still 4s 0us time ahead to have a chance to grab the lock...\nAnother app is currently holding the xtables lock. Perhaps you want to use the -w option?\n")
	if !errors.Is(locked, ErrLocked) {
		t.Errorf("locked: got %v", locked)
	}
}
