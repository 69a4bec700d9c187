// Package certs gets a server's certificates from an authority by ACME (RFC 8555), and reports
// events: when one is obtained or renewed, and when that fails and why.
//
// The server's own certificate is obtained at the start, those for other names at the first
// request. A failure never ends the server: it retries with increasing delays, since authorities
// limit failures. The last state is stored in a file for other programs.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// Config says for whom certificates are, and from where. Name, Policy and Dir are required.
type Config struct {
	// Name is the server's own host name.
	Name string
	// Policy returns nil for the names that may have a certificate.
	Policy func(ctx context.Context, name string) error
	// Dir is the folder in which certificates, the account's key and the state are kept.
	Dir string
	// Email is where the authority may write to. Directory is the address of the authority. Empty:
	// none; Let's Encrypt.
	Email, Directory string
	// UserAgent is what requests to the authority carry.
	UserAgent string
	// HTTP makes the requests to the authority. Nil: the default.
	HTTP http.RoundTripper
	// Event, if not nil, is told what happens. Calls may overlap.
	Event func(Event)
	// Logger gets the same. Nil: silent.
	Logger *slog.Logger
	// Now is the clock of retries and events. Nil: time.Now.
	Now func() time.Time
}

// Kind is what has happened to a certificate.
type Kind string

// The kinds of events.
const (
	Obtained Kind = "obtained"
	Renewed  Kind = "renewed"
	Failed   Kind = "failed"
)

// Event is what has happened.
type Event struct {
	Kind Kind
	// Name is the host name; empty: a failure about nobody knows which.
	Name string
	// Expires is when the certificate ends; zero with a failure.
	Expires time.Time
	// Reason says why it has failed, in the authority's words where it said any.
	Reason string
}

// Certs gets certificates. Make one with New. It is safe for concurrent use.
type Certs struct {
	cfg     Config
	manager *autocert.Manager
	log     *slog.Logger

	mu            sync.Mutex
	waiting       map[string]*failure // of names without a certificate
	lastFailure   Event               // the last failure that was reported, and when
	lastFailureAt time.Time
	state         State
}

// failure is of a name for which there is no certificate.
type failure struct {
	err   error
	pause time.Duration
	next  time.Time // when to try again
}

// Pauses after failures. Let's Encrypt allows five failures of a name in an hour.
const (
	firstPause   = 2 * time.Minute
	longestPause = time.Hour
	pauseFactor  = 3
	// mostWaiting bounds the names whose failures are remembered.
	mostWaiting = 1000
	// repeatWithin is for how long the same failure is not reported again.
	repeatWithin = time.Minute
)

