package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/signpost-dev/signpost/hack/cluster/place"
)

// programs are the paths of what is run.
type programs struct{ etcd, apiserver string }

const advice = "run `make packages programs`, which installs etcd and builds the Kubernetes programs"

// findPrograms looks where hack/cluster puts what it builds, and for etcd in the
// PATH.
func findPrograms() (programs, error) {
	server, err := StockProgram("kube-apiserver")
	if err != nil {
		return programs{}, err
	}
	p := programs{apiserver: server}
	if p.etcd, err = exec.LookPath("etcd"); err != nil && !errors.Is(err, exec.ErrDot) {
		return programs{}, fmt.Errorf("etcd is missing: %s", advice)
	}
	return p, nil
}

// builtPrograms returns the folder of the programs of the version of module that
// this checkout pins.
func builtPrograms(source, module string) (string, error) {
	checkout, err := place.Checkout()
	if err != nil {
		return "", err
	}
	cache, err := place.Cache()
	if err != nil {
		return "", err
	}
	return place.Programs(checkout, cache, source, module)
}

// writeKeys writes the key for service account tokens, and the token of Config's
// user.
func writeKeys(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key for service accounts: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("make a key for service accounts: %w", err)
	}
	for name, data := range map[string][]byte{
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"tokens.csv": []byte(token + ",tester,tester,system:masters\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("write the server's files: %w", err)
		}
	}
	return nil
}

// insecure is for asking whether the server is up, when its certificate may not
// be written yet: on loopback, to a process that we started.
func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true}
}
