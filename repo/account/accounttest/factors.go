package accounttest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
)

// plainFactor is a key of factors with its value, without what is random.
func (w *world) plainFactor(pair storage.KVPair) string {
	w.tb.Helper()
	switch pair.Key {
	case "factor/list":
		var f struct {
			TOTP     *struct{ Step int64 }
			Email    *struct{ Name string }
			Recovery *struct{ Hashes []string }
			Passkeys []struct{ Counter int }
			Resets   []credential.Reset
		}
		w.ok(json.Unmarshal(pair.Value, &f))
		text := fmt.Sprintf("factors: %v %v %v %v", f.TOTP, f.Email, f.Passkeys, f.Resets)
		if f.Recovery != nil {
			text += fmt.Sprintf(" %d recovery codes", len(f.Recovery.Hashes))
		}
		return text
	case "factor/totp", "factor/enrolment": // sealed
		return pair.Key
	}
	return pair.Key + " " + string(pair.Value)
}

// begin begins to enrol an app for alice.
func (v *village) begin() error {
	e, err := v.credentials.BeginApp(v.ctx, v.who, "PDS")
	v.secret = e.Secret
	return err
}

// code is what the app shows.
func (v *village) code() string {
	code, err := credential.AppCode(v.secret, v.clock.now())
	v.ok(err)
	return code
}

// wrongCode is one that the app shows neither now nor before nor after.
func (v *village) wrongCode() string {
	shown := make(map[string]bool)
	for i := range 3 {
		code, err := credential.AppCode(v.secret, v.clock.now().Add(time.Duration(i-1)*30*time.Second))
		v.ok(err)
		shown[code] = true
	}
	for i := 0; ; i++ {
		if code := fmt.Sprintf("%06d", i); !shown[code] {
			return code
		}
	}
}

// passkey is alice's.
func passkey() credential.Passkey {
	return credential.Passkey{CredentialID: []byte("id"), PublicKey: []byte("key"), Counter: 1}
}

// equip gives alice one factor of each kind, and lets the code pass by which the app was confirmed.
func (v *village) equip() {
	v.ok(v.credentials.ConfirmEmail(v.ctx, v.who, "alice@example.com", v.tokens[credential.ForEmailConfirmation]))
	v.ok(v.begin())
	_, err := v.credentials.ConfirmApp(v.ctx, v.who, "phone", v.code())
	v.ok(err)
	v.ok(v.credentials.EnableEmailCodes(v.ctx, v.who))
	v.recovery, err = v.credentials.NewRecoveryCodes(v.ctx, v.who)
	v.ok(err)
	a, _, err := v.credentials.Passkeys(v.ctx, v.who)
	v.ok(err)
	_, err = v.credentials.AddPasskey(v.ctx, v.who, a.Credentials, passkey())
	v.ok(err)
	v.clock.pass(time.Minute)
}

// factorOperations are those on second factors and passkeys.
func factorOperations(ctx context.Context) []operation {
	equip := func(v *village) { v.equip() }
	check := func(v *village, code string) (credential.Proof, error) {
		a, err := v.accounts.ByDID(ctx, alice)
		if err != nil {
			return credential.Proof{}, err
		}
		return v.credentials.CheckFactor(ctx, credential.Proof{Account: a}, code)
	}
	return []operation{
		{name: "get a user handle", session: true, run: func(v *village) error {
			_, err := v.accounts.UserHandle(ctx, v.who)
			return err
		}},
		{name: "begin an app", session: true, run: func(v *village) error { return v.begin() }},
		{name: "confirm an app", session: true, prepare: func(v *village) { v.ok(v.begin()) }, run: func(v *village) error {
			_, err := v.credentials.ConfirmApp(ctx, v.who, "phone", v.code())
			return err
		}},
		{name: "exchange an app", session: true, prepare: func(v *village) { v.equip(); v.ok(v.begin()) }, run: func(v *village) error {
			_, err := v.credentials.ConfirmApp(ctx, v.who, "other phone", v.code())
			return err
		}},
		{name: "show a code", prepare: equip, run: func(v *village) error {
			_, err := check(v, v.code())
			return err
		}},
		{name: "show a wrong code", prepare: equip, fails: credential.ErrWrongFactor, run: func(v *village) error {
			_, err := check(v, v.wrongCode())
			return err
		}},
		{name: "show a recovery code", prepare: equip, run: func(v *village) error {
			_, err := check(v, v.recovery[0])
			return err
		}},
		{name: "log in with a code", prepare: equip, run: func(v *village) error {
			p, err := check(v, v.code())
			if err == nil {
				_, _, err = v.credentials.StartSession(ctx, p, false)
			}
			return err
		}, between: []func(*village){func(v *village) {
			_, err := check(v, v.code())
			v.ok(err)
		}}},
		{name: "log in without a code", prepare: equip, fails: credential.ErrFactorRequired, run: func(v *village) error {
			a, err := v.accounts.ByDID(ctx, alice)
			if err == nil {
				_, _, err = v.credentials.StartSession(ctx, credential.Proof{Account: a}, false)
			}
			return err
		}},
		{name: "ask for a code by mail", prepare: equip, run: func(v *village) error {
			a, err := v.accounts.ByDID(ctx, alice)
			if err == nil {
				_, _, err = v.credentials.NewFactorCode(ctx, credential.Proof{Account: a})
			}
			return err
		}},
		{name: "make recovery codes", session: true, prepare: equip, run: func(v *village) error {
			_, err := v.credentials.NewRecoveryCodes(ctx, v.who)
			return err
		}},
		{name: "add a passkey", session: true, run: func(v *village) error {
			_, err := v.credentials.AddPasskey(ctx, v.who, 0, passkey())
			return err
		}},
		{name: "use a passkey", prepare: equip, run: func(v *village) error {
			key := passkey()
			_, err := v.credentials.UsePasskey(ctx, alice, credential.PasskeyUse{CredentialID: key.CredentialID, PublicKey: key.PublicKey, Counter: 7})
			return err
		}},
		{name: "remove a factor", session: true, prepare: equip, run: func(v *village) error {
			set, err := v.credentials.Factors(ctx, v.who)
			if err != nil {
				return err
			}
			return v.credentials.RemoveFactor(ctx, v.who, set.Factors[0].ID)
		}},
		{name: "reset factors", prepare: equip, run: func(v *village) error {
			_, err := v.credentials.ResetFactors(ctx, alice, "admin")
			return err
		}},
		{name: "delete with factors", prepare: equip, run: func(v *village) error { return v.accounts.Delete(ctx, account.Trusted(alice)) }},
	}
}
