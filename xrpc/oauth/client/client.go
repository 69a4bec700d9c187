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
	// Metadata is what servers know of the client: see Metadata, and Loopback for programs on a
	// person's own machine.
	Metadata Metadata
	// Keys make the client a confidential one, which authenticates (private_key_jwt) and gets
	// sessions that last longer. New sessions are bound to the first key. The others are for older
	// sessions: to replace a key, put the new one in front, and drop the old one once its sessions
	// have ended. A key that leaked is dropped at once; that ends its sessions. None: the client is
	// public.
	Keys []Key

	// Sessions keeps the sessions. Nil: in memory, so that they end with the process.
	Sessions SessionStore
	// States keeps the logins that are under way. Nil: Sessions, if it is a StateStore too; else in
	// memory, so that a login ends in the process that has begun it.
	States StateStore
	// Locks holds between all processes that share Sessions. Nil: Sessions, if it is a Locker too;
	// else in memory, which is right if there is one process.
	Locks Locker
	// Seal encrypts the keys and tokens of sessions before the stores get them. Nil: they are
	// stored in the clear.
	Seal *sealed.Box

	// Discovery finds the servers of accounts, and makes all requests to authorization servers.
	// Nil: its zero value.
	Discovery *Discovery
	// Transport makes the requests of sessions to PDSes, which strangers have named. Nil: that of
	// Discovery.HTTP if it is set; else one of package safehttp, without a bound on the length of
	// answers.
	Transport http.RoundTripper

	// LoginLife is how long a login may take. 0: one hour.
	LoginLife time.Duration
	// OnUpdate, if not nil, is told when a session began or was renewed, after it was stored. While
	// it and OnEnd are called, the session is locked: they must neither renew nor revoke it, and
	// they keep its other users waiting.
	OnUpdate func(Info)
	// OnEnd, if not nil, is told when this client finds or makes a session ended, after it was
	// deleted.
	OnEnd func(Info, EndReason)
}

// Key is a key by which a client authenticates.
type Key struct {
	// ID is the key's name in the key set, its "kid". Empty: its thumbprint.
	ID     string
	Signer crypto.Signer
}

// Client lets accounts log in, and keeps their sessions. Make one with New. It is safe for
// concurrent use, and several processes may have Clients over the same stores.
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

// New returns a client. The error says what is wrong with the configuration.
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

// Metadata is that of the configuration, with its defaults.
func (c *Client) Metadata() Metadata { return c.cfg.Metadata }

// key returns the key of an ID.
func (c *Client) key(id string) (Key, bool) {
	i := slices.IndexFunc(c.cfg.Keys, func(k Key) bool { return k.ID == id })
	if i < 0 {
		return Key{}, false
	}
	return c.cfg.Keys[i], true
}
