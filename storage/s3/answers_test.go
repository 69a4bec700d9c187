package s3_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/s3"
)

func TestConfig(t *testing.T) {
	good := s3.Config{Bucket: "b", AccessKeyID: "a", SecretAccessKey: "s"}
	if b, err := s3.New(good); err != nil || b.Name() != "b" {
		t.Error(err)
	}
	for what, change := range map[string]func(*s3.Config){
		"no bucket":          func(c *s3.Config) { c.Bucket = "" },
		"a path":             func(c *s3.Config) { c.Bucket = "b/c" },
		"no key":             func(c *s3.Config) { c.AccessKeyID = "" },
		"no secret":          func(c *s3.Config) { c.SecretAccessKey = "" },
		"a host name":        func(c *s3.Config) { c.Endpoint = "s3.example.com" },
		"a file":             func(c *s3.Config) { c.Endpoint = "file:///etc" },
		"a password":         func(c *s3.Config) { c.Endpoint = "https://user:secret@s3.example.com" },
		"a query":            func(c *s3.Config) { c.Endpoint = "https://s3.example.com/?x" },
		"a negative timeout": func(c *s3.Config) { c.StallTimeout = -1 },
		"too small a part":   func(c *s3.Config) { c.PartSize = 5<<20 - 1 },
		"too large a part":   func(c *s3.Config) { c.PartSize = 1<<30 + 1 },
	} {
		c := good
		if change(&c); c == good {
			t.Fatal(what)
		}
		if _, err := s3.New(c); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// fake is a bucket of a server that answers as it is told.
func fake(t *testing.T, answer http.HandlerFunc) (*s3.Bucket, *atomic.Int64) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return open(t, s3.Config{Bucket: "b", Endpoint: srv.URL, ForcePathStyle: true, AccessKeyID: "a", SecretAccessKey: "s", StallTimeout: 5 * time.Second, Attempts: 2}), &n
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func code(status int, code string) http.HandlerFunc {
	return text(status, "<Error><Code>"+code+"</Code><Message>it says so</Message></Error>")
}

// Errors of a store have the meaning that callers branch on.
func TestErrors(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name        string
		answer      http.HandlerFunc
		attempts    int64
		is          error
		unavailable bool
	}{
		{"forbidden", code(403, "AccessDenied"), 1, nil, false},
		{"no bucket", code(404, "NoSuchBucket"), 1, nil, false},
		{"no object", code(404, "NoSuchKey"), 1, bucket.ErrNoObject, false},
		{"overloaded", code(503, "SlowDown"), 2, nil, true},
		{"broken", code(500, "InternalError"), 2, nil, true},
		{"full", code(507, "XMinioStorageFull"), 0, storage.ErrFull, true},
		{"over quota", code(403, "QuotaExceeded"), 1, storage.ErrFull, false},
		{"no XML", text(500, "<html>oops"), 2, nil, true},
		{"nothing", text(502, ""), 2, nil, true},
		{"somewhere else", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/stolen", http.StatusTemporaryRedirect)
		}, 0, nil, false},
	} {
		b, n := fake(t, c.answer)
		for method, call := range map[string]func() error{
			"Put":    func() error { return b.Put(ctx, "name", strings.NewReader("content"), 7) },
			"Get":    func() error { _, err := b.Get(ctx, "name", 0, -1); return err },
			"Delete": func() error { return b.Delete(ctx, "name") },
			"List": func() (err error) {
				for _, err = range b.List(ctx, "", "") {
				}
				return err
			},
		} {
			n.Store(0)
			err := call()
			if method == "Delete" && c.is == bucket.ErrNoObject {
				if err != nil {
					t.Errorf("Delete of a missing object: %v", err)
				}
				continue
			}
			var e *s3.Error
			if !errors.As(err, &e) || e.Unavailable() != c.unavailable || c.is != nil && !errors.Is(err, c.is) || c.is == nil && (errors.Is(err, bucket.ErrNoObject) || errors.Is(err, storage.ErrFull)) {
				t.Errorf("%s, %s: %v", c.name, method, err)
			}
			if c.attempts > 0 && n.Load() != c.attempts {
				t.Errorf("%s, %s: %d attempts, not %d", c.name, method, n.Load(), c.attempts)
			}
			if strings.Contains(err.Error(), "stolen") && e.Status != http.StatusTemporaryRedirect {
				t.Errorf("%s, %s: the redirect was followed: %v", c.name, method, err)
			}
		}
	}
}