// New returns Certs. It asks for nothing yet.
func New(cfg Config) *Certs {
	c := &Certs{cfg: cfg, log: cfg.Logger, waiting: make(map[string]*failure)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.cfg.Now == nil {
		c.cfg.Now = time.Now
	}
	c.state, _ = ReadState(cfg.Dir)
	if c.state.Name != cfg.Name {
		c.state = State{Name: cfg.Name}
	}
	c.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: &cache{autocert.DirCache(cfg.Dir), c}, HostPolicy: c.policy, Email: cfg.Email,
		Client: &acme.Client{DirectoryURL: cfg.Directory, UserAgent: cfg.UserAgent, HTTPClient: &http.Client{Transport: &listener{cfg.HTTP, c}}},
	}
	if cfg.Directory == "" {
		c.manager.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	return c
}

// TLSConfig is for a server that has these certificates, and answers challenges.
func (c *Certs) TLSConfig() *tls.Config {
	t := c.manager.TLSConfig()
	t.GetCertificate = c.certificate
	return t
}

// HTTPHandler answers challenges on port 80, and redirects all else to https. Without it, all
// challenges go to port 443.
func (c *Certs) HTTPHandler() http.Handler { return c.manager.HTTPHandler(nil) }

// errPolicy marks names that get none, for whoever asks.
type errPolicy struct{ error }

func (c *Certs) policy(ctx context.Context, name string) error {
	if err := c.cfg.Policy(ctx, name); err != nil {
		return errPolicy{err}
	}
	return nil
}

// certificate is the certificate for a handshake.
func (c *Certs) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto {
		return c.manager.GetCertificate(hello) // a challenge
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	c.mu.Lock()
	if f := c.waiting[name]; f != nil && c.cfg.Now().Before(f.next) {
		c.mu.Unlock()
		return nil, f.err
	}
	c.mu.Unlock()
	cert, err := c.manager.GetCertificate(hello)
	var unwanted errPolicy
	switch {
	case err == nil:
		c.mu.Lock()
		delete(c.waiting, name)
		c.mu.Unlock()
	case errors.As(err, &unwanted), !strings.Contains(name, "."): // the usual scans of the network
	default:
		c.fails(name, err)
	}
	return cert, err
}

// fails notes that a name got no certificate.
func (c *Certs) fails(name string, err error) {
	c.mu.Lock()
	f := c.waiting[name]
	now := c.cfg.Now()
	switch {
	case f == nil && len(c.waiting) >= mostWaiting:
		for other := range c.waiting { // any
			delete(c.waiting, other)
			break
		}
		fallthrough
	case f == nil:
		f = &failure{pause: firstPause}
		c.waiting[name] = f
	case now.Before(f.next): // several asked at the same time
		c.mu.Unlock()
		return
	default:
		f.pause = min(pauseFactor*f.pause, longestPause)
	}
	f.err, f.next = err, now.Add(f.pause)
	c.mu.Unlock()
	c.event(Event{Kind: Failed, Name: name, Reason: reason(err)})
}

// Run gets the certificate of the server itself, again and again until there is one, and then looks
// each hour that it was renewed, until the context ends.
func (c *Certs) Run(ctx context.Context) {
	for {
		wait := time.Hour
		cert, err := c.certificate(&tls.ClientHelloInfo{ServerName: c.cfg.Name, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
		if err != nil {
			c.mu.Lock()
			if f := c.waiting[c.cfg.Name]; f != nil {
				wait = max(f.next.Sub(c.cfg.Now()), time.Second)
			}
			c.mu.Unlock()
		} else {
			c.serving(cert)
		}
		if sleep.For(ctx, wait) != nil {
			return
		}
	}
}

// serving notes the certificate of the server that is in use.
func (c *Certs) serving(cert *tls.Certificate) {
	leaf := cert.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return
		}
	}
	c.mu.Lock()
	known := c.state.Expires.Equal(leaf.NotAfter)
	c.mu.Unlock()
	if !known { // it was there before this program
		c.keep(func(s *State) { s.Expires = leaf.NotAfter.UTC() })
	}
	if c.cfg.Event != nil {
		c.cfg.Event(Event{Name: c.cfg.Name, Expires: leaf.NotAfter})
	}
}

// event tells what has happened.
func (c *Certs) event(e Event) {
	now := c.cfg.Now()
	if e.Kind == Failed {
		if c.isRepeat(e, now) {
			return
		}
		c.log.Warn("certificate: it could not be had", "name", e.Name, "reason", e.Reason)
		c.keep(func(s *State) { s.Failure = &Failure{Name: e.Name, Reason: e.Reason, At: now.UTC()} })
	} else {
		c.log.Info("certificate "+string(e.Kind), "name", e.Name, "until", e.Expires.UTC().Format(time.RFC3339))
		c.keep(func(s *State) {
			if e.Name == s.Name {
				s.Expires = e.Expires.UTC()
			}
			if f := s.Failure; f != nil && (f.Name == e.Name || f.Name == "") {
				s.Failure = nil
			}
		})
	}
	if c.cfg.Event != nil {
		c.cfg.Event(e)
	}
}

// isRepeat reports whether a failure was reported just now. One is heard of twice: in the authority's
// words, which may leave out the name, and from whoever waits for the certificate.
func (c *Certs) isRepeat(e Event, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.lastFailure
	if now.Sub(c.lastFailureAt) < repeatWithin && last.Kind != "" && (e.Name != "" && e.Name == last.Name || strings.Contains(e.Reason, last.Reason)) {
		if last.Name == "" && e.Name != "" {
			c.lastFailure.Name = e.Name
			if f := c.state.Failure; f != nil && f.Name == "" {
				f.Name = e.Name
			}
		}
		return true
	}
	c.lastFailure, c.lastFailureAt = e, now
	return false
}

// cache keeps certificates in files, and tells of new ones.
type cache struct {
	autocert.DirCache
	c *Certs
}

func (k *cache) Put(ctx context.Context, key string, doc []byte) error {
	_, had := k.Get(ctx, key)
	err := k.DirCache.Put(ctx, key, doc)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(string(k.DirCache), key), err)
	}
	name, kind, plus := strings.Cut(key, "+")
	if plus && kind != "rsa" {
		return nil // a challenge, or the account
	}
	leaf := firstCertificate(doc)
	if leaf == nil {
		return nil
	}
	e := Event{Kind: Obtained, Name: name, Expires: leaf.NotAfter}
	if had == nil {
		e.Kind = Renewed
	}
	k.c.event(e)
	return nil
}

// firstCertificate is the first one in PEM; nil: there is none.
func firstCertificate(doc []byte) *x509.Certificate {
	for {
		var b *pem.Block
		if b, doc = pem.Decode(doc); b == nil {
			return nil
		}
		if b.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return nil
			}
			return c
		}
	}
}
