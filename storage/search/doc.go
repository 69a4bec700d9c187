// Package search finds rows by words and by vectors, in the SQL database of the rows, in the same
// transactions.
//
//	index := &search.Index{Dim: 384}
//	err := index.Create(ctx, tx)
//	err = index.Put(ctx, tx, search.Doc{ID: uri, Text: text, Vector: vector, Meta: map[string]string{"author": did}})
//	hits, err := index.Search(ctx, db, search.Query{Text: "what the user typed", Vector: v, K: 10})
//
// [Index.Put] and [Index.Delete] run in the caller's *sql.Tx, together with the statements that
// write the rows. So the index matches the rows after a rollback, a crash or a kill, and a reader
// sees a consistent state of both. Nothing lags, and nothing needs repair.
//
// # Databases
//
// SQLite needs FTS5. The driver github.com/ncruces/go-sqlite3 has it as an extension that each
// connection registers:
//
//	db, err := driver.Open("file:posts.db?_pragma=journal_mode(wal)", fts5.Register)
//
// Other drivers may have it built in; this package imports none. In PostgreSQL the words are a
// tsvector with a GIN index, written by any driver that uses $1 for parameters, such as pgx's
// stdlib. With Index.PGVector, the server searches vectors with the extension pgvector.
//
// # Words
//
// The package splits texts into words itself (see [Terms]), so that both databases find the same
// documents. It handles letters of all scripts, and ignores case, accents and compatibility forms.
// Scripts without spaces between words are indexed by pairs of characters; a query of one such
// character works too. An index with Grams has all substrings: groups of three characters, for
// names and handles, or for agglutinative languages, at about four times the size. There is no
// stemming and there are no stop words, because the language of a post is unknown.
//
// User input is never a query language. It becomes quoted terms of a limited number and length. All
// of them must occur, or any with Query.Any. "AND", "*" and quotation marks have no meaning.
//
// The score is bm25 in SQLite, and ts_rank divided by the logarithm of the length in PostgreSQL, so
// the order of hits differs. Ranking a match costs some microseconds. A word that half of all
// documents contain would cost a second, so only the newest Index.Rank matches are ranked. bm25
// also counts the documents with each term, which costs 50 ns for each document. So in SQLite,
// terms that occur in more than 50,000 documents (an estimate) do not count for the score: they say
// little about a document. They must still occur. A query with only such terms returns the newest
// matches, with a score of 0. With Query.Any, documents that have only such terms follow all
// others, newest first.
//
// # Vectors
//
// The search is exact: there is no graph to train and no recall to measure, an insert costs one
// row, and any filter works. Vectors are normalised; the score is the cosine. Each vector also has
// a copy with one byte for each dimension, and the distance between copy and vector. Copies are
// stored in blocks of 64. A search reads the blocks, a quarter of the bytes, and computes bounds
// for each score, on up to four processors. Only vectors that the bounds do not decide are read
// with full precision. With pgvector, the server computes all scores in float32, and those that
// rounding does not decide are computed again. All this takes time linear in the number of vectors.
// For more than a million, an approximate index in a separate database is the better tool.
//
// # Both
//
// A query with text and vector combines the two lists by their ranks (reciprocal rank fusion).
// Scores of different kinds are never added. A hit has its rank in each list.
//
// # Memory
//
// A search needs memory for its hits, some blocks (about 1 MiB), at most 24,576 candidates, up to 1
// MiB of texts, and 8 bytes for each 64 documents that pass a filter. [Index.Check] needs 16 bytes
// for each document.
package search
