// Package readafter lets users see at once what they have just written, even though an AppView
// shows it only after the event stream has reached it.
//
// An AppView says in the header Atproto-Repo-Rev up to which revision of the caller's repository
// its answer goes. Where the repository is further than that, what the caller has written since
// (posts, the profile) is put into the answer of one of [Methods]. The header Atproto-Upstream-Lag
// then says, in milliseconds, how old the oldest of it is. A thread that an AppView does not find,
// because its post is new, is made here.
//
// A host adds it to what forwards its methods (package proxy):
//
//	merger := &readafter.Merger{Repos: host, Handle: handleOf}
//	merger.Attach(p) // before the proxy is used
//	srv.Fallback = p.Route()
//
// Package appview does that for a host whose accounts are of package account. What does not use
// package proxy calls [Merger.Modify] with the AppView's *http.Response, and [Accept].
//
// Answers are edited as text. A scanner finds the places, in one pass over the body; what is not
// changed stays as it came, byte for byte, so that nothing of a newer AppView is lost. An answer
// that is not what it should be, that is too large, or that cannot be decoded is passed on
// untouched: what is here is a convenience, and must never turn an answer into an error.
//
// What a user deletes is not taken out of answers, and likes, reposts and follows are not put in:
// clients keep account of these by themselves.
//
// What a server has to know of these records beyond that is here too: see [Links].
package readafter
