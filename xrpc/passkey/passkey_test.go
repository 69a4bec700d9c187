//go:build !nopasskeys && !nopages

package passkey_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/passkey"
	"github.com/pdskit/pdskit/xrpc/passkey/passkeytest"
)

var _ = testenv.CheapPasswords()

const (
	origin = "https://pds.example.com"
	alice  = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob    = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
	device = "device and request"
)

// bench is a server with two accounts, at a time that tests move.
type bench struct {
	*passkey.Passkeys
	t           *testing.T
	store       storage.Store
	accounts    *account.Store
	credentials *credential.Store
	now         time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return b.now }
	b.store = memory.New(memory.Config{Now: clock})
	box, err := sealed.New(make([]byte, 32))
	b.ok(err)
	b.accounts = account.Open(repo.Config{Store: b.store, TempDir: t.TempDir(), Now: clock}, box)
	b.credentials = credential.New(credential.Config{Accounts: b.accounts, Now: clock})
	b.Passkeys = passkey.New(passkey.Config{Credentials: b.credentials, URL: origin + "/", Now: clock})
	for did, handle := range map[syntax.DID]syntax.Handle{alice: "alice.test", bob: "bob.test"} {
		key, err := crypto.GenerateKey(crypto.K256)
		b.ok(err)
		_, err = b.accounts.Create(t.Context(), account.Account{DID: did, Handle: handle, Email: string(handle[:3]) + "@example.com", Password: "none"}, key, repo.Batch{})
		b.ok(err)
	}
	return b
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) is(what string, err, want error) {
	b.t.Helper()
	if !errors.Is(err, want) {
		b.t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// register registers a passkey of an account.
func (b *bench) register(did syntax.DID, a *passkeytest.Authenticator) (credential.Passkey, error) {
	b.t.Helper()
	options, err := b.BeginRegistration(b.t.Context(), account.Trusted(did), device)
	b.ok(err)
	return b.FinishRegistration(b.t.Context(), account.Trusted(did), device, "key", a.Create(options))
}

// begin begins a login.
func (b *bench) begin() []byte {
	b.t.Helper()
	options, err := b.BeginLogin(b.t.Context(), device)
	b.ok(err)
	return options
}

func (b *bench) finish(response []byte) (credential.Proof, error) {
	return b.FinishLogin(b.t.Context(), device, response)
}

// registered is a server with a passkey of alice.
func registered(t *testing.T) (*bench, *passkeytest.Authenticator) {
	t.Helper()
	b, a := newBench(t), passkeytest.New(t, origin)
	_, err := b.register(alice, a)
	b.ok(err)
	return b, a
}

func TestPasskey(t *testing.T) {
	b, a := newBench(t), passkeytest.New(t, origin)
	ctx := t.Context()
	a.Flags |= passkeytest.Eligible
	a.Counter = 3
	options, err := b.BeginRegistration(ctx, account.Trusted(alice), device)
	b.ok(err)
	var o struct {
		RP                     struct{ ID, Name string }
		User                   struct{ ID, Name string }
		Attestation            string
		AuthenticatorSelection struct{ ResidentKey, UserVerification string }
		ExcludeCredentials     []struct{ ID string }
		Timeout                int
	}
	b.ok(json.Unmarshal(options, &o))
	if o.RP.ID != "pds.example.com" || o.RP.Name != "pds.example.com" || o.User.Name != "alice.test" || o.AuthenticatorSelection.ResidentKey != "required" ||
		o.AuthenticatorSelection.UserVerification != "required" || o.Timeout != 300_000 || len(o.ExcludeCredentials) != 0 {
		t.Errorf("%s", options)
	}
	for _, secret := range []string{string(alice), base64.RawURLEncoding.EncodeToString([]byte(alice)), "alice@"} {
		if strings.Contains(string(options), secret) {
			t.Errorf("the authenticator is told %s", secret)
		}
	}
	added, err := b.FinishRegistration(ctx, account.Trusted(alice), device, "my phone", a.Create(options))
	b.ok(err)
	if added.Name != "my phone" || added.Counter != 3 || !added.BackupEligible || added.BackedUp || !bytes.Equal(added.CredentialID, a.ID) {
		t.Errorf("%+v", added)
	}
	if diff := cmp.Diff([]string{"internal", "hybrid"}, added.Transports); diff != "" {
		t.Error(diff)
	}
	// The next registration excludes it.
	options, err = b.BeginRegistration(ctx, account.Trusted(alice), device)
	b.ok(err)
	b.ok(json.Unmarshal(options, &o))
	if len(o.ExcludeCredentials) != 1 || o.ExcludeCredentials[0].ID != base64.RawURLEncoding.EncodeToString(a.ID) {
		t.Errorf("%s", options)
	}

	b.now = b.now.Add(time.Hour)
	a.Counter, a.Flags = 4, a.Flags|passkeytest.BackedUp
	proof, err := b.finish(a.Get(b.begin()))
	b.ok(err)
	if proof.Account.DID != alice || proof.Shown != (credential.Shown{Kind: credential.PasskeyKind, ID: added.ID}) || !proof.At.Equal(b.now) {
		t.Errorf("%+v", proof)
	}
	_, _, err = b.credentials.StartSession(ctx, proof, false)
	b.ok(err)
	_, list, err := b.credentials.Passkeys(ctx, account.Trusted(alice))
	b.ok(err)
	if len(list) != 1 || list[0].Counter != 4 || !list[0].BackedUp || !list[0].LastUsed.Equal(b.now) {
		t.Errorf("%+v", list)
	}
	// Nothing of the challenges is left.
	b.ok(b.store.KV.Read(ctx, func(r storage.KVReader) error {
		n := 0
		for range r.Keys(ctx, storage.Prefix("passkey/")) {
			n++
		}
		if n != 0 { // that of the registration which was not finished has expired
			t.Errorf("%d challenges are left", n)
		}
		return nil
	}))
}

// 166: an answer to another challenge, to another server, from another place, or of nobody.
func TestMatrix166Login(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a *passkeytest.Authenticator)
		want   error
	}{
		"foreign origin":          {func(a *passkeytest.Authenticator) { a.Origin = "https://evil.example.com" }, passkey.ErrRefused},
		"origin of a port":        {func(a *passkeytest.Authenticator) { a.Origin = origin + ":8443" }, passkey.ErrRefused},
		"origin in upper case":    {func(a *passkeytest.Authenticator) { a.Origin = "HTTPS://PDS.EXAMPLE.COM" }, passkey.ErrRefused},
		"origin without TLS":      {func(a *passkeytest.Authenticator) { a.Origin = "http://pds.example.com" }, passkey.ErrRefused},
		"subdomain":               {func(a *passkeytest.Authenticator) { a.Origin = "https://alice.pds.example.com" }, passkey.ErrRefused},
		"foreign RP ID":           {func(a *passkeytest.Authenticator) { a.RPID = "evil.example.com" }, passkey.ErrRefused},
		"parent as RP ID":         {func(a *passkeytest.Authenticator) { a.RPID = "example.com" }, passkey.ErrRefused},
		"user not verified":       {func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Present }, passkey.ErrRefused},
		"user not present":        {func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Verified }, passkey.ErrRefused},
		"backed up, not eligible": {func(a *passkeytest.Authenticator) { a.Flags |= passkeytest.BackedUp }, passkey.ErrRefused},
		"became eligible":         {func(a *passkeytest.Authenticator) { a.Flags |= passkeytest.Eligible }, passkey.ErrRefused},
		"key of another":          {func(a *passkeytest.Authenticator) { a.Key = passkeytest.New(a.T, origin).Key }, passkey.ErrRefused},
		"credential that is none": {func(a *passkeytest.Authenticator) { a.ID = []byte("another") }, passkey.ErrRefused},
		"user handle of nobody":   {func(a *passkeytest.Authenticator) { a.Handle = []byte("nobody") }, passkey.ErrRefused},
		"DID as user handle":      {func(a *passkeytest.Authenticator) { a.Handle = []byte(alice) }, passkey.ErrRefused},
		"no user handle":          {func(a *passkeytest.Authenticator) { a.Handle = nil }, passkey.ErrRefused},
		"type of a registration":  {func(a *passkeytest.Authenticator) { a.Said = set("type", "webauthn.create") }, passkey.ErrRefused},
		"frame of another origin": {func(a *passkeytest.Authenticator) { a.Said = set("crossOrigin", true) }, passkey.ErrRefused},
		"top origin":              {func(a *passkeytest.Authenticator) { a.Said = set("topOrigin", origin) }, passkey.ErrRefused},
		"challenge of nobody": {func(a *passkeytest.Authenticator) {
			a.Said = set("challenge", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
		}, passkey.ErrChallenge},
		"no challenge":             {func(a *passkeytest.Authenticator) { a.Said = set("challenge", "") }, passkey.ErrChallenge},
		"challenge in other case":  {func(a *passkeytest.Authenticator) { a.Said = rename("challenge", "Challenge") }, passkey.ErrChallenge},
		"origin under other name":  {func(a *passkeytest.Authenticator) { a.Said = rename("origin", "Origin") }, passkey.ErrRefused},
		"token binding is ignored": {func(a *passkeytest.Authenticator) { a.Said = set("other_keys_can_be_added_here", "x") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b, a := registered(t)
			options := b.begin()
			c.change(a)
			_, err := b.finish(a.Get(options))
			b.is(name, err, c.want)
		})
	}
}

