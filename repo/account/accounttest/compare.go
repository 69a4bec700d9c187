package accounttest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
)

// compare holds everything that can be seen against the model.
func (h *history) compare() {
	h.tb.Helper()
	wrong := func(format string, args ...any) {
		h.tb.Helper()
		h.tb.Errorf("after %s: %s", h.log[len(h.log)-1], fmt.Sprintf(format, args...))
	}
	for _, did := range everybody {
		a, err := h.accounts.ByDID(h.ctx, did)
		p := h.people[did]
		if p == nil {
			if !errors.Is(err, account.ErrNotFound) {
				wrong("%s is there: %v", did, err)
			}
			continue
		}
		if err != nil {
			wrong("%s: %v", did, err)
			continue
		}
		got := fmt.Sprint(a.Handle, strings.ToLower(a.Email), !a.EmailConfirmedAt.IsZero(), !a.DeactivatedAt.IsZero(), a.DeleteAfter.Unix(), a.TakedownRef != "", a.Credentials, a.InvitesDisabled)
		want := fmt.Sprint(p.handle, p.email, p.confirmed, p.deactivated, p.deleteAfter.Unix(), p.down, p.counter, p.invitesForbidden)
		if got != want {
			wrong("%s is %s, want %s", did, got, want)
		}
		if a.Credentials < h.counters[did] {
			wrong("the counter of %s went back from %d to %d", did, h.counters[did], a.Credentials)
		}
		h.counters[did] = a.Credentials
		h.compareHoldings(p, wrong)
	}
	for i := range 4 {
		for id, p := range map[string]*person{
			fmt.Sprintf("name%d.test", i): h.byHandle(syntax.Handle(fmt.Sprintf("name%d.test", i))), fmt.Sprintf("NAME%d@example.com", i): h.byEmail(fmt.Sprintf("name%d@example.com", i)),
		} {
			a, err := h.accounts.Find(h.ctx, id)
			if p == nil && !errors.Is(err, account.ErrNotFound) || p != nil && a.DID != p.did {
				wrong("%s is found: %s (%v)", id, a.DID, err)
			}
		}
	}
	for _, x := range h.given {
		want := x.good()
		switch now := h.people[x.person.did]; {
		case now == nil:
			want = account.ErrNotFound
		case now != x.person: // another account of the DID
			want = account.ErrTokenRevoked
		}
		if _, err := h.accounts.Authenticate(h.ctx, x.caller); !errors.Is(err, want) {
			wrong("session %s of %s: %v, want %v", x.name, x.person.did, err, want)
		}
	}
	for code, inv := range h.invites {
		got, err := h.accounts.Invite(h.ctx, code)
		if err != nil || got.Account != inv.owner || got.Disabled != inv.disabled || len(got.Uses) != len(inv.uses) {
			wrong("code %s is %+v (%v), want %+v", code, got, err, *inv)
		}
	}
	if n, err := h.accounts.Count(h.ctx); err != nil || n != len(h.people) {
		wrong("%d accounts were counted, want %d (%v)", n, len(h.people), err)
	}
	h.sound("after " + h.log[len(h.log)-1])
}

// compareHoldings compares what an account has.
func (h *history) compareHoldings(p *person, wrong func(string, ...any)) {
	apps, err := h.credentials.AppPasswords(h.ctx, p.did)
	var names []string
	for _, a := range apps {
		names = append(names, a.Name)
		if have := p.apps[a.Name]; have == nil || have.hash != a.Hash {
			wrong("app password %s of %s", a.Name, p.did)
		}
	}
	if err != nil || len(apps) != len(p.apps) {
		wrong("%s has the app passwords %v (%v), want %d", p.did, names, err, len(p.apps))
	}
	for _, purpose := range purposes {
		t := p.tokens[purpose]
		if err := h.credentials.CheckMailToken(h.ctx, account.Trusted(p.did), purpose, t.text); !errors.Is(err, h.tokenError(p, t)) {
			wrong("the token for %s of %s: %v, want %v", purpose, p.did, err, h.tokenError(p, t))
		}
	}
	for text, purpose := range p.void {
		if err := h.credentials.CheckMailToken(h.ctx, account.Trusted(p.did), purpose, text); !errors.Is(err, credential.ErrMailToken) {
			wrong("a token for %s of %s that is void: %v", purpose, p.did, err)
		}
	}
	list, err := h.accounts.Preferences(h.ctx, p.did)
	if err != nil || (len(list) == 1) != (p.theme != "") || p.theme != "" && string(list[0]["theme"]) != `"`+p.theme+`"` {
		wrong("%s prefers %s (%v), want %s", p.did, list, err, p.theme)
	}
	if down, err := h.accounts.RecordTakedown(h.ctx, p.did, "com.example.note/one"); err != nil || down.Applied != p.hidden {
		wrong("the record of %s is taken down: %v (%v)", p.did, down, err)
	}
	own := 0
	for _, inv := range h.invites {
		if inv.owner == string(p.did) {
			own++
		}
	}
	if codes, err := h.accounts.InvitesOf(h.ctx, string(p.did)); err != nil || len(codes) != own {
		wrong("%s has %d codes (%v), want %d", p.did, len(codes), err, own)
	}
	due, err := h.accounts.DeletionsDue(h.ctx, 10)
	is := slices.ContainsFunc(due, func(a account.Account) bool { return a.DID == p.did })
	if want := p.deactivated && !p.down && !p.deleteAfter.IsZero() && !p.deleteAfter.After(h.clock.now()); err != nil || is != want {
		wrong("the deletion of %s is due: %v (%v), want %v", p.did, is, err, want)
	}
	err = h.store.Repos.View(h.ctx, p.did, func(r storage.Reader) error {
		for pair, err := range r.Keys(h.ctx, storage.Prefix("session/")) {
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(pair.Key, "session/")
			if !slices.ContainsFunc(h.given, func(x *session) bool { return x.name == name && (!x.ended || x.trace) }) {
				wrong("session %s is left", name)
			}
		}
		return nil
	})
	if err != nil {
		wrong("%v", err)
	}
}
