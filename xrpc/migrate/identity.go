package migrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// credentials are what a server recommends for a DID document (getRecommendedDidCredentials).
type credentials struct {
	RotationKeys        []string                       `json:"rotationKeys"`
	AlsoKnownAs         []string                       `json:"alsoKnownAs"`
	VerificationMethods map[string]string              `json:"verificationMethods"`
	Services            map[string]identity.PLCService `json:"services"`
}

// recommended asks the new server what the DID document must have.
func (m *mover) recommended(ctx context.Context) (c credentials, err error) {
	if err := m.new.query(ctx, "com.atproto.identity.getRecommendedDidCredentials", nil, &c); err != nil {
		return c, err
	}
	if c.VerificationMethods[identity.SigningKeyID] == "" || c.Services[identity.PDSID].Endpoint == "" || len(c.AlsoKnownAs) == 0 {
		return c, fmt.Errorf("%w: the new server's credentials lack a key, an address or a handle", ErrDiffers)
	}
	return c, nil
}

// sign has the operation made and signed that moves the did:plc. It only changes what the new
// server needs: keys, services and names that have nothing to do with either server stay, and so do
// the user's own rotation keys, with their authority.
func (m *mover) sign(ctx context.Context) error {
	want, err := m.recommended(ctx)
	if err != nil {
		return err
	}
	last, err := m.lastOperation(ctx)
	if err != nil {
		return err
	}
	prev, err := last.CID()
	if err != nil {
		return err
	}
	if op := m.st.Operation; op != nil && op.Prev == prev && satisfies(op, want) {
		return nil
	}
	m.st.Operation = nil
	now, err := last.Data(m.st.DID)
	if err != nil {
		return err
	}
	op, err := last.Next()
	if err != nil {
		return err
	}
	if satisfies(op, want) && len(m.AddRotationKeys) == 0 {
		return nil // it was submitted, and the state file lost
	}
	if op.RotationKeys, err = m.rotationKeys(ctx, now.RotationKeys, want.RotationKeys); err != nil {
		return err
	}
	op.AlsoKnownAs = slices.Clone(want.AlsoKnownAs)
	for _, name := range now.AlsoKnownAs {
		if !strings.HasPrefix(name, "at://") && !slices.Contains(op.AlsoKnownAs, name) {
			op.AlsoKnownAs = append(op.AlsoKnownAs, name)
		}
	}
	op.VerificationMethods = merge(now.VerificationMethods, want.VerificationMethods)
	op.Services = merge(now.Services, want.Services)
	if err := op.Validate(); err != nil {
		return err
	}
	if m.RotationKey != nil {
		if !slices.Contains(now.RotationKeys, m.RotationKey.PublicKey().DIDKey()) {
			return &Error{Err: fmt.Errorf("%s is not a rotation key of %s", m.RotationKey.PublicKey().DIDKey(), m.st.DID),
				Next: "Give a key that is, or none, to have the old server sign.", Field: "RotationKey"}
		}
		err = op.Sign(ctx, m.RotationKey)
	} else {
		op, err = m.signByOldServer(ctx, op, now.RotationKeys)
	}
	if err != nil {
		return err
	}
	m.st.Operation = op
	return nil
}

// lastOperation asks the directory for the last operation.
func (m *mover) lastOperation(ctx context.Context) (op *identity.PLCOperation, err error) {
	directory := &session{patience: m.Patience}
	err = directory.do(ctx, func(*xrpc.Client) (err error) {
		op, err = m.plc.Last(ctx, m.st.DID)
		return err
	})
	return op, err
}

func merge[V any](have, want map[string]V) map[string]V {
	all := make(map[string]V)
	maps.Copy(all, have)
	maps.Copy(all, want)
	return all
}

// satisfies reports whether an operation makes the document what the new server needs.
func satisfies(op *identity.PLCOperation, want credentials) bool {
	for _, k := range want.RotationKeys {
		if !slices.Contains(op.RotationKeys, k) {
			return false
		}
	}
	return op.VerificationMethods[identity.SigningKeyID] == want.VerificationMethods[identity.SigningKeyID] &&
		op.Services[identity.PDSID] == want.Services[identity.PDSID] &&
		len(op.AlsoKnownAs) > 0 && op.AlsoKnownAs[0] == want.AlsoKnownAs[0]
}