func set(key string, value any) func(map[string]any) {
	return func(m map[string]any) { m[key] = value }
}

func rename(from, to string) func(map[string]any) {
	return func(m map[string]any) { m[to] = m[from]; delete(m, from) }
}

// 166: the same for registrations.
func TestMatrix166Registration(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a *passkeytest.Authenticator)
		want   error
	}{
		"foreign origin":    {func(a *passkeytest.Authenticator) { a.Origin = "https://evil.example.com" }, passkey.ErrRefused},
		"foreign RP ID":     {func(a *passkeytest.Authenticator) { a.RPID = "evil.example.com" }, passkey.ErrRefused},
		"user not verified": {func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Present }, passkey.ErrRefused},
		"user not present":  {func(a *passkeytest.Authenticator) { a.Flags = passkeytest.Verified }, passkey.ErrRefused},
		"type of a login":   {func(a *passkeytest.Authenticator) { a.Said = set("type", "webauthn.get") }, passkey.ErrRefused},
		"frame":             {func(a *passkeytest.Authenticator) { a.Said = set("crossOrigin", true) }, passkey.ErrRefused},
		"other challenge":   {func(a *passkeytest.Authenticator) { a.Said = set("challenge", "AAAA") }, passkey.ErrChallenge},
		"no ID":             {func(a *passkeytest.Authenticator) { a.ID = nil }, passkey.ErrRefused},
		"long ID":           {func(a *passkeytest.Authenticator) { a.ID = make([]byte, 2000) }, passkey.ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			b, a := newBench(t), passkeytest.New(t, origin)
			c.change(a)
			_, err := b.register(alice, a)
			b.is(name, err, c.want)
			set, err := b.credentials.Factors(t.Context(), account.Trusted(alice))
			b.ok(err)
			if len(set.Factors) != 0 {
				t.Errorf("%+v", set)
			}
		})
	}
}

