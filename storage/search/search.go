package search

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of documents and queries. Exceeding one is an error.
const (
	MaxID      = 2048     // bytes of an ID
	MaxText    = 64 << 10 // bytes of a text: index longer ones as several documents
	MaxDim     = 4096     // dimensions
	MaxMeta    = 32       // pairs of a document
	MaxValue   = 1024     // bytes of a key or value
	MaxQuery   = 2048     // bytes of a query's text
	MaxTerms   = 32       // terms of a query's text
	MaxFilters = 16       // conditions of a query
	MaxIn      = 256      // values of a condition
	MaxK       = 1000     // hits
)

// Errors about arguments. Their messages say more.
var (
	ErrIndex      = errors.New("search: bad settings of the index")
	ErrSchema     = errors.New("search: the index in the database was made with other settings, or is none")
	ErrNoFTS5     = errors.New("search: this connection to SQLite has no FTS5 (see the package's comment)")
	ErrNoPGVector = errors.New("search: this PostgreSQL server has no extension pgvector")
	ErrID         = errors.New("search: bad document ID")
	ErrText       = errors.New("search: bad text")
	ErrVector     = errors.New("search: bad vector")
	ErrMeta       = errors.New("search: bad metadata")
	ErrQuery      = errors.New("search: bad query")
)

// Dialect is the kind of database that holds an index.
type Dialect int

const (
	SQLite Dialect = iota
	Postgres
)

// Index is an index in a database. Its fields are settings, which must be the same in all
// processes: [Index.Create] checks that. It is safe for concurrent use.
//
// Concurrent transactions on one index are as safe as the database makes them: SQLite has one
// writer. In PostgreSQL under READ COMMITTED, they wait for each other if they change the same
// document or block.
type Index struct {
	Dialect Dialect
	// Name is the prefix of the index's tables: a lower-case letter, then lower-case letters,
	// digits or _, at most 32 in total. Empty: "search".
	Name string
	// Dim is the number of dimensions, up to MaxDim; 0: no vectors.
	Dim int
	// PGVector makes PostgreSQL search vectors itself, with its extension pgvector. The hits are
	// the same, but vectors stay in the server. [Index.Create] creates the extension if necessary.
	PGVector bool
	// Grams indexes substrings of three characters instead of words.
	Grams bool
	// Rank is how many matches of the words are ranked; the newest ones, by their first Put, are
	// taken. 0: 3,000.
	Rank int

	bounds bounds
}

// bounds are sizes that tests make small.
type bounds struct {
	few        int // up to how many documents a filter makes a search read their vectors instead of the blocks
	blocks     int // how many blocks a search reads before it looks at its candidates
	candidates int // how many candidates it has then

	common int64 // a word in more documents does not count towards the score
	probe  int64 // of how many documents with a word the distances are looked at
	texts  int   // how many texts are read to see whether they have the common words too
}

func (x *Index) limits() bounds {
	if x.bounds == (bounds{}) {
		return bounds{2048, 256, 8192, 50_000, 256, 512}
	}
	return x.bounds
}

// Doc is a document.
type Doc struct {
	ID     string            // unique; "" is none
	Text   string            // valid UTF-8 without NUL, up to MaxText bytes; may be empty
	Vector []float32         // of Dim dimensions, of any length but zero; nil: not found by vectors
	Meta   map[string]string // for filters, and returned with hits
}

// Condition is a condition on the metadata of documents. A document without the key does not
// satisfy it. Strings are compared as bytes.
type Condition struct {
	Key string
	// In, if not nil, lists the accepted values. An empty list accepts none.
	In []string
	// From and Before, if not empty, bound the value: From <= value < Before.
	From, Before string
}

// Query is a query for documents. It needs a text or a vector.
type Query struct {
	// Text is user input. It is never a query language.
	Text string
	// Any finds documents with any of the terms. Otherwise all terms must occur.
	Any bool
	// Prefix treats the last term as the beginning of a word, for a search while the user types.
	Prefix bool
	// Vector finds the nearest vectors by cosine.
	Vector []float32
	// Filter lists conditions; all of them must hold.
	Filter []Condition
	// K is how many hits to return, up to MaxK; 0: 10.
	K int
}

