//go:build js

package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall/js"
)

// answerBytes is how many bytes of an answer are held back, so that a small one crosses in one
// call.
const answerBytes = 64 << 10

// exchange is a request with its answer, which it writes: an http.ResponseWriter and http.Flusher.
type exchange struct {
	host    *Host
	request *http.Request
	body    *chunks  // of the request, if it is a stream
	answer  js.Value // functions; see the shim's fetch
	cancel  context.CancelFunc

	header  http.Header
	status  int      // 0: not written yet
	size    int64    // of the body, if a header says so; else -1
	held    []byte   // bytes that have not been sent
	writer  js.Value // of the stream, once the head is sent
	sent    bool     // the head
	written int64
	err     error // of the stream
}

// serve answers a request.
func (ex *exchange) serve(handler http.Handler) {
	done := false
	defer func() {
		if done {
			return
		}
		// The handler has panicked, or ended its goroutine.
		if r := recover(); r != nil && r != http.ErrAbortHandler {
			fmt.Printf("cloudflare: panic in %s %s: %v\n", ex.request.Method, ex.request.URL.Path, r)
		}
		if ex.sent {
			ex.abort()
		} else {
			ex.fail(http.StatusInternalServerError)
		}
	}()
	handler.ServeHTTP(ex, ex.request)
	_ = ex.request.Body.Close()
	ex.finish()
	done = true
}

// Header implements http.ResponseWriter.
func (ex *exchange) Header() http.Header { return ex.header }

// WriteHeader implements http.ResponseWriter.
func (ex *exchange) WriteHeader(status int) {
	if ex.status != 0 || status < 200 {
		return // informational ones cannot be sent
	}
	ex.status = status
	if n, err := strconv.ParseInt(ex.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		ex.size = n
	}
}

// hasBody reports whether the answer may have a body.
func (ex *exchange) hasBody() bool {
	return ex.status != http.StatusNoContent && ex.status != http.StatusResetContent && ex.status != http.StatusNotModified
}

// Write implements http.ResponseWriter. It waits until the client has accepted earlier writes,
// except for a few buffers.
func (ex *exchange) Write(b []byte) (int, error) {
	if ex.status == 0 {
		ex.WriteHeader(http.StatusOK)
	}
	if !ex.hasBody() {
		return 0, http.ErrBodyNotAllowed
	}
	if ex.size >= 0 && ex.written+int64(len(b)) > ex.size {
		return 0, http.ErrContentLength
	}
	ex.written += int64(len(b))
	if ex.request.Method == http.MethodHead {
		return len(b), nil
	}
	for n := 0; n < len(b); {
		m := min(len(b)-n, answerBytes-len(ex.held))
		ex.held = append(ex.held, b[n:n+m]...)
		if n += m; len(ex.held) == answerBytes {
			if err := ex.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(b), nil
}

// Flush implements http.Flusher.
func (ex *exchange) Flush() { _ = ex.flush() }

// FlushError implements the method that http.ResponseController calls.
func (ex *exchange) FlushError() error { return ex.flush() }

// head is the status and the headers.
func (ex *exchange) head() string {
	if ex.status == 0 {
		ex.WriteHeader(http.StatusOK)
	}
	if _, ok := ex.header["Content-Type"]; !ok && len(ex.held) > 0 && ex.header.Get("Content-Encoding") == "" {
		ex.header.Set("Content-Type", http.DetectContentType(ex.held))
	}
	headers := make([][2]string, 0, len(ex.header))
	for name, values := range ex.header {
		for _, v := range values {
			headers = append(headers, [2]string{name, oneLine.Replace(v)})
		}
	}
	return answerHead(ex.status, headers)
}

// answerHead is what the shim makes an answer of.
func answerHead(status int, headers [][2]string) string {
	b, _ := json.Marshal(struct {
		Status  int         `json:"status"`
		Headers [][2]string `json:"headers"`
	}{status, headers})
	return string(b)
}

var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// flush sends what is held, and the head before it, if it has not been sent.
func (ex *exchange) flush() error {
	if ex.err != nil {
		return ex.err
	}
	if !ex.sent {
		if !ex.hasBody() || ex.request.Method == http.MethodHead {
			return nil // it is sent as a whole
		}
		head := ex.head()
		ex.sent = true
		ex.writer = ex.answer.Call("stream", head, float64(ex.size))
	}
	if len(ex.held) == 0 {
		return nil
	}
	b := js.Global().Get("Uint8Array").New(len(ex.held))
	js.CopyBytesToJS(b, ex.held)
	ex.held = ex.held[:0]
	if _, err := ex.host.Wait(ex.request.Context(), ex.writer.Call("write", b)); err != nil {
		ex.err = fmt.Errorf("the client has gone: %w", err)
		ex.cancel()
	}
	return ex.err
}

// finish ends the answer.
func (ex *exchange) finish() {
	switch {
	case ex.status == statusUpgraded:
	case !ex.sent && ex.status != 0 && ex.hasBody() && ex.request.Method != http.MethodHead && ex.size >= 0 && ex.written != ex.size:
		ex.fail(http.StatusInternalServerError) // the handler has failed, and an answer that lacks bytes would look whole
	case !ex.sent:
		head, body := ex.head(), js.Null()
		if len(ex.held) > 0 {
			body = js.Global().Get("Uint8Array").New(len(ex.held))
			js.CopyBytesToJS(body, ex.held)
		}
		ex.sent = true
		ex.answer.Call("send", head, body)
	case ex.flush() == nil && (ex.size < 0 || ex.written == ex.size):
		_, _ = ex.host.Wait(ex.request.Context(), ex.writer.Call("close"))
	default:
		ex.abort()
	}
}

// abort cuts an answer off.
func (ex *exchange) abort() {
	if ex.status != statusUpgraded && ex.writer.Truthy() {
		_, _ = ex.host.Wait(ex.request.Context(), ex.writer.Call("abort", "cut off"))
	}
}

// fail answers with a status alone.
func (ex *exchange) fail(status int) {
	ex.sent = true
	ex.answer.Call("send", answerHead(status, [][2]string{}), js.Null())
}

// statusUpgraded is the status of an exchange that has become a WebSocket.
const statusUpgraded = http.StatusSwitchingProtocols

// upgrade makes the exchange a WebSocket.
func (ex *exchange) upgrade(id int64, note string) error {
	if ex.sent || ex.status != 0 {
		return errors.New("cloudflare: the answer has begun")
	}
	_, err := try(func() js.Value { return ex.answer.Call("upgrade", float64(id), note) })
	if err == nil {
		ex.sent, ex.status = true, statusUpgraded
	}
	return err
}