// 166: a challenge is good for once, for its purpose, its device and five minutes.
func TestMatrix166Challenge(t *testing.T) {
	b, a := registered(t)
	ctx := t.Context()
	options := b.begin()
	answer := a.Get(options)
	_, err := b.FinishLogin(ctx, "another device", answer)
	b.is("another device", err, passkey.ErrChallenge)
	_, err = b.finish(answer) // which the other has not spoilt
	b.ok(err)
	_, err = b.finish(answer)
	b.is("a replay", err, passkey.ErrChallenge)
	_, err = b.finish(a.Get(options))
	b.is("another answer to the challenge", err, passkey.ErrChallenge)

	// An answer that is refused has used its challenge too.
	options = b.begin()
	good := a.Get(options)
	_, err = b.finish(newAuthenticatorFor(a).Get(options))
	b.is("another key", err, passkey.ErrRefused)
	_, err = b.finish(good)
	b.is("the right key after that", err, passkey.ErrChallenge)

	answer = a.Get(b.begin())
	b.now = b.now.Add(5 * time.Minute)
	_, err = b.finish(answer)
	b.is("too late", err, passkey.ErrChallenge)

	// That of a registration is none of a login, and the other way round.
	creation, err := b.BeginRegistration(ctx, account.Trusted(alice), device)
	b.ok(err)
	_, err = b.finish(a.Get(withRP(t, creation)))
	b.is("challenge of a registration", err, passkey.ErrChallenge)
	other := passkeytest.New(t, origin)
	other.Said = set("challenge", challengeOf(t, b.begin()))
	_, err = b.FinishRegistration(ctx, account.Trusted(alice), device, "", other.Create(creation))
	b.is("challenge of a login", err, passkey.ErrChallenge)

	// That of one account registers nothing for another.
	_, err = b.FinishRegistration(ctx, account.Trusted(bob), device, "", passkeytest.New(t, origin).Create(creation))
	b.is("challenge of another account", err, passkey.ErrChallenge)

	// Several are open at once, on one device.
	one, two := a.Get(b.begin()), a.Get(b.begin())
	_, err = b.finish(two)
	b.ok(err)
	_, err = b.finish(one)
	b.ok(err)
}

