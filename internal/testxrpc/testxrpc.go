// Package testxrpc calls methods of servers in tests.
package testxrpc

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

// Reply is the answer of a server.
type Reply struct {
	Status  int
	Name    string // of the error
	Message string
	Body    string
	Header  http.Header
}

// Call calls a method of the server at a URL, with headers; empty values are left out. The body is
// JSON of in, if that is not nil. If the answer has status 200 and out is not nil, its body is read
// into out. Other statuses are no failure of the test.
func Call(t testing.TB, url, verb, method string, header http.Header, in, out any) (a Reply) {
	t.Helper()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequest(verb, url+"/xrpc/"+method, body)
	if err != nil {
		t.Fatal(err)
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, values := range header {
		for _, v := range values {
			if v != "" {
				r.Header.Add(name, v)
			}
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a = Reply{Status: res.StatusCode, Body: string(text), Header: res.Header}
	if a.Status != http.StatusOK {
		var e struct{ Error, Message string }
		json.Unmarshal(text, &e) // leaves e empty where that is no error of XRPC
		a.Name, a.Message = e.Error, e.Message
	} else if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatal(err)
		}
	}
	return a
}
