package client

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/storage/sealed"
)

// Config configures a Client. Metadata is required.
type Config struct {
	// Metadata describes the client to servers. For programs on a user's own machine see
	// [Loopback].
	Metadata Metadata
	// Keys make the client a confidential one: it authenticates (private_key_jwt), and its sessions
	// last longer. New sessions are bound to the first key, older ones to the others. To replace a
	// key, put the new one first, and remove the old one once its sessions have ended. Remove a
	// leaked key at once; that ends its sessions. None: the client is public.
	Keys []Key

	// Sessions stores the sessions. Nil: they are in memory, and end with the process.
	Sessions SessionStore
	// States stores pending logins. Nil: Sessions, if it is a StateStore too; else memory, so that
	// a login must end in the process in which it began.
	States StateStore
	// Locks provides locks between all processes that share Sessions. Nil: Sessions, if it is a
	// Locker too; else memory, which suits a single process.
	Locks Locker
	// Seal encrypts the keys and tokens of sessions before they are stored. Nil: they are stored
	// unencrypted.
	Seal *sealed.Box

	// Discovery finds the servers of accounts, and makes all requests to authorization servers.
	// Nil: the zero Discovery.
	Discovery *Discovery
	// Transport makes the requests of sessions to PDSes, whose URLs are untrusted. Nil: that of
	// Discovery.HTTP if it is set; else one of package safehttp, without a limit on the length of
	// responses.
	Transport http.RoundTripper

	// LoginLife is the maximum duration of a login. 0: one hour.
	LoginLife time.Duration
	// OnUpdate, if not nil, is called after a session began or was renewed, and was stored. The
	// session is locked during OnUpdate and OnEnd: they must not renew or revoke it, and its other
	// users wait for them.
	OnUpdate func(Info)
	// OnEnd, if not nil, is called after this client has ended a session, or found that it has
	// ended, and has deleted it.
	OnEnd func(Info, EndReason)
}

// Key is a key with which a client authenticates.
type Key struct {
	// ID is the "kid" of the key in the key set. Empty: its thumbprint.
	ID     string
	Signer crypto.Signer
}

// Client logs accounts in and manages their sessions. Make one with New. It is safe for concurrent
// use. Several processes may have Clients over the same stores.
type Client struct {
	cfg   Config
	disc  *Discovery
	now   func() time.Time
	http  *http.Client // to authorization servers
	calls http.RoundTripper
	// unlocked is set if other processes may renew sessions without a lock.
	unlocked bool
	nonces   nonces

	mu      sync.Mutex
	flights map[SessionID]*flight
	unsaved map[SessionID]*held // renewed, and not stored yet
}

// New returns a client, or an error that says what is wrong with the configuration.
func New(cfg Config) (*Client, error) {
	cfg.Keys = slices.Clone(cfg.Keys)
	seen := make(map[string]bool)
	for i := range cfg.Keys {
		k := &cfg.Keys[i]
		if k.Signer == nil || k.Signer.PublicKey() == nil {
			return nil, errors.New("oauth client: Config.Keys has one without a Signer")
		}
		if k.ID == "" {
			k.ID = k.Signer.PublicKey().JWK().Thumbprint()
		}
		if seen[k.ID] {
			return nil, fmt.Errorf("oauth client: Config.Keys has two keys %s", k.ID)
		}
		seen[k.ID] = true
	}
	if err := cfg.Metadata.check(len(cfg.Keys) > 0); err != nil {
		return nil, err
	}
	if cfg.Discovery == nil {
		cfg.Discovery = new(Discovery)
	}
	if cfg.Sessions == nil {
		cfg.Sessions = &Memory{Now: cfg.Discovery.Now}
	}
	c := &Client{flights: make(map[SessionID]*flight), unsaved: make(map[SessionID]*held)}
	if cfg.States == nil {
		if s, ok := cfg.Sessions.(StateStore); ok {
			cfg.States = s
		} else {
			cfg.States = &Memory{Now: cfg.Discovery.Now}
		}
	}
	if cfg.Locks == nil {
		if l, ok := cfg.Sessions.(Locker); ok {
			cfg.Locks = l
		} else {
			cfg.Locks, c.unlocked = &Memory{}, true
		}
	}
	if cfg.LoginLife <= 0 {
		cfg.LoginLife = time.Hour
	}
	d := cfg.Discovery
	d.once.Do(d.init)
	switch {
	case cfg.Transport != nil:
		c.calls = cfg.Transport
	case d.HTTP != nil && d.HTTP.Transport != nil:
		c.calls = d.HTTP.Transport
	case d.HTTP != nil:
		c.calls = http.DefaultTransport
	default:
		c.calls = safehttp.NewClient(safehttp.Config{AllowPrivate: d.Development, AllowHTTP: d.Development, MaxBody: -1}).Transport
	}
	c.cfg, c.disc, c.now, c.http = cfg, d, d.now, d.http
	return c, nil
}

// Metadata returns the configured metadata, with defaults.
func (c *Client) Metadata() Metadata { return c.cfg.Metadata }

// key returns the key of an ID.
func (c *Client) key(id string) (Key, bool) {
	i := slices.IndexFunc(c.cfg.Keys, func(k Key) bool { return k.ID == id })
	if i < 0 {
		return Key{}, false
	}
	return c.cfg.Keys[i], true
}
