package index

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/search"
)

// Query is what is searched for.
type Query struct {
	Text       string
	Collection syntax.NSID // empty: all
	Any        bool        // any of the words, instead of all
	K          int         // hits; 0: 10
}

// Hit is a record that was found.
type Hit struct {
	URI        string
	CID        string
	DID        syntax.DID
	Collection syntax.NSID
	Text       string   // the part with the words
	Marks      [][2]int // the words in it, as byte ranges
	Ranks      [2]int   // in the lists by words and by meaning, from 1; 0: not in it
	RKey       syntax.RecordKey
}

// near is how near a record must be that has not the words.
const near = 0.25

// Search finds records by words and by meaning at once.
func (x *Index) Search(ctx context.Context, q Query) (list []Hit, err error) {
	vectors, err := Embedding.Embed(ctx, []string{q.Text})
	if err != nil {
		return nil, err
	}
	if vectors[0] == nil {
		return nil, nil // no word in it
	}
	query := search.Query{Text: q.Text, Any: q.Any, Vector: vectors[0], K: q.K}
	if q.Collection != "" {
		query.Filter = []search.Condition{{Key: "collection", In: []string{string(q.Collection)}}}
	}
	hits, err := x.search.Search(ctx, x.db, query)
	if err != nil {
		return nil, err
	}
	for _, h := range hits {
		if h.TextRank == 0 && h.VectorScore < near {
			continue
		}
		hit := Hit{URI: h.ID, Text: h.Snippet.Text, Marks: h.Snippet.Marks, Ranks: [2]int{h.TextRank, h.VectorRank}}
		err := x.db.QueryRowContext(ctx, "SELECT cid, did, collection, rkey FROM records WHERE uri = ?", h.ID).Scan(&hit.CID, &hit.DID, &hit.Collection, &hit.RKey)
		if err == sql.ErrNoRows {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, hit)
	}
	return list, nil
}

// Counts returns how many tasks are in each state.
func (x *Index) Counts(ctx context.Context) (map[string]int, error) {
	counts := make(map[string]int)
	rows, err := x.db.QueryContext(ctx, "SELECT state, count(*) FROM tasks GROUP BY state")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var state string
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return nil, err
		}
		counts[state] = n
	}
	return counts, rows.Err()
}

// Task is a task as a page shows it.
type Task struct {
	URI    string          `json:"uri"`
	State  string          `json:"state"`
	Record json.RawMessage `json:"record"`
	// Result is the one that was accepted, or else one of those there are; null: none.
	Result json.RawMessage `json:"result,omitempty"`
	By     syntax.DID      `json:"by,omitempty"` // who wrote the result, or has the task
}

// Tasks returns the newest tasks.
func (x *Index) Tasks(ctx context.Context, n int) (list []Task, err error) {
	rows, err := x.db.QueryContext(ctx, `
		SELECT t.uri, t.state, k.json, r.json, coalesce(r.did, c.did, '') FROM (SELECT * FROM tasks ORDER BY rkey DESC LIMIT ?) t
		JOIN records k ON k.uri = t.uri
		LEFT JOIN records a ON a.uri = replace(t.uri, '.task/', '.acceptance/')
		LEFT JOIN records r ON r.uri = coalesce(a.result, (SELECT min(uri) FROM records WHERE task = t.uri AND task <> '' AND collection LIKE '%.result'))
		LEFT JOIN records c ON c.uri = (SELECT max(uri) FROM records WHERE task = t.uri AND task <> '' AND collection LIKE '%.claim')
		ORDER BY t.rkey DESC`, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t Task
		var record string
		var result sql.NullString
		if err := rows.Scan(&t.URI, &t.State, &record, &result, &t.By); err != nil {
			return nil, err
		}
		t.Record, t.Result = json.RawMessage(record), json.RawMessage(result.String)
		list = append(list, t)
	}
	return list, rows.Err()
}

// Dump calls fn with all rows and all documents of the search, in an order that follows from them.
func (x *Index) Dump(ctx context.Context, fn func(row string)) error {
	for _, query := range []string{
		"SELECT concat_ws(char(9), 'record', uri, did, collection, rkey, cid, task, result, status, json) FROM records ORDER BY uri",
		"SELECT concat_ws(char(9), 'task', uri, state) FROM tasks ORDER BY uri",
	} {
		rows, err := x.db.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		list, err := texts(rows)
		if err != nil {
			return err
		}
		for _, row := range list {
			fn(row)
		}
	}
	var docs []string
	for doc, err := range x.search.Docs(ctx, x.db) {
		if err != nil {
			return err
		}
		docs = append(docs, "document\t"+doc.ID+"\t"+doc.Text+"\t"+doc.Meta["collection"])
	}
	slices.Sort(docs) // they come in the order of their first Put
	for _, row := range docs {
		fn(row)
	}
	return nil
}

// Check returns what is wrong with the search.
func (x *Index) Check(ctx context.Context) (problems []string, err error) {
	list, err := x.search.Check(ctx, x.db)
	for _, p := range list {
		problems = append(problems, p.String())
	}
	return problems, err
}

// Revs returns the revision of each account's rows.
func (x *Index) Revs(ctx context.Context) (map[syntax.DID]syntax.TID, error) {
	rows, err := x.db.QueryContext(ctx, "SELECT about, value FROM progress WHERE about LIKE 'did:%'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	revs := make(map[syntax.DID]syntax.TID)
	for rows.Next() {
		var did syntax.DID
		var rev syntax.TID
		if err := rows.Scan(&did, &rev); err != nil {
			return nil, err
		}
		revs[did] = rev
	}
	return revs, rows.Err()
}
