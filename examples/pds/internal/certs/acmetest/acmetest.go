// Package acmetest is a small certificate authority for tests: the part of ACME (RFC 8555) that a
// client needs to get certificates. It checks challenges, but no signatures.
package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
)

// Authority is one that runs.
type Authority struct {
	// URL is its directory.
	URL string
	// Root is the certificate that signs, for clients to trust.
	Root *x509.Certificate

	t    testing.TB
	http *httptest.Server
	key  *ecdsa.PrivateKey

	mu       sync.Mutex
	address  func(name string) string
	old      bool   // certificates that are due to be renewed
	refusal  string // of new orders
	orders   []*order
	requests int
}

// order is one for a name. Its number is that of its authorization and challenge too.
type order struct {
	name   string
	status string // pending, ready, valid, invalid
	detail string
	chain  []byte
}

// New starts an authority. address returns where the TLS server of a name listens, for challenges
// of the type tls-alpn-01 (RFC 8737); "" refuses the connection.
func New(t testing.TB, address func(name string) string) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Test authority"}}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{t: t, key: key, address: address}
	if a.Root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.http = httptest.NewServer(http.HandlerFunc(a.serve))
	a.URL = a.http.URL + "/directory"
	t.Cleanup(a.http.Close)
	return a
}

// Old makes all certificates from now on such that they are due to be renewed at once, or no
// longer.
func (a *Authority) Old(on bool) { a.mu.Lock(); defer a.mu.Unlock(); a.old = on }

// Refuse answers new orders with a problem from now on; "" takes them again.
func (a *Authority) Refuse(detail string) { a.mu.Lock(); defer a.mu.Unlock(); a.refusal = detail }

// Orders is how many orders there were, with those that were refused.
func (a *Authority) Orders() int { a.mu.Lock(); defer a.mu.Unlock(); return a.requests }

func (a *Authority) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", rand.Text())
	base := a.http.URL
	if r.URL.Path == "/directory" {
		answer(w, 200, map[string]any{"newNonce": base + "/nonce", "newAccount": base + "/account", "newOrder": base + "/order", "revokeCert": base + "/revoke", "keyChange": base + "/key"})
		return
	}
	if r.URL.Path == "/nonce" {
		return
	}
	var jws struct {
		Payload string `json:"payload"`
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	exactjson.UnmarshalAnswer(body, &jws)
	payload, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch path := r.URL.Path; {
	case path == "/account":
		w.Header().Set("Location", base+"/account/1")
		answer(w, 201, map[string]any{"status": "valid"})
	case path == "/order":
		a.newOrder(w, payload)
	default:
		var kind string
		var n int
		if _, err := fmt.Sscanf(strings.ReplaceAll(path, "/", " "), "%s %d", &kind, &n); err != nil || n < 0 || n >= len(a.orders) {
			problem(w, 404, "malformed", "there is no "+path)
			return
		}
		a.step(w, kind, n, payload)
	}
}

func (a *Authority) newOrder(w http.ResponseWriter, payload []byte) {
	a.requests++
	if a.refusal != "" {
		problem(w, 429, "rateLimited", a.refusal)
		return
	}
	var in struct {
		Identifiers []struct {
			Value string `json:"value"`
		} `json:"identifiers"`
	}
	if exactjson.UnmarshalAnswer(payload, &in) != nil || len(in.Identifiers) != 1 {
		problem(w, 400, "malformed", "one name, please")
		return
	}
	a.orders = append(a.orders, &order{name: in.Identifiers[0].Value, status: "pending"})
	a.showOrder(w, 201, len(a.orders)-1)
}

// step serves what belongs to an order.
func (a *Authority) step(w http.ResponseWriter, kind string, n int, payload []byte) {
	o := a.orders[n]
	switch kind {
	case "order":
		a.showOrder(w, 200, n)
	case "authz":
		a.showAuthz(w, n)
	case "challenge":
		if o.status == "pending" {
			if o.detail = a.check(o.name); o.detail == "" {
				o.status = "ready"
			} else {
				o.status = "invalid"
			}
		}
		answer(w, 200, a.challenge(n))
	case "finalize":
		var in struct {
			CSR string `json:"csr"`
		}
		exactjson.UnmarshalAnswer(payload, &in)
		der, _ := base64.RawURLEncoding.DecodeString(in.CSR)
		chain, err := a.sign(o.name, der)
		if err != nil || o.status != "ready" {
			problem(w, 403, "orderNotReady", fmt.Sprint(o.status, " ", err))
			return
		}
		o.chain, o.status = chain, "valid"
		a.showOrder(w, 200, n)
	case "cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Write(o.chain)
	}
}

func (a *Authority) showOrder(w http.ResponseWriter, status, n int) {
	o := a.orders[n]
	at := func(what string) string { return fmt.Sprintf("%s/%s/%d", a.http.URL, what, n) }
	w.Header().Set("Location", at("order"))
	doc := map[string]any{"status": o.status, "identifiers": []any{map[string]string{"type": "dns", "value": o.name}}, "authorizations": []string{at("authz")}, "finalize": at("finalize")}
	if o.status == "valid" {
		doc["certificate"] = at("cert")
	}
	answer(w, status, doc)
}

func (a *Authority) showAuthz(w http.ResponseWriter, n int) {
	o := a.orders[n]
	status := map[string]string{"ready": "valid", "valid": "valid"}[o.status]
	if status == "" {
		status = o.status
	}
	answer(w, 200, map[string]any{"status": status, "identifier": map[string]string{"type": "dns", "value": o.name}, "challenges": []any{a.challenge(n)}})
}

func (a *Authority) challenge(n int) map[string]any {
	o := a.orders[n]
	doc := map[string]any{"type": "tls-alpn-01", "url": fmt.Sprintf("%s/challenge/%d", a.http.URL, n), "token": fmt.Sprintf("token-%d-of-the-test", n), "status": "pending"}
	switch o.status {
	case "invalid":
		doc["status"] = "invalid"
		doc["error"] = map[string]any{"type": "urn:ietf:params:acme:error:connection", "detail": o.detail, "status": 400}
	case "ready", "valid":
		doc["status"] = "valid"
	}
	return doc
}

// check asks the server of a name for the certificate of a challenge. It returns what is wrong.
func (a *Authority) check(name string) string {
	address := a.address(name)
	if address == "" {
		return name + ": no route to host"
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
	if err != nil {
		return fmt.Sprintf("%s: %v", name, err)
	}
	defer conn.Close()
	for _, ext := range conn.ConnectionState().PeerCertificates[0].Extensions {
		if ext.Id.String() == "1.3.6.1.5.5.7.1.31" && ext.Critical {
			return ""
		}
	}
	return name + ": the certificate is not that of a challenge"
}

// sign makes a certificate of a request.
func (a *Authority) sign(name string, der []byte) ([]byte, error) {
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(3 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if a.old {
		c.NotBefore, c.NotAfter = time.Now().Add(-3*time.Hour), time.Now().Add(30*time.Minute)
	}
	out, err := x509.CreateCertificate(rand.Reader, c, a.Root, req.PublicKey, a.key)
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: out}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root.Raw})...), err
}

func answer(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(doc)
}

func problem(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": detail, "status": status})
}
