package index

import (
	"context"
	"database/sql"
	"strings"

	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/search"
)

// put writes the rows of a record. One that breaks its schema has none.
func (x *Index) put(ctx context.Context, tx *sql.Tx, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey, cid string, record []byte) error {
	id := uri(did, string(collection)+"/"+string(rkey))
	if err := x.remove(ctx, tx, id); err != nil {
		return err
	}
	v, err := lex.Read(collection, rkey, record)
	if err != nil {
		return nil
	}
	json, err := data.AppendJSON(nil, record)
	if err != nil {
		return nil
	}
	var task, result, status, text string
	switch r := v.(type) {
	case *lex.Profile:
		text = r.Name + " can " + strings.Join(r.Capabilities, ", ")
	case *lex.Task:
		text = r.Text
	case *lex.Claim:
		task = string(r.Task.URI)
	case *lex.Result:
		task, status, text = string(r.Task.URI), r.Status, r.Output
	case *lex.Acceptance:
		task, result = string(r.Task.URI), string(r.Result.URI)
	case *lex.Observation:
		text = r.Text + " " + strings.Join(r.Tags, " ")
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", id, did, collection, rkey, cid, task, result, status, string(json))
	if err != nil {
		return err
	}
	if collection == lex.TaskNSID {
		if _, err := tx.ExecContext(ctx, "INSERT INTO tasks VALUES (?, 'open', ?)", id, rkey); err != nil {
			return err
		}
		task = id
	}
	if err := x.setState(ctx, tx, task); err != nil || text == "" {
		return err
	}
	vectors, err := Embedding.Embed(ctx, []string{text})
	if err != nil {
		return err
	}
	return x.search.Put(ctx, tx, search.Doc{ID: id, Text: strings.ReplaceAll(text, "\x00", " "), Vector: vectors[0], Meta: map[string]string{"did": string(did), "collection": string(collection)}})
}

// remove deletes the rows of a record.
func (x *Index) remove(ctx context.Context, tx *sql.Tx, id string) error {
	var task string
	err := tx.QueryRowContext(ctx, "DELETE FROM records WHERE uri = ? RETURNING task", id).Scan(&task)
	if err == sql.ErrNoRows {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM tasks WHERE uri = ?", id); err != nil {
		return err
	}
	if err := x.search.Delete(ctx, tx, id); err != nil {
		return err
	}
	return x.setState(ctx, tx, task)
}

// forget deletes the rows of an account.
func (x *Index) forget(ctx context.Context, tx *sql.Tx, did syntax.DID) error {
	rows, err := tx.QueryContext(ctx, "SELECT uri FROM records WHERE did = ?", did)
	if err != nil {
		return err
	}
	ids, err := texts(rows)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := x.remove(ctx, tx, id); err != nil {
			return err
		}
	}
	return nil
}

// texts reads rows of one text.
func texts(rows *sql.Rows) (list []string, err error) {
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// The states of a task. It is done, or has failed, when its author has accepted a result.
const (
	Waiting = "open"    // nobody has it
	Claimed = "claimed" // an agent works on it, or has died over it
	Solved  = "solved"  // there is a result, which its author has not accepted yet
	Done    = "done"
	Failed  = "failed"
)

// setState computes the state of a task from the records that are about it. Only the author's
// acceptance under the task's own record key counts.
func (x *Index) setState(ctx context.Context, tx *sql.Tx, task string) error {
	if task == "" {
		return nil
	}
	accepted := strings.Replace(task, "/"+lex.TaskNSID+"/", "/"+lex.AcceptanceNSID+"/", 1)
	_, err := tx.ExecContext(ctx, `
		UPDATE tasks SET state = coalesce(
			(SELECT iif(r.status = 'failed', 'failed', 'done') FROM records a LEFT JOIN records r ON r.uri = a.result WHERE a.uri = ?2 AND a.task = ?1),
			(SELECT 'solved' FROM records WHERE task = ?1 AND task <> '' AND collection = ?3 LIMIT 1),
			(SELECT 'claimed' FROM records WHERE task = ?1 AND task <> '' AND collection = ?4 LIMIT 1),
			'open') WHERE uri = ?1`, task, accepted, lex.ResultNSID, lex.ClaimNSID)
	return err
}