// newAuthenticatorFor is another one that has the ID of a's passkey and says that it is its owner.
func newAuthenticatorFor(a *passkeytest.Authenticator) *passkeytest.Authenticator {
	other := passkeytest.New(a.T, origin)
	other.ID, other.Handle = a.ID, a.Handle
	return other
}

func challengeOf(t *testing.T, options []byte) string {
	t.Helper()
	var o struct{ Challenge string }
	if err := json.Unmarshal(options, &o); err != nil {
		t.Fatal(err)
	}
	return o.Challenge
}

// withRP makes request options of creation options.
func withRP(t *testing.T, creation []byte) []byte {
	return fmt.Appendf(nil, `{"challenge":%q,"rpId":"pds.example.com"}`, challengeOf(t, creation))
}

// 166: of those who show one answer at once, one gets in.
func TestMatrix166ReplayAtOnce(t *testing.T) {
	b, a := registered(t)
	answer := a.Get(b.begin())
	var all sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		all.Go(func() {
			_, err := b.finish(answer)
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	in := 0
	for err := range errs {
		if err == nil {
			in++
		} else {
			b.is("the others", err, passkey.ErrChallenge)
		}
	}
	if in != 1 {
		t.Errorf("%d got in", in)
	}
}

// 166: a passkey of bob with the user handle of alice, and one that both have registered.
func TestMatrix166OtherAccount(t *testing.T) {
	b, a := registered(t)
	other := passkeytest.New(t, origin)
	_, err := b.register(bob, other)
	b.ok(err)
	bobs := other.Handle
	other.Handle = a.Handle
	_, err = b.finish(other.Get(b.begin()))
	b.is("bob's passkey as alice", err, passkey.ErrRefused)
	other.Handle = bobs
	proof, err := b.finish(other.Get(b.begin()))
	b.ok(err)
	if proof.Account.DID != bob {
		t.Errorf("bob is %s", proof.Account.DID)
	}
	// Who registers alice's ID for bob gets nothing of hers.
	thief := newAuthenticatorFor(a)
	_, err = b.register(bob, thief)
	b.ok(err)
	thief.Handle = a.Handle
	_, err = b.finish(thief.Get(b.begin()))
	b.is("alice's ID with bob's key", err, passkey.ErrRefused)
	// A key is registered for an account once.
	_, err = b.register(alice, a)
	b.is("the same passkey again", err, credential.ErrDuplicatePasskey)
}

// 167: whose account it is says the passkey, also if it is deactivated; one that is taken down lets
// nobody in.
func TestMatrix167Status(t *testing.T) {
	b, a := registered(t)
	ctx := t.Context()
	b.ok(b.accounts.Deactivate(ctx, account.Trusted(alice), time.Time{}))
	proof, err := b.finish(a.Get(b.begin()))
	b.ok(err)
	if proof.Account.Status() != account.Deactivated {
		t.Errorf("%+v", proof.Account)
	}
	b.ok(b.accounts.TakeDown(ctx, alice, account.Takedown{Applied: true, Ref: "x"}))
	_, err = b.finish(a.Get(b.begin()))
	b.is("taken down", err, account.ErrTakenDown)
	_, _, err = b.credentials.StartSession(ctx, proof, true)
	b.is("what was proved before", err, credential.ErrWrongPassword)
	b.ok(b.accounts.Delete(ctx, account.Trusted(alice)))
	_, err = b.finish(a.Get(b.begin()))
	b.is("deleted", err, passkey.ErrRefused)
}

// A passkey that was removed is none, nor one whose registration began before the password changed.
func TestRemovedPasskey(t *testing.T) {
	b, a := registered(t)
	ctx, who := t.Context(), account.Trusted(alice)
	set, err := b.credentials.Factors(ctx, who)
	b.ok(err)
	answer := a.Get(b.begin())
	b.ok(b.credentials.RemoveFactor(ctx, who, set.Factors[0].ID))
	_, err = b.finish(answer)
	b.is("removed", err, passkey.ErrRefused)

	options, err := b.BeginRegistration(ctx, who, device)
	b.ok(err)
	b.ok(b.credentials.EndSessions(ctx, who))
	_, err = b.FinishRegistration(ctx, who, device, "", a.Create(options))
	b.is("signed out everywhere meanwhile", err, account.ErrTokenRevoked)

	for range credential.MaxPasskeys {
		_, err := b.register(alice, passkeytest.New(t, origin))
		b.ok(err)
	}
	_, err = b.BeginRegistration(ctx, who, device)
	b.is("too many", err, credential.ErrTooManyPasskeys)
}

// The counter of a copy goes back, which is noted.
func TestCounterGoesBack(t *testing.T) {
	b, a := registered(t)
	for _, c := range []struct {
		counter uint32
		back    int
	}{{1, 0}, {7, 0}, {7, 1}, {2, 2}, {8, 2}} {
		a.Counter = c.counter
		_, err := b.finish(a.Get(b.begin()))
		b.ok(err)
		_, list, err := b.credentials.Passkeys(t.Context(), account.Trusted(alice))
		b.ok(err)
		if list[0].CounterBack != c.back {
			t.Errorf("counter %d: %d times back, want %d", c.counter, list[0].CounterBack, c.back)
		}
	}
}

// Another process over the same store takes the challenge.
func TestOtherProcess(t *testing.T) {
	b, a := registered(t)
	clock := func() time.Time { return b.now }
	box, err := sealed.New(make([]byte, 32))
	b.ok(err)
	accounts := account.Open(repo.Config{Store: b.store, TempDir: t.TempDir(), Now: clock}, box)
	other := passkey.New(passkey.Config{Credentials: credential.New(credential.Config{Accounts: accounts, Now: clock}), URL: origin, Now: clock})
	answer := a.Get(b.begin())
	_, err = other.FinishLogin(t.Context(), device, answer)
	b.ok(err)
	_, err = b.finish(answer)
	b.is("a replay in this one", err, passkey.ErrChallenge)
}

func TestPossible(t *testing.T) {
	for url, want := range map[string]bool{
		"https://pds.example.com": true, "https://PDS.example.com:8443/x": true, "http://localhost:2583": true, "http://pds.localhost": true,
		"http://pds.example.com": false, "http://127.0.0.1:2583": false, "https://[::1]": false, "https://user@example.com": false, "ftp://example.com": false, "": false, "://": false,
	} {
		if got := passkey.Possible(url); got != want {
			t.Errorf("%q: %v", url, got)
		}
	}
	for want, cfg := range map[string]passkey.Config{
		"Config.Credentials": {URL: origin},
		"Config.URL":         {Credentials: newBench(t).credentials, URL: "http://127.0.0.1"},
	} {
		got := func() (got any) {
			defer func() { got = recover() }()
			passkey.New(cfg)
			return nil
		}()
		if text, _ := got.(string); !strings.Contains(text, want) {
			t.Errorf("without %s: %v", want, got)
		}
	}
}