// rotationKeys are the keys to be: those to add, those of now that are not the old server's,
// those of the new server.
func (m *mover) rotationKeys(ctx context.Context, now, recommended []string) ([]string, error) {
	var old credentials
	if err := m.old.query(ctx, "com.atproto.identity.getRecommendedDidCredentials", nil, &old); err != nil {
		return nil, err
	}
	var keys []string
	add := func(list []string) {
		for _, k := range list {
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	add(m.AddRotationKeys)
	foreign := slices.DeleteFunc(slices.Clone(now), func(k string) bool {
		return slices.Contains(old.RotationKeys, k) || slices.Contains(recommended, k)
	})
	add(foreign)
	add(recommended)
	if len(foreign) > 0 {
		m.report(Event{Step: Sign, Status: "warning", Message: "These rotation keys, which the old server does not call its own, stay in authority over the DID. " +
			"If one is not yours, remove it after the move: " + strings.Join(foreign, ", ")})
	}
	return keys, nil
}

// signByOldServer has the old server sign, which demands a token that it sends by mail. What it
// signs must be what it was asked to.
func (m *mover) signByOldServer(ctx context.Context, op *identity.PLCOperation, authority []string) (*identity.PLCOperation, error) {
	for try := 0; ; try++ {
		token := m.Token
		m.Token = "" // good once
		if token == "" {
			if err := m.old.procedure(ctx, "com.atproto.identity.requestPlcOperationSignature", nil, nil); err != nil {
				return nil, fmt.Errorf("request a token: %w", err)
			}
			q := Question{"token", "Token that " + m.OldHost + " has sent by mail", false}
			var err error
			if token, err = m.ask(ctx, q, "Token"); err != nil {
				return nil, err
			}
		}
		in := map[string]any{
			"token": strings.TrimSpace(token), "rotationKeys": op.RotationKeys, "alsoKnownAs": op.AlsoKnownAs,
			"verificationMethods": op.VerificationMethods, "services": op.Services,
		}
		var out struct {
			Operation *identity.PLCOperation `json:"operation"`
		}
		err := m.old.do(ctx, func(c *xrpc.Client) error {
			return c.Procedure(ctx, "com.atproto.identity.signPlcOperation", in, &out)
		})
		wrong := errors.Is(err, &xrpc.Error{Name: "InvalidToken"}) || errors.Is(err, &xrpc.Error{Name: "ExpiredToken"})
		switch {
		case wrong && m.Ask != nil && try < 3:
			m.report(Event{Step: Sign, Status: "warning", Message: "The token is not good (any more); another is being sent."})
			continue
		case wrong:
			return nil, &Error{Err: err, Next: "Run the move again without the token, to be sent another one.", Field: "Token"}
		case err != nil:
			return nil, err
		case out.Operation == nil:
			return nil, fmt.Errorf("%w: no operation", ErrDiffers)
		}
		got := out.Operation
		if _, err := got.Verify(authority); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDiffers, err)
		}
		asked := *op
		asked.Sig = got.Sig
		a, err1 := got.CID()
		b, err2 := asked.CID()
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if a != b {
			return nil, &Error{Err: fmt.Errorf("%w: the old server signed another operation", ErrDiffers),
				Next: "Do not go on by this way; move with a rotation key if you have one.", Field: "RotationKey"}
		}
		return got, nil
	}
}

// submit submits the signed operation by way of the new server, which checks it and tells
// the network.
func (m *mover) submit(ctx context.Context) error {
	op := m.st.Operation
	if op == nil {
		return nil // see sign
	}
	want, err := op.CID()
	if err != nil {
		return err
	}
	submitted := func() (bool, error) {
		last, err := m.lastOperation(ctx)
		if err != nil {
			return false, err
		}
		have, err := last.CID()
		return have == want, err
	}
	if done, err := submitted(); err != nil || done {
		return err
	}
	err = m.new.do(ctx, func(c *xrpc.Client) error {
		err := c.Procedure(ctx, "com.atproto.identity.submitPlcOperation", map[string]any{"operation": op}, nil)
		if err != nil && ctx.Err() == nil {
			if done, _ := submitted(); done {
				return nil
			}
		}
		return err
	})
	if isStatus(err, http.StatusBadRequest) {
		return errors.Join(&Error{Err: err, Next: "Nothing has changed. Run the move again, to have a new operation signed."}, m.st.forget(Sign))
	}
	return err
}

// awaitDocument waits until the owner of a did:web has changed its document.
func (m *mover) awaitDocument(ctx context.Context) error {
	want, err := m.recommended(ctx)
	if err != nil {
		return err
	}
	need := &identity.Document{ID: m.st.DID, AlsoKnownAs: want.AlsoKnownAs,
		Services: []identity.Service{{ID: "#" + identity.PDSID, Type: identity.PDSType, Endpoint: want.Services[identity.PDSID].Endpoint}},
		VerificationMethods: []identity.VerificationMethod{{ID: string(m.st.DID) + "#" + identity.SigningKeyID, Type: "Multikey", Controller: string(m.st.DID),
			PublicKeyMultibase: strings.TrimPrefix(want.VerificationMethods[identity.SigningKeyID], "did:key:")}},
	}
	for announced := false; ; announced = true {
		m.resolver.Purge(syntax.AtIdentifier(m.st.DID))
		doc, err := m.resolver.ResolveDID(ctx, m.st.DID)
		if err == nil && names(doc, want) {
			return nil
		}
		if !announced {
			m.report(Event{Step: Identity, Status: "waiting", Document: need,
				Message: "Change the DID document of " + string(m.st.DID) + " so that it has these entries; what else it has may stay. The move goes on when it sees the change, also if it is interrupted and run again."})
		}
		if err := sleep.For(ctx, m.Poll); err != nil {
			return err
		}
	}
}

// names reports whether a document has what the new server needs.
func names(doc *identity.Document, want credentials) bool {
	pds, _ := doc.PDS()
	key, err := doc.SigningKey()
	handle, _ := doc.Handle()
	return err == nil && key.DIDKey() == want.VerificationMethods[identity.SigningKeyID] && pds == want.Services[identity.PDSID].Endpoint &&
		"at://"+string(handle) == want.AlsoKnownAs[0]
}
