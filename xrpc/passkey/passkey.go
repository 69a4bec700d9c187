// Package passkey registers and verifies passkeys (Web Authentication, WebAuthn Level 3): a passkey
// on a phone, a computer or a security key stands for an account's password and a second factor
// together. Package credential keeps them. This package makes the challenges and verifies what
// authenticators sign; nothing else links what that needs.
//
//	passkeys := passkey.New(passkey.Config{Credentials: credentials, URL: "https://pds.example.com"})
//
//	// Somebody who is signed in, and has just proved it, adds one:
//	options, err := passkeys.BeginRegistration(ctx, who, device)  // for navigator.credentials.create
//	added, err := passkeys.FinishRegistration(ctx, who, device, "my phone", response)
//
//	// Anybody signs in:
//	options, err := passkeys.BeginLogin(ctx, device)              // for navigator.credentials.get
//	proof, err := passkeys.FinishLogin(ctx, device, response)     // whose account it is says the passkey
//	a, session, err := credentials.StartSession(ctx, proof, false)
//
// # Rules
//
// The address of the server is what passkeys are bound to: under another host name, none of them is
// good any more. Only its own origin is taken, and no frame in a page of another. The authenticator
// must have verified its user, by a fingerprint or a PIN. It knows the account by a random name
// ([account.Store.UserHandle]), not by its DID.
//
// A challenge is good for five minutes, for once, for one purpose, and for whoever it was given to:
// binding names the device and what is being done there, such as a cookie together with the name of
// a request. Several may be open at once. Challenges lie in storage.KV, so every process of a host
// takes those of the others.
//
// A counter of signatures that goes back is noted: see [credential.Store.UsePasskey].
package passkey

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
)

// Errors that callers branch on, with errors.Is, beside those of packages account and credential.
// Those who do not link this package know them as credential.ErrWrongFactor and credential.ErrChallenge.
var (
	// ErrRefused: what the authenticator has answered is malformed, not signed by a passkey of an
	// account, or for another server. It wraps what is wrong, which is for logs, not for the client.
	ErrRefused error = refusal{}
	// ErrChallenge: see there.
	ErrChallenge = credential.ErrChallenge
)

// refusal is the type of ErrRefused.
type refusal struct{}

func (refusal) Error() string        { return "passkey: refused" }
func (refusal) Is(target error) bool { return target == credential.ErrWrongFactor }

// challengeLife is how long a challenge is good.
const challengeLife = 5 * time.Minute

// maxResponse is the length in bytes of the longest answer that is read.
const maxResponse = 64 << 10

// challengePrefix begins the keys of challenges, in the host's namespace.
const challengePrefix = "passkey/"

// Config configures Passkeys. Credentials and URL are required.
type Config struct {
	// Credentials are where passkeys are kept.
	Credentials *credential.Store
	// URL is the public address of the server, "https://pds.example.com". See [Possible].
	URL string
	// Name is what authenticators call the server. Empty: its host name.
	Name string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Passkeys registers and verifies passkeys. It is safe for concurrent use.
type Passkeys struct {
	credentials *credential.Store
	kv          storage.KV
	web         *webauthn.WebAuthn
	origin      string
	now         func() time.Time
}

// Possible reports whether a server at an address can have passkeys: its host must have a name, and
// browsers want https, but for localhost.
func Possible(address string) bool {
	_, _, ok := relyingParty(address)
	return ok
}

// relyingParty returns the host name and the origin of an address.
func relyingParty(address string) (host, origin string, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return "", "", false
	}
	host = strings.ToLower(u.Hostname())
	if _, err := netip.ParseAddr(host); err == nil || protocol.ValidateRPID(host) != nil {
		return "", "", false
	}
	if u.Scheme == "http" && host != "localhost" && !strings.HasSuffix(host, ".localhost") {
		return "", "", false
	}
	origin = u.Scheme + "://" + host
	if port := u.Port(); port != "" && !(u.Scheme == "https" && port == "443") && !(u.Scheme == "http" && port == "80") {
		origin += ":" + port
	}
	return host, origin, true
}

// New returns the passkeys of a configuration. It panics if something that is required is missing, or
// if a server at the address cannot have passkeys.
func New(cfg Config) *Passkeys {
	if cfg.Credentials == nil {
		panic("passkey: Config.Credentials is missing: give the credential.Store of the accounts that sign in")
	}
	host, origin, ok := relyingParty(cfg.URL)
	if !ok {
		panic(fmt.Sprintf("passkey: Config.URL is %q: give the public address of this server with a host name, as https://pds.example.com; see passkey.Possible", cfg.URL))
	}
	if cfg.Name == "" {
		cfg.Name = host
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	timeout := webauthn.TimeoutConfig{Timeout: challengeLife, TimeoutUVD: challengeLife} // which the browser is told
	required := true
	web, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: cfg.Name, RPOrigins: []string{origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: &required, UserVerification: protocol.VerificationRequired,
		},
		Timeouts:                          webauthn.TimeoutsConfig{Login: timeout, Registration: timeout},
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		panic("passkey: " + err.Error())
	}
	return &Passkeys{credentials: cfg.Credentials, kv: cfg.Credentials.Accounts().Host().Store().KV, web: web, origin: origin, now: cfg.Now}
}

