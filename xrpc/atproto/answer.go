package atproto

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
)

// jsonAnswer is an answer in JSON that is written while it is made. A short one is sent at once,
// with its length, when it ends. Of a long one, no more than answerBytes wait in memory, however
// slow the client is.
type jsonAnswer struct {
	w     http.ResponseWriter
	buf   []byte
	begun bool
	err   error // of writing
}

// answerBuffers are for the next answers.
var answerBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, 16<<10)) }}

// newAnswer returns an answer whose buffer is given back by free.
func newAnswer(w http.ResponseWriter) (a *jsonAnswer, free func()) {
	buf := answerBuffers.Get().(*[]byte)
	a = &jsonAnswer{w: w, buf: (*buf)[:0]}
	return a, func() {
		if cap(a.buf) <= 2*answerBytes {
			*buf = a.buf
			answerBuffers.Put(buf)
		}
	}
}

const (
	answerBytes = 64 << 10
	// shortRecord is the length of a record in DAG-CBOR whose JSON is made at once. JSON is up to
	// six times as long.
	shortRecord = 8 << 10
)

func (a *jsonAnswer) text(s string) { a.buf = append(a.buf, s...) }

// Write implements io.Writer.
func (a *jsonAnswer) Write(b []byte) (int, error) {
	a.buf = append(a.buf, b...)
	a.spill()
	return len(b), a.err
}

// spill sends what there is if it is enough.
func (a *jsonAnswer) spill() {
	if len(a.buf) < answerBytes {
		return
	}
	if !a.begun {
		a.begun = true
		a.w.Header().Set("Content-Type", "application/json; charset=utf-8")
		a.w.WriteHeader(http.StatusOK)
	}
	if a.err == nil {
		_, a.err = a.w.Write(a.buf)
	}
	a.buf = a.buf[:0]
}

// record adds a record as getRecord and listRecords show it.
func (a *jsonAnswer) record(did syntax.DID, rec storage.Record) error {
	a.buf = appendIdentity(a.buf, did, rec.Path, rec.CID.KeyString())
	var err error
	if len(rec.Data) <= shortRecord {
		a.buf, err = data.AppendRecordJSON(a.buf, rec.Data)
	} else {
		err = data.WriteRecordJSON(a, rec.Data)
	}
	a.text("}")
	a.spill()
	return err
}

// appendIdentity begins a record. URIs and CIDs have no characters that JSON would escape.
func appendIdentity[S string | []byte](b []byte, did syntax.DID, path, cid S) []byte {
	b = append(append(b, `{"uri":"at://`...), did...)
	b = append(append(append(b, '/'), path...), `","cid":"`...)
	b = dag.AppendText(b, cid)
	return append(b, `","value":`...)
}

// end sends the rest.
func (a *jsonAnswer) end() error {
	if !a.begun {
		return xrpc.WriteJSON(a.w, http.StatusOK, json.RawMessage(a.buf))
	}
	if a.err == nil {
		_, a.err = a.w.Write(a.buf)
	}
	return a.err
}
