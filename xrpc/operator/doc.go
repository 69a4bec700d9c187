// Package operator is the pages of a server's administrator: how the server is, its accounts and
// invites, what is taken down, who reads the event stream, what relays know, backups, mail, the
// last errors, and a trail of what administrators have done.
//
// Like all pages of package site, they are made on the server and work without scripts, in six
// languages. They show what a [Config] gives them through small interfaces, so that another host
// can mount them over parts of its own. What is nil there has no page. Package pds mounts them at
// /admin:
//
//	pages := operator.New(operator.Config{
//		Site: s.Site, KV: store.KV, Passwords: s.Sessions, Audit: s.Audit,
//		Admin: func(who audit.Actor) operator.Admin { return s.Service.Administration(who) },
//		…
//	})
//	pages.Mount(s.Mux)
//
// # Who is let in
//
// The administrator signs in with the password that the methods of com.atproto.admin take, and
// whose guesses are counted with theirs. A cookie of its own holds an opaque secret, of which the
// store has the hash. The session ends after an hour without use, after twelve hours, by signing
// out, and when the password changes: on all nodes of a store. Each sign-in makes a new secret. A
// form is good for the session in which it was shown, and no other.
//
// # What is done
//
// All changes of accounts go through [Admin], as those of the methods do. A page names an act and
// what it is done to; the act's own page explains it, asks for what it needs, and has the form that
// does it. Nothing is done by a link. Each act is written to the audit trail.
//
// # What is stored
//
//	operator/session/HASH  a session of the administrator; expires
//	operator/backup/TIME   a backup that was noted: see Backups; the last ones are kept
//
// in the host's namespace.
package operator
