// Package readafter lets users see at once what they have just written, even
// though an AppView shows it only after the event stream has reached it.
//
// An AppView says in the header Atproto-Repo-Rev up to which revision of the
// caller's repository its answer goes. Where the repository is further than that, what the
// caller has written since (posts, the profile) is put into the answer: see
// Methods. The header Atproto-Upstream-Lag then says, in milliseconds, how old
// the oldest of it is. A thread that an AppView does not find, because its post
// is new, is made here.
//
// Answers are edited as text. A scanner finds the places, in one pass over the
// body; what is not changed stays as it came, byte for byte, so that nothing of a newer
// AppView is lost. An answer that is not what it should be, that is too large, or that
// cannot be decoded is passed on untouched: what is here is a convenience,
// and must never turn an answer into an error.
//
// What a user deletes is not taken out of answers, and likes, reposts and
// follows are not put in: clients keep account of these by themselves.
//
// What else a server has to know of these records is here too: see Links.
//
// Merger.Modify works on the upstream's *http.Response; the functions under it
// are pure ones over bytes.
package readafter