// An error that passes does not show.
func TestRetry(t *testing.T) {
	var calls atomic.Int64
	var got atomic.Value
	b, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if calls.Add(1) < 2 {
			code(503, "SlowDown")(w, r)
			return
		}
		got.Store(string(body))
	})
	if err := b.Put(context.Background(), "name", strings.NewReader("content"), -1); err != nil || got.Load() != "content" {
		t.Errorf("%v, stored: %v", err, got.Load())
	}
}

// Stores that take ranges lightly give errors, not other bytes.
func TestOddRanges(t *testing.T) {
	for what, answer := range map[string]http.HandlerFunc{
		"ignores the range": text(200, "0123456789"),
		"another range": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-2/10")
			text(206, "012")(w, r)
		},
		"a shorter range": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 3-4/10")
			text(206, "34")(w, r)
		},
		"outside": code(416, "InvalidRange"),
	} {
		b, _ := fake(t, answer)
		if _, err := b.Get(context.Background(), "name", 3, 3); err == nil || errors.Is(err, bucket.ErrNoObject) {
			t.Errorf("%s: %v", what, err)
		}
	}
	b, n := fake(t, text(200, "x"))
	for _, r := range [][2]int64{{-1, 1}, {0, 0}, {0, -2}} {
		if _, err := b.Get(context.Background(), "name", r[0], r[1]); err == nil || n.Load() > 0 {
			t.Errorf("Get of %v", r)
		}
	}
}

// Listings that would make a collector delete what it should not are errors.
func TestOddListings(t *testing.T) {
	object := func(name string) string {
		return "<Contents><Key>" + name + "</Key><Size>1</Size></Contents>"
	}
	listing := func(body string) http.HandlerFunc {
		return text(200, "<ListBucketResult>"+body+"</ListBucketResult>")
	}
	for what, answer := range map[string]http.HandlerFunc{
		"another order":   listing(object("p/b") + object("p/a")),
		"twice the same":  listing(object("p/b") + object("p/b")),
		"another prefix":  listing(object("q/b")),
		"before after":    listing(object("p/A")),
		"no way to go on": listing("<IsTruncated>true</IsTruncated>" + object("p/b")),
		"empty and more":  listing("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"),
		"always the same": listing("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>" + object("p/b")),
		"no XML":          text(200, "oops"),
	} {
		b, n := fake(t, answer)
		var last error
		for _, err := range b.List(context.Background(), "p/", "p/a") {
			last = err
		}
		if last == nil || n.Load() > 3 {
			t.Errorf("%s: %v after %d requests", what, last, n.Load())
		}
	}
}

