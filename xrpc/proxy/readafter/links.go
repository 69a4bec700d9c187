package readafter

import "github.com/pdskit/pdskit/lexicon/syntax"

// Links returns the collections in which an account has at most one record for each subject, with
// the path of the subject, for repo.SubjectIndex.
func Links() map[syntax.NSID]string {
	return map[syntax.NSID]string{
		"app.bsky.feed.like":    "subject.uri",
		"app.bsky.feed.repost":  "subject.uri",
		"app.bsky.graph.follow": "subject",
		"app.bsky.graph.block":  "subject",
	}
}