// Hit is a found document. Ranks count from 1; 0: it is not in that list.
type Hit struct {
	ID string
	// Score orders the hits: it is the score of the only list, or the combined one if the query has
	// text and vector.
	Score                  float64
	TextRank, VectorRank   int
	TextScore, VectorScore float64
	Snippet                Snippet
	Meta                   map[string]string
}

// Tx is what writing methods use: a *sql.Tx, or a *sql.Conn with a transaction.
type Tx interface {
	Querier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Querier is what reading methods use. A *sql.Tx sees its own state. With a *sql.DB or *sql.Conn,
// each search is a read-only transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (x *Index) name() string {
	if x.Name == "" {
		return "search"
	}
	return x.Name
}

func (x *Index) rank() int {
	if x.Rank == 0 {
		return 3000
	}
	return x.Rank
}

func (x *Index) valid() error {
	name := x.name()
	word := len(name) <= 32 && name[0] >= 'a' && name[0] <= 'z' && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
	})
	switch {
	case !word:
		return fmt.Errorf("%w: name %q", ErrIndex, name)
	case x.Dim < 0 || x.Dim > MaxDim:
		return fmt.Errorf("%w: %d dimensions", ErrIndex, x.Dim)
	case x.Dialect != SQLite && x.Dialect != Postgres:
		return fmt.Errorf("%w: dialect %d", ErrIndex, x.Dialect)
	case x.PGVector && x.Dialect != Postgres:
		return fmt.Errorf("%w: pgvector is an extension of PostgreSQL", ErrIndex)
	case x.Rank < 0:
		return fmt.Errorf("%w: Rank %d", ErrIndex, x.Rank)
	}
	return nil
}

// plain says what is wrong with a string: too long, not UTF-8, or with a NUL, which PostgreSQL does
// not hold.
func plain(what error, s string, limit int) error {
	switch {
	case len(s) > limit:
		return fmt.Errorf("%w: %d bytes, the limit is %d", what, len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: invalid UTF-8", what)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w: a NUL byte", what)
	}
	return nil
}

func checkID(id string) error {
	if id == "" {
		return fmt.Errorf("%w: it is empty", ErrID)
	}
	return plain(ErrID, id, MaxID)
}

func (x *Index) checkDoc(d Doc) error {
	if err := errors.Join(x.valid(), checkID(d.ID), plain(ErrText, d.Text, MaxText)); err != nil {
		return err
	}
	if len(d.Meta) > MaxMeta {
		return fmt.Errorf("%w: %d pairs", ErrMeta, len(d.Meta))
	}
	for key, value := range d.Meta {
		if err := errors.Join(plain(ErrMeta, key, MaxValue), plain(ErrMeta, value, MaxValue)); err != nil {
			return err
		}
	}
	return nil
}

// checkQuery returns the hits to find.
func (x *Index) checkQuery(q Query) (int, error) {
	if err := errors.Join(x.valid(), plain(ErrQuery, q.Text, MaxQuery)); err != nil {
		return 0, err
	}
	k := q.K
	if k == 0 {
		k = 10
	}
	switch {
	case q.Text == "" && q.Vector == nil:
		return 0, fmt.Errorf("%w: neither text nor vector", ErrQuery)
	case k < 0 || k > MaxK:
		return 0, fmt.Errorf("%w: K is %d, the limit %d", ErrQuery, k, MaxK)
	case len(q.Filter) > MaxFilters:
		return 0, fmt.Errorf("%w: %d conditions, the limit is %d", ErrQuery, len(q.Filter), MaxFilters)
	}
	for _, c := range q.Filter {
		if len(c.In) > MaxIn {
			return 0, fmt.Errorf("%w: %d values in a condition, the limit is %d", ErrQuery, len(c.In), MaxIn)
		}
		for _, s := range append([]string{c.Key, c.From, c.Before}, c.In...) {
			if err := plain(ErrQuery, s, MaxValue); err != nil {
				return 0, err
			}
		}
	}
	return k, nil
}

// list turns the rows of a query into a slice, and closes them.
func list[T any](ctx context.Context, q Querier, scan func(rows *sql.Rows, v *T) error, query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, wrap(rows.Err())
}

// number scans rows of one number.
func number(rows *sql.Rows, v *int64) error { return rows.Scan(v) }

// wrap names errors whose cause is how the database was opened.
func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "no such module: fts5"):
		return fmt.Errorf("%w: %w", ErrNoFTS5, err)
	}
	return fmt.Errorf("search: %w", err)
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