// A store without DeleteObjects gets a request for each.
func TestDeleteOneByOne(t *testing.T) {
	var deleted atomic.Int64
	b, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			code(501, "NotImplemented")(w, r)
			return
		}
		deleted.Add(1)
		w.WriteHeader(204)
	})
	var names []string
	for i := range 1205 {
		names = append(names, fmt.Sprint(i))
	}
	if err := b.Delete(context.Background(), names...); err != nil || deleted.Load() != 1205 {
		t.Errorf("%d, %v", deleted.Load(), err)
	}
	// One of several cannot be deleted.
	for what, answer := range map[string]http.HandlerFunc{
		"at once": text(200, "<DeleteResult><Error><Key>1</Key><Code>AccessDenied</Code></Error></DeleteResult>"),
		"one by one": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				code(501, "NotImplemented")(w, r)
			} else if strings.HasSuffix(r.URL.Path, "/1") {
				code(403, "AccessDenied")(w, r)
			}
		},
	} {
		b, _ := fake(t, answer)
		var e *s3.Error
		if err := b.Delete(context.Background(), names[:20]...); !errors.As(err, &e) || e.Code != "AccessDenied" || e.Name != "1" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The end of a multipart upload fails inside an answer that says 200; then the upload is aborted.
func TestErrorInsideSuccess(t *testing.T) {
	var aborted, completed atomic.Int64
	b, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch q := r.URL.Query(); {
		case r.Method == http.MethodPost && q.Has("uploads"):
			text(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")(w, r)
		case r.Method == http.MethodPut:
			w.Header().Set("ETag", `"e"`)
		case r.Method == http.MethodPost:
			completed.Add(1)
			code(200, "InternalError")(w, r)
		case r.Method == http.MethodDelete:
			aborted.Add(1)
			w.WriteHeader(204)
		}
	})
	err := b.Put(context.Background(), "name", strings.NewReader(strings.Repeat("x", 6<<20)), -1)
	var e *s3.Error
	if !errors.As(err, &e) || e.Code != "InternalError" || aborted.Load() != 1 || completed.Load() == 0 {
		t.Errorf("%v, %d times aborted", err, aborted.Load())
	}
}

// A store that cannot list multipart uploads has none to abort.
func TestAbortIsNotThere(t *testing.T) {
	b, _ := fake(t, code(501, "NotImplemented"))
	if n, err := b.Abort(context.Background(), "p", time.Now()); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	b, _ = fake(t, code(403, "AccessDenied"))
	if _, err := b.Abort(context.Background(), "p", time.Now()); err == nil {
		t.Error("no error")
	}
}

// How the addresses of objects are made of the configuration.
func TestAddresses(t *testing.T) {
	for want, c := range map[string]s3.Config{
		"https://pds-blobs.s3.us-east-1.amazonaws.com/a/b":       {},
		"https://pds-blobs.s3.eu-west-1.amazonaws.com/a/b":       {Region: "eu-west-1"},
		"https://s3.eu-west-1.amazonaws.com/pds-blobs/a/b":       {Region: "eu-west-1", ForcePathStyle: true},
		"https://pds-blobs.account.r2.cloudflarestorage.com/a/b": {Region: "auto", Endpoint: "https://account.r2.cloudflarestorage.com/"},
		"https://account.r2.cloudflarestorage.com/pds-blobs/a/b": {Region: "auto", Endpoint: "https://account.r2.cloudflarestorage.com", ForcePathStyle: true},
		"http://127.0.0.1:9000/pds-blobs/a/b":                    {Endpoint: "http://127.0.0.1:9000", ForcePathStyle: true},
	} {
		c.Bucket, c.AccessKeyID, c.SecretAccessKey = "pds-blobs", "id", "topsecret"
		url, err := open(t, c).URL(context.Background(), "a/b", "image/png", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if got, query, _ := strings.Cut(url, "?"); got != want || strings.Contains(query, "topsecret") || !strings.Contains(query, "X-Amz-Expires=60") {
			t.Errorf("%s, not %s", url, want)
		}
	}
}

// A store with a certificate of a private authority.
func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	t.Cleanup(srv.Close)
	c := s3.Config{Bucket: "b", Endpoint: srv.URL, ForcePathStyle: true, AccessKeyID: "a", SecretAccessKey: "s", Attempts: 1}
	ctx := context.Background()
	if err := open(t, c).Put(ctx, "name", strings.NewReader("x"), 1); err == nil {
		t.Error("an unknown authority is trusted")
	}
	c.TLS = &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	if err := open(t, c).Put(ctx, "name", strings.NewReader("x"), 1); err != nil {
		t.Error(err)
	}
}