// The purposes of challenges, by the type that client data has for them.
const (
	toCreate = "webauthn.create"
	toGet    = "webauthn.get"
)

// challenge is what is stored of one that was given out.
type challenge struct {
	Purpose string    `json:"purpose"`
	Binding string    `json:"binding"` // hashed
	Until   time.Time `json:"until"`
	// Of a registration: the account, and the value of its counter.
	DID         syntax.DID           `json:"did,omitempty"`
	Credentials int64                `json:"credentials,omitempty"`
	Session     webauthn.SessionData `json:"session"`
}

func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// give stores a challenge.
func (p *Passkeys) give(ctx context.Context, c challenge, binding string) error {
	c.Binding, c.Until = hashed(binding), p.now().Add(challengeLife).UTC()
	doc, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return p.kv.Write(ctx, func(tx storage.KVTx) error {
		return tx.Set(ctx, challengePrefix+hashed(c.Session.Challenge), doc, c.Until)
	})
}

// take returns a challenge and makes it void. One that was given to another device, or for something
// else, stays as it is.
func (p *Passkeys) take(ctx context.Context, purpose, text, binding string) (c challenge, err error) {
	key := challengePrefix + hashed(text)
	err = p.kv.Write(ctx, func(tx storage.KVTx) error {
		c = challenge{}
		doc, err := tx.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			return ErrChallenge
		} else if err != nil {
			return err
		}
		if err := exactjson.UnmarshalPlain(doc, &c); err != nil {
			return err
		}
		if c.Purpose != purpose || subtle.ConstantTimeCompare([]byte(c.Binding), []byte(hashed(binding))) != 1 {
			return ErrChallenge
		}
		return tx.Delete(ctx, key)
	})
	if err == nil && !p.now().Before(c.Until) {
		err = ErrChallenge
	}
	return c, err
}

// response is what an authenticator answers, of either kind. Members that are not here are not
// looked at.
type response struct {
	ID       string   `json:"id"`
	RawID    string   `json:"rawId"`
	Type     string   `json:"type"`
	Response answered `json:"response"`
}

type answered struct {
	ClientDataJSON string `json:"clientDataJSON"`
	// Of a registration.
	AttestationObject string   `json:"attestationObject,omitempty"`
	Transports        []string `json:"transports,omitempty"`
	// Of a login.
	AuthenticatorData string `json:"authenticatorData,omitempty"`
	Signature         string `json:"signature,omitempty"`
	UserHandle        string `json:"userHandle,omitempty"`
}

// clientData is what the browser says of where the answer was asked for.
type clientData struct {
	Type        string  `json:"type"`
	Challenge   string  `json:"challenge"`
	Origin      string  `json:"origin"`
	CrossOrigin bool    `json:"crossOrigin"`
	TopOrigin   *string `json:"topOrigin"`
}

func refused(err error) error { return fmt.Errorf("%w: %w", ErrRefused, err) }

// read reads an answer, takes its challenge, and returns the answer as its exact members are.
func (p *Passkeys) read(ctx context.Context, purpose, binding string, text []byte) (c challenge, exact []byte, err error) {
	if len(text) > maxResponse {
		return c, nil, refused(errors.New("the answer is too long"))
	}
	var r response
	if err := exactjson.UnmarshalPlain(text, &r); err != nil {
		return c, nil, refused(err)
	}
	said, err := base64.RawURLEncoding.DecodeString(r.Response.ClientDataJSON)
	if err != nil {
		return c, nil, refused(err)
	}
	var data clientData
	if err := exactjson.UnmarshalPlain(said, &data); err != nil {
		return c, nil, refused(err)
	}
	switch {
	case data.Type != purpose:
		return c, nil, refused(fmt.Errorf("the client data is for %q", data.Type))
	case data.Origin != p.origin:
		return c, nil, refused(fmt.Errorf("the answer is from %q", data.Origin))
	case data.CrossOrigin || data.TopOrigin != nil:
		return c, nil, refused(errors.New("the answer is from a frame in a page of another origin"))
	}
	if c, err = p.take(ctx, purpose, data.Challenge, binding); err != nil {
		return c, nil, err
	}
	exact, err = json.Marshal(r)
	return c, exact, err
}
