// Package web shows the activity of the agents: one page, updated by server-sent events, with four
// buttons. There is no login, so it listens only on this machine, and accepts commands only from
// its own page.
package web

import (
	"context"
	"embed"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/examples/agents/internal/agent"
	"github.com/pdskit/pdskit/examples/agents/internal/host"
	"github.com/pdskit/pdskit/examples/agents/internal/index"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

//go:embed static
var static embed.FS

// Config says what is shown. All fields are required.
type Config struct {
	Host    *host.Host
	Index   *index.Index
	Agents  *agent.Group
	Address string // where it listens
	Brain   string // what thinks, for people
}

// Server serves the page. Run has to run meanwhile.
type Server struct {
	cfg     Config
	live    *live
	handler http.Handler
}

// New returns a server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg}
	s.live = newLive(s)
	mux := http.NewServeMux()
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // they are in the binary
	}
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /events", s.live.serve)
	mux.HandleFunc("GET /search", s.search)
	mux.HandleFunc("GET /blob/{did}/{cid}", s.blob)
	mux.HandleFunc("POST /kill-agent", s.killAgent)
	mux.HandleFunc("POST /kill-process", s.killProcess)
	mux.HandleFunc("POST /forget", s.forget)
	s.handler = http.NewCrossOriginProtection().Handler(mux)
	return s
}

// Run keeps pages up to date until the context ends.
func (s *Server) Run(ctx context.Context) { s.live.run(ctx) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "+
		"form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if !s.own(r.Host) { // a name of somebody else's that leads to this machine
		http.Error(w, "not the name of this server", http.StatusMisdirectedRequest)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// own reports whether a Host header is one of this server's.
func (s *Server) own(name string) bool {
	_, port, _ := net.SplitHostPort(s.cfg.Address)
	return name == s.cfg.Address || name == "localhost:"+port || name == "127.0.0.1:"+port || name == "[::1]:"+port
}

func reply(w http.ResponseWriter, v any) {
	b, err := data.MarshalJSON(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b)
}

// found is a hit for the page.
type found struct {
	URI        string   `json:"uri"`
	By         string   `json:"by"`
	Collection string   `json:"collection"`
	Text       string   `json:"text"`
	Marks      [][2]int `json:"marks"` // in UTF-16 units, as JavaScript counts
	Ranks      [2]int   `json:"ranks"`
}

// search answers with what is found by words and by meaning.
func (s *Server) search(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("q")
	if len(text) > 200 {
		http.Error(w, "at most 200 bytes", http.StatusBadRequest)
		return
	}
	hits, err := s.cfg.Index.Search(r.Context(), index.Query{Text: text, K: 8})
	if err != nil {
		http.Error(w, "this cannot be searched for", http.StatusBadRequest)
		return
	}
	names := s.cfg.Agents.Names()
	list := make([]found, 0, len(hits))
	for _, h := range hits {
		f := found{h.URI, names[h.DID], short(h.Collection), h.Text, [][2]int{}, h.Ranks}
		for _, m := range h.Marks {
			f.Marks = append(f.Marks, [2]int{units(h.Text[:m[0]]), units(h.Text[:m[1]])})
		}
		list = append(list, f)
	}
	reply(w, list)
}

func units(s string) (n int) {
	for _, r := range s {
		if n++; r > 0xFFFF {
			n++
		}
	}
	return n
}

// blob serves a file that belongs to a result. Agents made it: it is shown as a picture, and can do
// nothing.
func (s *Server) blob(w http.ResponseWriter, r *http.Request) {
	c, err := cid.Decode(r.PathValue("cid"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	b, info, err := s.cfg.Host.Repos.OpenBlob(r.Context(), syntax.DID(r.PathValue("did")), c)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer b.Close()
	h := w.Header()
	switch info.MIME {
	case "image/svg+xml", "image/png":
		h.Set("Content-Type", info.MIME)
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	h.Set("Content-Length", strconv.FormatInt(info.Size, 10))
	io.Copy(w, b)
}

// killAgent kills the agent of a number, a name or a DID.
func (s *Server) killAgent(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	a := s.cfg.Agents.Agent(r.FormValue("agent"))
	if a == nil {
		http.Error(w, "there is no such agent", http.StatusNotFound)
		return
	}
	a.Kill()
	w.WriteHeader(http.StatusNoContent)
}

// killProcess ends the process as a power failure would: no handler runs, nothing is flushed.
func (s *Server) killProcess(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNoContent)
	http.NewResponseController(w).Flush()
	time.AfterFunc(50*time.Millisecond, func() {
		if p, err := os.FindProcess(os.Getpid()); err == nil {
			p.Signal(syscall.SIGKILL)
		}
	})
}

// forget deletes a dead letter whose task has its result.
func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	if err := s.cfg.Agents.Forget(r.Context(), r.FormValue("job")); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
