package readafter

import "github.com/pdskit/pdskit/lexicon/syntax"

// Links are the collections in which an account has one record for a subject, with where the
// subject is: what repo.SubjectIndex takes.
func Links() map[syntax.NSID]string {
	return map[syntax.NSID]string{
		"app.bsky.feed.like":    "subject.uri",
		"app.bsky.feed.repost":  "subject.uri",
		"app.bsky.graph.follow": "subject",
		"app.bsky.graph.block":  "subject",
	}
}
