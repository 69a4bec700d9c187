// Package search finds rows by their words and by their vectors, in the SQL database that holds the
// rows, in the same transactions.
//
//	index := &search.Index{Dim: 384}
//	err := index.Create(ctx, tx)
//	err = index.Put(ctx, tx, search.Doc{ID: uri, Text: text, Vector: vector, Meta: map[string]string{"author": did}})
//	hits, err := index.Search(ctx, db, search.Query{Text: "what the user typed", Vector: v, K: 10})
//
// [Index.Put] and [Index.Delete] run in the caller's *sql.Tx, next to the statements that write the
// rows. So the index holds what the rows hold after a rollback, a crash or a kill, and a reader
// sees one state of both. There is nothing to repair and nothing that lags.
//
// # Databases
//
// SQLite needs FTS5. The driver github.com/ncruces/go-sqlite3 has it as an extension that each
// connection registers:
//
//	db, err := driver.Open("file:posts.db?_pragma=journal_mode(wal)", fts5.Register)
//
// Other drivers may have it built in; this package imports none. In PostgreSQL the words are a
// tsvector under a GIN index, written by any driver that takes $1 for parameters, such as pgx's
// stdlib. With Index.PGVector, the server searches vectors by the extension pgvector.
//
// # Words
//
// The package splits texts into words itself (see [Terms]), so that both databases find the same
// documents: letters of all scripts, without case, without accents, compatibility forms as one.
// Scripts that put no spaces between words are indexed by pairs of characters, and a query of one
// such character works too. An index with Grams has all substrings: groups of three characters, for
// names and handles, or for agglutinative languages, at about four times the size. There is no
// stemming and there are no stop words, because nobody knows the language of a post.
//
// What a user types is never a query language. It becomes terms, quoted, of a limited number and
// length; all have to occur, or any with Query.Any. "AND", "*" and quotation marks mean nothing.
//
// The score of SQLite is bm25, that of PostgreSQL ts_rank, divided by the logarithm of the length:
// the order of hits differs between the two. To rank a match costs some microseconds. A word that
// half of all documents contain would cost a second, so only the newest Index.Rank matches are
// ranked. Besides, bm25 counts the documents with each term, which costs 50 ns for each of them. So
// terms that occur in more than 50,000 documents, by an estimate, do not count towards the score in
// SQLite. They say little about a document. They have to occur like others; a query of nothing else
// returns the newest matches, with a score of 0. With Query.Any, documents that have only such
// terms come after all others, the newest first.
//
// # Vectors
//
// The search is exact: there is no graph to train and no recall to measure, an insert costs one
// row, and any filter works. Vectors are normalised; the score is the cosine. For each there is a
// copy with a byte per dimension that lies in blocks of 64, and the distance between copy and
// vector. A search reads the blocks, a quarter of the bytes, and bounds each score from below and
// above, on up to four processors while it reads on. Only vectors that the bounds leave in question
// are read at full precision. With pgvector, the server computes all scores in float32, and those
// that rounding leaves in question are computed again. This takes time linear in the number of
// vectors. Above a million, an approximate index in a database of its own is the better tool.
//
// # Both
//
// A query with text and vector fuses the two lists by their ranks (reciprocal rank fusion): scores
// of different kinds are never added. A hit says its rank in each.
//
// # Memory
//
// A search holds its hits, some blocks (1 MiB or so), at most 24,576 candidates, up to 1 MiB of
// texts, and 8 bytes for each 64 documents that pass a filter. [Index.Check] holds 16 bytes per
// document.
package search
