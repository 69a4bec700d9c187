package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

const plcKeyHelp = `
A new key is made. In the DID of every account here it replaces the old key, by an operation that
the old key signs. Then the old key is deleted. Other rotation keys, such as users' own, stay. A DID
without the old key is left alone: its user, or the server that the account moved to, has removed
the key.

The server must be stopped when this begins. Afterwards it can be interrupted at any moment, and the
server be started, which uses both keys. Run the command again to finish, with or without the
server; then restart the server, and it forgets the old key.

If PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX sets the key, put a new one in front ("NEW,OLD"), run
this command, and then remove the old one. Make a backup afterwards: earlier ones have the old key.
`

// rotatePLCKey exchanges the PLC rotation key.
func rotatePLCKey(ctx context.Context, c *call) (err error) {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if cfg.PLC == "" {
		return errors.New("the PLC directory is part of this server (PDS_DID_PLC_URL is not set): its DIDs are good for nothing else")
	}
	began, err := cfg.PLCRotating()
	if err != nil {
		return err
	}
	// A server that runs knows of the new key if it was there before.
	_, secrets, d, err := c.open(ctx, !began)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if !began {
		if err := cfg.AddPLCRotationKey(); err != nil {
			return err
		}
		if secrets, err = cfg.Secrets(); err != nil {
			return err
		}
	}
	if len(secrets.PLCRotationKeys) < 2 {
		return fmt.Errorf("%w: put a new key in front of that in PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX, with a comma between them", errUsage)
	}
	s, err := inDir(d, secrets.MasterKeys)
	if err != nil {
		return err
	}
	r := plcRotation{plc: &identity.PLCClient{URL: cfg.PLC}, to: secrets.PLCRotationKeys[0], from: secrets.PLCRotationKeys[1:]}
	var out struct {
		Changed int `json:"changed"`
		// Without are DIDs that have none of the keys; Done, those that had the new one already.
		Without []syntax.DID `json:"without"`
		Done    int          `json:"done"`
	}
	var failed []error
	out.Without = []syntax.DID{}
	shown := c.progress("accounts")
	n := 0
	for a, err := range s.Accounts.All(ctx) {
		if err != nil {
			return err
		}
		if a.DID.Method() != "plc" {
			continue
		}
		switch state, err := r.rotate(ctx, a.DID); {
		case err != nil && (ctx.Err() != nil || errors.Is(err, identity.ErrUnavailable)):
			shown.done()
			return fmt.Errorf("%s: %w (nothing is lost: run rotate-plc-key again)", a.DID, err)
		case err != nil: // of this DID alone
			failed = append(failed, fmt.Errorf("%s: %w", a.DID, err))
		case state == keyChanged:
			out.Changed++
		case state == keyThere:
			out.Done++
		default:
			out.Without = append(out.Without, a.DID)
		}
		n++
		shown.at(n)
	}
	shown.done()
	if len(failed) > 0 {
		return fmt.Errorf("%w\nThe old key is kept, since these DIDs may still need it; all others are done. Run rotate-plc-key again", errors.Join(failed...))
	}
	if err := cfg.DropPLCRotationKeys(); err != nil {
		return err
	}
	text := fmt.Sprintf("The DIDs of %s have another PLC rotation key.", accountCount(out.Changed+out.Done))
	if len(out.Without) > 0 {
		text += fmt.Sprintf("\nThese have none of this server's, and were left alone:\n%s", strings.Join(strs(out.Without), "\n"))
	}
	return c.result(out, "%s", text)
}

func strs[T ~string](list []T) (out []string) {
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

// plcRotation replaces rotation keys in DIDs.
type plcRotation struct {
	plc  *identity.PLCClient
	to   *crypto.PrivateKey
	from []*crypto.PrivateKey
}

// keyState is what became of a DID.
type keyState int

const (
	keyChanged keyState = iota
	keyThere            // the new key, and none of the old ones
	keyAbsent           // none of the keys
)

// rotateTries bounds how often the directory is asked, with longer and longer pauses: it limits how
// often it may be. Somebody else may change a DID at the same moment, too.
const rotateTries = 8

func (r *plcRotation) rotate(ctx context.Context, did syntax.DID) (state keyState, err error) {
	for try := range rotateTries {
		if try > 0 {
			if err := sleep.For(ctx, time.Second<<try/2); err != nil {
				return 0, err
			}
		}
		state, err = r.once(ctx, did)
		switch {
		case errors.Is(err, identity.ErrTombstoned): // nothing can be signed for it any more
			return keyAbsent, nil
		case err == nil || errors.Is(err, identity.ErrNotFound) || ctx.Err() != nil:
			return state, err
		}
	}
	return state, err
}

func (r *plcRotation) once(ctx context.Context, did syntax.DID) (state keyState, err error) {
	var from []*crypto.PublicKey
	var signers []crypto.Signer
	for _, key := range r.from {
		from, signers = append(from, key.PublicKey()), append(signers, key)
	}
	to := r.to.PublicKey()
	_, err = identity.Rotate(ctx, r.plc, did, func(op *identity.PLCOperation) error {
		switch {
		case op.ReplaceRotationKeys(to, from...):
			state = keyChanged
		case slices.Contains(op.RotationKeys, to.DIDKey()):
			state = keyThere
		default:
			state = keyAbsent
		}
		return nil
	}, signers...)
	return state, err
}
