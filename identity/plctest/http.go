package plctest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

const (
	maxBody   = 100 << 10 // bytes of a request
	maxExport = 1000      // lines of one answer
)

// ServeHTTP serves the directory's API:
//
//	GET  /:did            the DID document
//	GET  /:did/data       the state
//	GET  /:did/log        the valid operations
//	GET  /:did/log/audit  all operations, with times
//	GET  /:did/log/last   the last valid operation
//	POST /:did            a new operation
//	GET  /export          operations of all DIDs, as JSON lines (count, after)
//	GET  /_health
//
// Errors are JSON objects with a "message": 404 for a DID that is not registered,
// 410 for a tombstone, 400 for an operation that is refused.
func (d *Directory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	path := strings.TrimPrefix(r.URL.Path, "/")
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case r.Method == http.MethodOptions:
		w.Header().Set("Access-Control-Allow-Methods", "GET,HEAD,POST")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.WriteHeader(http.StatusNoContent)
	case path == "" && get:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "A did:plc directory for tests and development.\n")
	case path == "_health" && get:
		d.health(w)
	case path == "export" && get:
		d.export(w, r)
	case strings.HasPrefix(path, "did:") && get:
		did, what, _ := strings.Cut(path, "/")
		d.read(w, syntax.DID(did), what)
	case strings.HasPrefix(path, "did:") && !strings.Contains(path, "/") && r.Method == http.MethodPost:
		d.post(w, r, syntax.DID(path))
	case path == "" || path == "_health" || path == "export" || strings.HasPrefix(path, "did:"):
		fail(w, http.StatusMethodNotAllowed, "Method not allowed")
	default:
		fail(w, http.StatusNotFound, "Not found")
	}
}

func (d *Directory) health(w http.ResponseWriter) {
	d.mu.RLock()
	err := d.broken
	d.mu.RUnlock()
	if err != nil {
		reply(w, http.StatusServiceUnavailable, "application/json", map[string]string{"version": "plctest", "error": "Service Unavailable"})
		return
	}
	reply(w, http.StatusOK, "application/json", map[string]string{"version": "plctest"})
}

func (d *Directory) read(w http.ResponseWriter, did syntax.DID, what string) {
	log := d.log(did)
	if log == nil {
		fail(w, http.StatusNotFound, "DID not registered: "+string(did))
		return
	}
	var answer any
	var err error
	contentType := "application/json"
	switch what {
	case "":
		contentType = "application/did+ld+json"
		answer, err = log.Document()
	case "data":
		answer, err = log.Data()
	case "log":
		answer = log.Operations()
	case "log/audit":
		answer = log.Entries()
	case "log/last":
		answer = log.Last()
	default:
		fail(w, http.StatusNotFound, "Not found")
		return
	}
	if err != nil { // a tombstone
		fail(w, http.StatusGone, "DID not available: "+string(did))
		return
	}
	reply(w, http.StatusOK, contentType, answer)
}

func (d *Directory) post(w http.ResponseWriter, r *http.Request, did syntax.DID) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, "request entity too large")
		return
	}
	op, err := identity.ParsePLCOperation(body)
	if err == nil {
		err = d.Submit(did, op)
	} else {
		err = refusal(err)
	}
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		fail(w, refused.Status, refused.Message)
	case err != nil:
		fail(w, http.StatusInternalServerError, "Internal Server Error")
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "OK")
	}
}

// sequencedEntry is a line of the export in its present form.
type sequencedEntry struct {
	Type      string                 `json:"type"`
	DID       syntax.DID             `json:"did"`
	Operation *identity.PLCOperation `json:"operation"`
	CID       string                 `json:"cid"`
	CreatedAt syntax.Datetime        `json:"createdAt"`
	Seq       int                    `json:"seq"`
}

// export answers with operations after a sequence number, or, in the older form
// with nullified marks, after a time.
func (d *Directory) export(w http.ResponseWriter, r *http.Request) {
	count, after, fromTime := maxExport, 0, time.Time{}
	var err error
	if s := r.FormValue("count"); s != "" {
		if count, err = strconv.Atoi(s); err != nil || count < 1 {
			fail(w, http.StatusBadRequest, "Invalid count parameter")
			return
		}
		count = min(count, maxExport)
	}
	bySeq := false
	if s := r.FormValue("after"); s != "" {
		if after, err = strconv.Atoi(s); err == nil && after >= 0 {
			bySeq = true
		} else if fromTime, err = time.Parse(time.RFC3339Nano, s); err != nil {
			fail(w, http.StatusBadRequest, "Invalid after parameter")
			return
		}
	}
	w.Header().Set("Content-Type", "application/jsonlines")
	for i, line := range d.lines(count, after, fromTime, bySeq) {
		b, err := json.Marshal(line)
		if err != nil {
			return // unreachable: every operation was encoded before
		}
		if i > 0 {
			b = append([]byte{'\n'}, b...)
		}
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

func (d *Directory) lines(count, after int, fromTime time.Time, bySeq bool) (list []any) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for i := min(after, len(d.order)); i < len(d.order) && len(list) < count; i++ {
		e := d.logs[d.order[i].did].Entry(d.order[i].index)
		switch {
		case bySeq:
			list = append(list, sequencedEntry{"sequenced_op", e.DID, e.Operation, e.CID, syntax.NewDatetime(e.CreatedAt), i + 1})
		case e.CreatedAt.After(fromTime):
			list = append(list, e)
		}
	}
	return list
}

func reply(w http.ResponseWriter, status int, contentType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"message":"Internal Server Error"}`)
	}
	w.Header().Set("Content-Type", contentType+"; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

func fail(w http.ResponseWriter, status int, message string) {
	reply(w, status, "application/json", map[string]string{"message": message})
}
