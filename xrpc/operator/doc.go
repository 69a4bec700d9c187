// Package operator has the pages of a server's administrator: the state of the server, its accounts
// and invite codes, takedowns, the subscribers of the event stream, what relays know, backups,
// mail, recent errors, and the trail of administrators' actions.
//
// Like all pages of package site, they are rendered on the server and work without scripts, in six
// languages. They read the server through the small interfaces of a [Config], so another host can
// mount them over its own parts. A nil part has no page. Package pds mounts them at /admin:
//
//	pages := operator.New(operator.Config{
//		Site: s.Site, KV: store.KV, Passwords: s.Sessions, Audit: s.Audit,
//		Admin: func(who audit.Actor) operator.Admin { return s.Service.Administration(who) },
//		…
//	})
//	pages.Mount(s.Mux)
//
// # Sign-in
//
// The administrator signs in with the same password as for the methods of com.atproto.admin, and
// guesses are counted together. A separate cookie holds an opaque secret; the store has its hash.
// The session ends after an hour without use, after twelve hours, by signing out, and when the
// password changes, on all nodes of a store. Each sign-in makes a new secret. A form is valid only
// in the session in which it was shown.
//
// # Actions
//
// All changes of accounts go through [Admin], as those of the methods do. A page links to an action
// and its subject. The action's own page explains it, asks for its arguments, and has the form that
// carries it out. Links never change anything. Each action is written to the audit trail.
//
// # What is stored
//
//	operator/session/HASH  a session of the administrator; expires
//	operator/backup/TIME   a backup that was noted: see Backups; the last ones are kept
//
// in the host's namespace.
package operator
