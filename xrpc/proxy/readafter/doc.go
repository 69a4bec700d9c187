// Package readafter shows users their own writes at once, although an AppView shows them only after
// it has read the event stream.
//
// An AppView's response has a header Atproto-Repo-Rev with the revision of the caller's repository
// that it contains. If the repository has a later revision, what the caller has written since
// (posts, the profile) is added to the responses of [Methods]. The header Atproto-Upstream-Lag then
// has the age of the oldest addition in milliseconds. If an AppView does not find a thread because
// its post is new, the thread is made here.
//
// A host adds it to its proxy (package proxy):
//
//	merger := &readafter.Merger{Repos: host, Handle: handleOf}
//	merger.Attach(p) // before the proxy is used
//	srv.Fallback = p.Route()
//
// Package appview does that for a host with accounts of package account. Code that does not use
// package proxy calls [Merger.Modify] with the AppView's *http.Response, and [Accept].
//
// Responses are edited as text. A scanner finds the places in one pass over the body. Everything
// else stays byte for byte, so new features of an AppView are not lost. A response that is
// malformed, too large, or cannot be decoded is passed on unchanged: this package is a convenience,
// and must never turn a response into an error.
//
// Deleted records are not removed from responses, and likes, reposts and follows are not added:
// clients handle these themselves.
//
// [Links] has what else a server must know about these records.
package readafter
