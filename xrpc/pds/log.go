package pds

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

// logRequest logs a request: changes and failures at level info, the rest at debug, errors of the
// server at warn. Neither parameters nor headers are logged, since there are secrets in them, nor
// the messages of errors, which repeat what clients have sent. did is who makes the request;
// account, where nobody has signed in yet, the account that it is about: what somebody gave as its
// name is not logged.
func (s *Server) logRequest(r *xrpc.Request, status int, took time.Duration) {
	level := slog.LevelDebug
	switch {
	case status == 0 || status >= http.StatusInternalServerError && status != http.StatusNotImplemented:
		level = slog.LevelWarn
	case status >= http.StatusBadRequest || r.Method == http.MethodPost:
		level = slog.LevelInfo
	}
	ctx := r.Context()
	if !s.log.Enabled(ctx, level) {
		return
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	var room [12]slog.Attr // most lines need no more
	attrs := append(room[:0],
		slog.String("id", r.ID), slog.String("method", clip(string(r.NSID), 320)), slog.Int("status", status),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("from", from),
	)
	if r.Error != "" {
		attrs = append(attrs, slog.String("error", r.Error))
	}
	if did := r.Principal.DID; did != "" {
		attrs = append(attrs, slog.String("did", string(did)))
	} else if r.Account != "" {
		attrs = append(attrs, slog.String("account", string(r.Account)))
	}
	if agent := r.UserAgent(); agent != "" {
		attrs = append(attrs, slog.String("agent", clip(agent, 200)))
	}
	rec := slog.NewRecord(time.Now(), level, "request", 0) // where in the program is no question here
	rec.AddAttrs(append(attrs, r.Notes...)...)
	s.log.Handler().Handle(ctx, rec)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
