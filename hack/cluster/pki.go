package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Names of certificates that are no component's own.
const (
	caCert          = "ca"
	serviceAccounts = "service-accounts" // a pair of keys, to sign tokens
)

// identity is a certificate's owner, and for which hosts it may serve.
type identity struct {
	file   string
	user   string
	group  string
	ips    []string
	names  []string
	server bool
}

// identities are all that have a certificate. Users and groups are those that
// the API server's built-in roles are bound to.
func identities() []identity {
	out := []identity{
		{file: "admin", user: "admin", group: "system:masters"},
		{file: "kube-controller-manager", user: "system:kube-controller-manager"},
		{file: "kube-scheduler", user: "system:kube-scheduler"},
		{file: "kube-proxy", user: "system:kube-proxy"},
		{file: "apiserver-to-kubelet", user: "kube-apiserver", group: "system:masters"},
		{file: "kube-apiserver", user: "kube-apiserver", server: true,
			ips:   []string{hostIP, apiService, "127.0.0.1"},
			names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain}},
	}
	for _, n := range nodes() {
		out = append(out, identity{file: n.String(), user: "system:node:" + n.String(), group: "system:nodes", server: true,
			ips: []string{n.ip()}, names: []string{n.String()}})
	}
	return out
}

// ensurePKI makes the certificate authority, all certificates and the pair of
// keys for the tokens of service accounts, unless they are there.
func (c *cluster) ensurePKI() error {
	// The last one that is made says that all are.
	if _, err := os.Stat(c.paths.key(serviceAccounts)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.paths.cert(caCert)), 0o700); err != nil {
		return err
	}
	ca, caKey, err := c.newAuthority()
	if err != nil {
		return err
	}
	for i, id := range identities() {
		if err := c.newCertificate(id, int64(i+2), ca, caKey); err != nil {
			return err
		}
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(c.paths.cert(serviceAccounts), "PUBLIC KEY", public); err != nil {
		return err
	}
	return writeKey(c.paths.key(serviceAccounts), key)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newTemplate is what all certificates have in common. A cluster lives for days.
func newTemplate(serial int64, user, group string) *x509.Certificate {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: user},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
	}
	if group != "" {
		t.Subject.Organization = []string{group}
	}
	return t
}

func (c *cluster) newAuthority() (*x509.Certificate, crypto.Signer, error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	t := newTemplate(1, "signpost-cluster", "")
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	// Its key is not kept: nothing more is going to be signed.
	if err := writePEM(c.paths.cert(caCert), "CERTIFICATE", der); err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func (c *cluster) newCertificate(id identity, serial int64, ca *x509.Certificate, caKey crypto.Signer) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	t := newTemplate(serial, id.user, id.group)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if id.server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	t.DNSNames = id.names
	for _, ip := range id.ips {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	if err := writePEM(c.paths.cert(id.file), "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(c.paths.key(id.file), key)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, "PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
