package accounttest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
)

// actions are the operations of histories. p is nil where there is no account.
var actions map[string]func(h *history, did syntax.DID, p *person)

func init() {
	actions = map[string]func(h *history, did syntax.DID, p *person){
		"create": func(h *history, did syntax.DID, p *person) {
			a := account.Account{DID: did, Handle: h.someHandle(), Email: h.someEmail(), Credentials: h.clock.now().UnixMilli()}
			codes := slices.Sorted(maps.Keys(h.invites))
			if code, ok := some(h, codes); ok && h.rng.IntN(2) == 0 {
				a.Invite = code
			}
			var want error
			inv := h.invites[a.Invite]
			switch {
			case h.byHandle(a.Handle) != nil && h.byHandle(a.Handle).did != did:
				want = account.ErrHandleTaken
			case h.byEmail(a.Email) != nil && h.byEmail(a.Email).did != did:
				want = account.ErrEmailTaken
			case inv != nil && (inv.disabled || len(inv.uses) >= inv.room || h.inviterDown(inv)):
				want = account.ErrInvite
			case p != nil:
				want = repo.ErrRepoExists
			}
			err := h.do("create", did, func() error { return h.create(a) })
			if errors.Is(want, repo.ErrRepoExists) && inv != nil && !inv.uses[did] {
				defer func() { delete(inv.uses, did) }()
			}
			if !h.expect(err, want) {
				return
			}
			delete(h.counters, did)
			h.people[did] = &person{
				did: did, handle: a.Handle, email: strings.ToLower(a.Email), base: a.Credentials, counter: a.Credentials,
				apps: make(map[string]*app), tokens: make(map[credential.Purpose]token), void: make(map[string]credential.Purpose),
			}
			if inv != nil {
				inv.uses[did] = true
			}
		},
		"rename": func(h *history, did syntax.DID, p *person) {
			handle := h.someHandle()
			who, _, want := h.by(p)
			if other := h.byHandle(handle); want == nil && other != nil && other != p {
				want = account.ErrHandleTaken
			}
			err := h.do("rename", did, func() error { return h.accounts.ChangeHandle(h.ctx, who, handle, register) })
			if h.expect(err, want) {
				p.handle = handle
			}
		},
		"address": func(h *history, did syntax.DID, p *person) {
			email := h.someEmail()
			who, x, want := h.by(p)
			t := p.tokens[credential.ForEmailChange]
			if want == nil && x != nil && p.confirmed {
				want = h.tokenError(p, t)
				if t.text == "" {
					want = credential.ErrMailTokenRequired
				}
			}
			if other := h.byEmail(email); want == nil && other != nil && other != p {
				want = account.ErrEmailTaken
			}
			err := h.do("address", did, func() error { return h.credentials.ChangeEmail(h.ctx, who, email, t.text) })
			if h.expect(err, want) {
				p.email, p.confirmed = strings.ToLower(email), false
				p.forget(purposes...)
			}
		},
		"password": func(h *history, did syntax.DID, p *person) {
			if h.rng.IntN(4) > 0 { // hashing takes long
				return
			}
			who, _, want := h.by(p)
			err := h.do("password", did, func() error {
				_, err := h.credentials.SetPassword(h.ctx, who, password)
				return err
			})
			if h.expect(err, want) {
				h.raise(p, false, nil, false)
				p.forget(purposes...)
			}
		},
		"reset": func(h *history, did syntax.DID, p *person) {
			t := p.tokens[credential.ForPasswordReset]
			want := h.tokenError(p, t)
			if want == nil && h.rng.IntN(3) > 0 {
				return
			}
			err := h.do("reset", did, func() error { return h.credentials.ResetPassword(h.ctx, strings.ToLower(t.text), password) })
			if h.expect(err, want) {
				h.raise(p, false, nil, false)
				p.forget(purposes...)
			}
		},
		"token": func(h *history, did syntax.DID, p *person) {
			purpose, _ := some(h, purposes)
			who, _, want := h.by(p)
			var text string
			err := h.do("token", did, func() (err error) {
				text, _, err = h.credentials.NewMailToken(h.ctx, who, purpose)
				return err
			})
			if h.expect(err, want) {
				p.forget(purpose)
				p.tokens[purpose] = token{text, p.email, h.clock.now()}
			}
		},
		"confirm": func(h *history, did syntax.DID, p *person) {
			t := p.tokens[credential.ForEmailConfirmation]
			who, _, want := h.by(p)
			if want == nil {
				want = h.tokenError(p, t)
			}
			err := h.do("confirm", did, func() error { return h.credentials.ConfirmEmail(h.ctx, who, p.email, t.text) })
			if h.expect(err, want) {
				p.confirmed = true
				p.forget(credential.ForEmailConfirmation)
			}
		},
		"app": func(h *history, did syntax.DID, p *person) {
			name := fmt.Sprint("app", h.rng.IntN(3))
			who, _, want := h.by(p)
			if want == nil && p.apps[name] != nil {
				want = credential.ErrDuplicateName
			}
			var text string
			var made credential.AppPassword
			err := h.do("app", did, func() (err error) {
				text, made, err = h.credentials.CreateAppPassword(h.ctx, who, name, false)
				return err
			})
			if h.expect(err, want) {
				p.apps[name] = &app{text, made.Hash}
			}
		},
		"revoke": func(h *history, did syntax.DID, p *person) {
			name := fmt.Sprint("app", h.rng.IntN(3))
			who, _, want := h.by(p)
			err := h.do("revoke", did, func() error { return h.credentials.RevokeAppPassword(h.ctx, who, name) })
			if h.expect(err, want) {
				for _, x := range h.given {
					if x.person == p && x.app != nil && x.app == p.apps[name] {
						x.ended, x.trace = true, false
					}
				}
				delete(p.apps, name)
			}
		},
		"login": func(h *history, did syntax.DID, p *person) {
			text := password
			var by *app
			if name, ok := some(h, slices.Sorted(maps.Keys(p.apps))); ok && h.rng.IntN(2) == 0 {
				by = p.apps[name]
				text = by.text
			}
			var want error
			if p.down && (by != nil || h.rng.IntN(2) == 0) {
				want = account.ErrTakenDown
			}
			x := &session{person: p, counter: p.counter, made: p.counter, app: by}
			err := h.do("login", did, func() error {
				proof, err := h.credentials.CheckPassword(h.ctx, h.account(did), text, true)
				if err != nil {
					return err
				}
				_, s, err := h.credentials.StartSession(h.ctx, proof, want == nil)
				x.name, x.chain = s.Name(), []string{s.ID}
				x.caller = h.credentials.Caller(credential.Token{DID: did, Session: s.Name(), Credentials: s.Credentials})
				return err
			})
			if h.expect(err, want) {
				h.given = append(h.given, x)
			}
		},
		"refresh": func(h *history, did syntax.DID, p *person) {
			x, ok := some(h, h.given)
			if !ok {
				return
			}
			h.refresh(x)
		},
		"logout": func(h *history, did syntax.DID, p *person) {
			x, ok := some(h, h.given)
			if !ok || h.people[x.person.did] != x.person {
				return
			}
			id, _ := some(h, x.chain)
			err := h.do("logout", x.person.did, func() error { return h.credentials.EndSession(h.ctx, x.person.did, id) })
			if h.expect(err, nil) {
				x.ended, x.trace = true, false
			}
		},
		"logout everywhere": func(h *history, did syntax.DID, p *person) {
			who, x, want := h.by(p)
			err := h.do("logout everywhere", did, func() error { return h.credentials.EndSessions(h.ctx, who) })
			if h.expect(err, want) {
				h.raise(p, true, x, false)
			}
		},
		"deactivate": func(h *history, did syntax.DID, p *person) {
			who, x, want := h.by(p)
			var after time.Time
			if h.rng.IntN(2) == 0 {
				after = h.clock.now().Add(time.Duration(h.rng.IntN(3)) * time.Hour)
			}
			err := h.do("deactivate", did, func() error { return h.accounts.Deactivate(h.ctx, who, after) })
			if h.expect(err, want) {
				p.deactivated, p.deleteAfter = true, after
				h.raise(p, true, x, false)
			}
		},
		"activate": func(h *history, did syntax.DID, p *person) {
			who, _, want := h.by(p)
			err := h.do("activate", did, func() error { return h.accounts.Activate(h.ctx, who) })
			if h.expect(err, want) {
				p.deactivated, p.deleteAfter = false, time.Time{}
			}
		},
		"take down": func(h *history, did syntax.DID, p *person) {
			down := h.rng.IntN(3) == 0
			err := h.do("take down", did, func() error {
				return h.accounts.TakeDown(h.ctx, did, account.Takedown{Applied: down, Ref: "x"})
			})
			if h.expect(err, nil) {
				if down && !p.down {
					h.raise(p, true, nil, true)
					p.downCounter = p.counter
				}
				p.down = down
			}
		},
		"record": func(h *history, did syntax.DID, p *person) {
			hide := h.rng.IntN(2) == 0
			err := h.do("record", did, func() error {
				return h.accounts.SetRecordTakedown(h.ctx, did, "com.example.note/one", account.Takedown{Applied: hide, Ref: "x"})
			})
			if h.expect(err, nil) {
				p.hidden = hide
			}
		},
		"preferences": func(h *history, did syntax.DID, p *person) {
			who, _, want := h.by(p)
			theme := fmt.Sprint("theme", h.rng.IntN(100))
			err := h.do("preferences", did, func() error { return h.accounts.SetPreferences(h.ctx, who, prefer(theme)) })
			if h.expect(err, want) {
				p.theme = theme
			}
		},
		"forbid": func(h *history, did syntax.DID, p *person) {
			forbid := h.rng.IntN(2) == 0
			err := h.do("forbid", did, func() error {
				_, err := h.accounts.Update(h.ctx, account.Trusted(did), func(a *account.Account, _ *repo.Step) error {
					a.InvitesDisabled = forbid
					return nil
				})
				return err
			})
			if h.expect(err, nil) {
				p.invitesForbidden = forbid
			}
		},
		"rotate": func(h *history, did syntax.DID, p *person) {
			who, _, want := h.by(p)
			err := h.do("rotate", did, func() error { return h.accounts.RotateKey(h.ctx, who, nil) })
			h.expect(err, want)
		},
		"delete": func(h *history, did syntax.DID, p *person) {
			if h.rng.IntN(3) > 0 {
				return
			}
			want := error(nil)
			err := h.do("delete", did, func() error {
				if t := p.tokens[credential.ForDeletion]; t.text != "" {
					want = h.tokenError(p, t)
					return h.credentials.DeleteAccount(h.ctx, credential.Proof{Account: h.account(did)}, t.text)
				}
				return h.accounts.Delete(h.ctx, account.Trusted(did))
			})
			if h.expect(err, want) {
				delete(h.people, did)
				for _, x := range h.given {
					x.ended = x.ended || x.person == p
				}
			}
		},
		"invite": func(h *history, did syntax.DID, p *person) {
			owner := "admin"
			if p != nil {
				owner = string(did)
			}
			room := 1 + h.rng.IntN(2)
			var codes []string
			err := h.do("invite", did, func() (err error) {
				codes, err = h.accounts.CreateInvites(h.ctx, hostname, owner, "admin", 1, room)
				return err
			})
			if h.expect(err, nil) {
				h.invites[codes[0]] = &invite{owner: owner, room: room, uses: make(map[syntax.DID]bool)}
			}
		},
		"disable": func(h *history, did syntax.DID, p *person) {
			code, ok := some(h, slices.Sorted(maps.Keys(h.invites)))
			if !ok {
				return
			}
			err := h.do("disable", did, func() error { return h.accounts.DisableInvites(h.ctx, []string{code}, nil, nil) })
			if h.expect(err, nil) {
				h.invites[code].disabled = true
			}
		},
		"wait": func(h *history, did syntax.DID, p *person) {
			h.clock.pass(time.Duration(1+h.rng.IntN(40)) * time.Minute)
			h.ok(h.accounts.Repair(h.ctx))
		},
		"restart": func(h *history, did syntax.DID, p *person) {
			next := h.again()
			h.accounts, h.credentials = next.accounts, next.credentials
			h.ok(h.accounts.Repair(h.ctx))
			for _, x := range h.given {
				x.caller = h.credentials.Caller(credential.Token{DID: x.person.did, Session: x.name, Credentials: x.made})
			}
		},
	}
}
