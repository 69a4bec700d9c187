//go:build unix

package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// StartTLS starts a server for one test, and returns it with the connection string of its TCP port,
// which says that its certificate is to be verified.
func StartTLS(tb testing.TB) (s *Server, url string) {
	tb.Helper()
	s, err := newServer([]string{"-c", "ssl=on"})
	missing(tb, err)
	tb.Cleanup(s.Close)
	root := filepath.Join(tb.TempDir(), "root.pem")
	if err = s.initdb(); err == nil {
		if err = s.certify(root); err == nil {
			err = s.begin()
		}
	}
	missing(tb, err)
	return s, fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=verify-full&sslrootcert=%s", s.port, root)
}

// certify writes the server's key and certificate, and the certificate to root.
func (s *Server) certify(root string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, content := range map[string][]byte{
		root: cert, filepath.Join(s.data(), "server.crt"): cert,
		filepath.Join(s.data(), "server.key"): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return err
		}
		if s.who != nil && file != root {
			if err := os.Chown(file, int(s.who.Uid), int(s.who.Gid)); err != nil {
				return err
			}
		}
	}
	return nil
}
