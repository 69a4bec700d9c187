//go:build !nopasskeys && !nopages

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

// challengeLife is how long a challenge is good.
const challengeLife = 5 * time.Minute

// maxResponse is the length in bytes of the longest answer that is read.
const maxResponse = 64 << 10

// challengePrefix begins the keys of challenges, in the host's namespace.
const challengePrefix = "passkey/"

// Passkeys registers and verifies passkeys. It is safe for concurrent use.
type Passkeys struct {
	credentials *credential.Store
	kv          storage.KV
	web         *webauthn.WebAuthn
	origin      string
	now         func() time.Time
}

// Possible reports whether a server at a URL can have passkeys: its host must have a name and,
// except for localhost, use https.
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

// New returns the passkeys of a configuration. It panics if something required is missing, or if a
// server at the URL cannot have passkeys.
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
	// Fields of a registration: the account, and the value of its counter.
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

// take returns a challenge and makes it void. One that was given to another device, or for
// something else, stays as it is.
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
	// Fields of a registration.
	AttestationObject string   `json:"attestationObject,omitempty"`
	Transports        []string `json:"transports,omitempty"`
	// Fields of a login.
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
