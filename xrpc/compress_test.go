package xrpc_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
)

func TestCompression(t *testing.T) {
	long := strings.Repeat("to be or not to be, ", 100)
	raw := func(contentType string, header ...string) xrpc.Handler {
		return xrpc.RawQuery(func(w http.ResponseWriter, _ *xrpc.Request, _ struct{}) error {
			w.Header().Set("Content-Type", contentType)
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			io.WriteString(w, long[:5])
			io.WriteString(w, long[5:])
			return nil
		})
	}
	handlers := map[string]xrpc.Handler{
		"com.example.json":  xrpc.Query(func(ctx, *xrpc.Request, struct{}) (name, error) { return name{long}, nil }),
		"com.example.short": xrpc.Query(func(ctx, *xrpc.Request, struct{}) (name, error) { return name{"x"}, nil }),
		"com.example.fails": xrpc.Query(func(ctx, *xrpc.Request, struct{}) (name, error) { return name{}, xrpc.InvalidRequest("%s", long) }),
		"com.example.car":   raw("application/vnd.ipld.car"),
		"com.example.image": raw("image/png"),
		"com.example.blob":  raw("application/json", "ETag", `"x"`), // asked for in parts
		"com.example.done":  raw("application/json", "Content-Encoding", "br"),
	}
	for _, tt := range []struct {
		method, accept string
		gzip           bool
		vary           string
	}{
		{"json", "gzip", true, "Accept-Encoding"},
		{"json", "br;q=1.0, GZIP;q=0.5, *;q=0", true, "Accept-Encoding"},
		{"json", "deflate, *", true, "Accept-Encoding"},
		{"json", "gzip;q=0, *", false, "Accept-Encoding"},
		{"json", "*, gzip;q=0", false, "Accept-Encoding"},
		{"json", "identity", false, "Accept-Encoding"},
		{"json", "", false, "Accept-Encoding"},
		{"json", "gzip;q=x", false, "Accept-Encoding"},
		{"json", "gzip;x=1", false, "Accept-Encoding"},
		{"short", "gzip", false, "Accept-Encoding"},
		{"fails", "gzip", true, "Accept-Encoding"},
		{"car", "gzip", true, "Accept-Encoding"},
		{"image", "gzip", false, ""},
		{"blob", "gzip", false, ""},
		{"done", "gzip", false, ""},
	} {
		for _, on := range []bool{true, false} {
			s := routes(&xrpc.Server{Compress: on}, handlers)
			r := httptest.NewRequest("GET", "/xrpc/com.example."+tt.method, nil)
			if tt.accept != "" {
				r.Header.Set("Accept-Encoding", tt.accept)
			}
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, r)
			h, body := rec.Result().Header, rec.Body.Bytes()
			encoded := h.Get("Content-Encoding") == "gzip"
			if encoded != (tt.gzip && on) {
				t.Errorf("%s, %q: compressed: %v", tt.method, tt.accept, encoded)
			}
			if encoded {
				if h.Get("Content-Length") != "" || len(body) > len(long)/2 {
					t.Errorf("%s: %d bytes, Content-Length %s", tt.method, len(body), h.Get("Content-Length"))
				}
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err == nil {
					body, err = io.ReadAll(z)
				}
				if err != nil {
					t.Errorf("%s: %v", tt.method, err)
				}
			}
			if tt.method != "short" && !strings.Contains(string(body), long) {
				t.Errorf("%s: %.100q", tt.method, body)
			}
			if vary := h.Get("Vary"); on && vary != tt.vary || !on && vary != "" {
				t.Errorf("%s: Vary %q", tt.method, vary)
			}
		}
	}
	r := httptest.NewRequest("HEAD", "/xrpc/com.example.json", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	rec := httptest.NewRecorder()
	routes(&xrpc.Server{Compress: true}, handlers).ServeHTTP(rec, r)
	if rec.Result().Header.Get("Content-Encoding") != "" {
		t.Error("HEAD is compressed")
	}
}

// What is flushed arrives, and what breaks off looks broken, in spite of compression.
func TestCompressedStreams(t *testing.T) {
	next := make(chan struct{})
	url := serve(t, routes(&xrpc.Server{Compress: true}, map[string]xrpc.Handler{
		"com.example.slow": xrpc.RawQuery(func(w http.ResponseWriter, _ *xrpc.Request, _ struct{}) error {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "first")
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
			<-next
			io.WriteString(w, "second")
			return nil
		}),
		"com.example.broken": xrpc.RawQuery(func(w http.ResponseWriter, _ *xrpc.Request, _ struct{}) error {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, strings.Repeat("x", 5000))
			return errors.New("disk on fire")
		}),
	}))
	resp, err := http.Get(url + "/xrpc/com.example.slow") // net/http asks for gzip, and decompresses
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if !resp.Uncompressed {
		t.Error("not compressed")
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "first" {
		t.Fatal(string(b), err)
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Error(string(rest), err)
	}
	resp, err = http.Get(url + "/xrpc/com.example.broken")
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("the answer does not look broken to the client")
	}
}
