//go:build js

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// requests are routes that show what becomes of a request on its way through JavaScript.
func requests(mux *http.ServeMux) {
	var canceled, waiting atomic.Int64
	mux.HandleFunc("/test/head", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s tls=%v length=%d\n", r.Method, r.Host, r.RequestURI, r.RemoteAddr, r.TLS != nil, r.ContentLength)
		fmt.Fprintf(w, "X-Test: %q\n", r.Header.Values("X-Test"))
	})
	mux.HandleFunc("/test/answer", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("X-Test", "line\nbreak")
		status, _ := strconv.Atoi(r.FormValue("status"))
		w.WriteHeader(status)
		fmt.Fprint(w, r.FormValue("body"))
	})
	mux.HandleFunc("/test/echo", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(w, r.Body)
		if err != nil {
			panic(fmt.Sprintf("after %d bytes: %v", n, err))
		}
	})
	mux.HandleFunc("/test/sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
	})
	mux.HandleFunc("/test/late", func(w http.ResponseWriter, r *http.Request) {
		if ms, _ := strconv.Atoi(r.FormValue("ms")); ms > 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Duration(ms) * time.Millisecond))
		}
		n, err := io.Copy(io.Discard, r.Body)
		_, again := r.Body.Read(make([]byte, 1))
		fmt.Fprintf(w, "%d %v %v", n, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(again, os.ErrDeadlineExceeded))
	})
	mux.HandleFunc("/test/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if r.FormValue("length") != "" {
			w.Header().Set("Content-Length", r.FormValue("length"))
		}
		chunk := make([]byte, 100_000)
		for n > 0 {
			m, err := w.Write(chunk[:min(n, int64(len(chunk)))])
			if n -= int64(m); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/test/trickle", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first")
		w.(http.Flusher).Flush()
		for waiting.Add(1); r.Context().Err() == nil; {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		waiting.Add(-1)
		canceled.Add(1)
	})
	mux.HandleFunc("/test/wait", func(w http.ResponseWriter, r *http.Request) {
		waiting.Add(1)
		<-r.Context().Done()
		waiting.Add(-1)
		canceled.Add(1)
	})
	mux.HandleFunc("/test/canceled", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d %d", canceled.Load(), waiting.Load())
	})
	mux.HandleFunc("/test/panic", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("late") != "" {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "begun")
			w.(http.Flusher).Flush()
		}
		panic("a panic of the test")
	})
	mux.HandleFunc("/test/die", func(w http.ResponseWriter, r *http.Request) {
		switch r.FormValue("how") {
		case "exit":
			os.Exit(0)
		case "goexit":
			runtime.Goexit()
		}
		go panic("a panic of the test in a goroutine")
		<-r.Context().Done()
	})
	mux.HandleFunc("/test/memory", func(w http.ResponseWriter, r *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprintf(w, "%d %d %s", m.Sys, m.HeapInuse, program)
	})
}

// program tells this program from others.
var program = rand.Text()
