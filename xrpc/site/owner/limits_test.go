package owner_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// refusing refuses some actions of the pages.
type refusing struct {
	pds.NoRates
	actions []string
}

func (r refusing) Endpoint(_ *http.Request, name, _ string) error {
	if slices.Contains(r.actions, name) {
		return &xrpc.Error{Status: http.StatusTooManyRequests, Name: "RateLimitExceeded"}
	}
	return nil
}

// The form that changes an address says whether another one is taken, and that of handles writes to
// the did:plc directory: they have the limits of the methods that do so, not only those of all forms.
func TestChangesThatTellOrCostHaveTheirOwnLimit(t *testing.T) {
	var refuse refusing
	w := newWorld(t, func(c *pds.Config) { c.Rates = &refuse })
	b := w.signedIn(w.alice)
	refuse.actions = []string{"email-change", "handle-change"}
	for _, email := range []string{w.bob.Email, "nobody@example.com"} {
		b.open(w.alice, "email/change", url.Values{"action": {"change"}, "email": {email}})
		b.Expect(429, "This did not work")
	}
	b.open(w.alice, "handle", url.Values{"action": {"change"}, "label": {"carol"}})
	b.Expect(429, "This did not work")
	b.open(w.alice, "handle", url.Values{"action": {"own"}, "own": {"alice.example.org"}})
	b.Expect(429, "This did not work")
	b.open(w.alice, "handle", url.Values{"action": {"check"}, "label": {"carol"}})
	b.Expect(200, "Handle", "is free.")
	if a, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil || a.Email != w.alice.Email || a.Handle != w.alice.Handle {
		t.Errorf("%+v %v", a, err)
	}
}

// No page says that a code was sent to an address that nobody has confirmed.
func TestNoCodeForAnAddressThatIsNotConfirmed(t *testing.T) {
	w := newWorld(t)
	b := w.signedIn(w.alice)
	b.open(w.alice, "email", url.Values{"action": {"send"}})
	b.Submit(at(w.alice, "email"), url.Values{"action": {"confirm"}, "code": {w.code(w.alice, server.ConfirmEmail)}})
	b.open(w.alice, "email-codes", url.Values{"action": {"on"}})
	b.Expect(200, "Recovery codes")
	b.open(w.alice, "email/change", url.Values{"action": {"send"}})
	b.Submit(at(w.alice, "email/change"), url.Values{"action": {"change"}, "email": {"new@example.com"}, "code": {w.code(w.alice, server.UpdateEmail)}})
	b.Expect(200, "E-mail address", "not confirmed")
	b.open(w.alice, "email-codes", url.Values{"action": {"send"}})
	b.Expect(409, "This did not work", "Confirm your e-mail address first.")
}
