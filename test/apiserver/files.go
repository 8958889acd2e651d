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

// ProgramsEnv names the environment variable that has the directory of the
// Kubernetes programs.
const ProgramsEnv = "SIGNPOST_PROGRAMS"

const advice = "run `make packages programs`, which installs etcd and builds the Kubernetes programs"

// findPrograms looks where ProgramsEnv says, else where hack/cluster puts what it
// builds. etcd may also be in the PATH.
func findPrograms() (programs, error) {
	dir := os.Getenv(ProgramsEnv)
	if dir == "" {
		var err error
		if dir, err = builtPrograms(); err != nil {
			return programs{}, fmt.Errorf("find the programs to test with: %w", err)
		}
	}
	p := programs{etcd: filepath.Join(dir, "etcd"), apiserver: filepath.Join(dir, "kube-apiserver")}
	if _, err := os.Stat(p.apiserver); err != nil {
		return programs{}, fmt.Errorf("%s is missing: %s", p.apiserver, advice)
	}
	if _, err := os.Stat(p.etcd); err == nil {
		return p, nil
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return programs{}, fmt.Errorf("etcd is missing: %s", advice)
	}
	p.etcd = etcd
	return p, nil
}

// builtPrograms returns the folder of the programs of the version that this
// checkout pins.
func builtPrograms() (string, error) {
	checkout, err := place.Checkout()
	if err != nil {
		return "", err
	}
	mod, err := os.ReadFile(filepath.Join(checkout, "hack", "cluster", "programs", "kubernetes", "go.mod"))
	if err != nil {
		return "", err
	}
	version, err := place.Version(mod, "k8s.io/kubernetes")
	if err != nil {
		return "", err
	}
	cache, err := place.Cache()
	return filepath.Join(cache, "programs", "kubernetes-"+version), err
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
