package server

import (
	"context"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/selfcheck"
	"github.com/pdskit/pdskit/storage/queue"
)

// askTime bounds how long a number may be waited for.
const askTime = 5 * time.Second

// statusLabel is a status as a label. Services that clients name may answer with any number: those
// that mean nothing are counted by their class.
func statusLabel(status int) string {
	if http.StatusText(status) == "" && status != 499 && status != 0 {
		return strconv.Itoa(status/100) + "xx"
	}
	return strconv.Itoa(status)
}

// mailEvents are the values of the label of pds_mail_total.
var mailEvents = []queue.EventKind{queue.Sent, queue.Done, queue.Retried, queue.Died, queue.Lost}

// registerOperations makes the metrics of what an operator looks after: disks, backups, versions,
// subscribers.
func (s *Server) registerOperations() {
	m := &s.meters.registry
	m.Gauges("pds_build_info", "What this program was built from. The number is always 1.", []string{"version", "goversion", "revision"}, func(add func(float64, ...string)) {
		add(1, Version, runtime.Version(), Revision)
	})
	space := func(pick func(free, total int64) int64) func(add func(float64, ...string)) {
		return func(add func(float64, ...string)) {
			for _, d := range s.disks() {
				if free, total, ok := datadir.Space(d.path); ok {
					add(float64(pick(free, total)), d.name)
				}
			}
		}
	}
	m.Gauges("pds_disk_free_bytes", "Free space of the disk that the data directory, or the blobs, are on.", []string{"disk"}, space(func(free, _ int64) int64 { return free }))
	m.Gauges("pds_disk_size_bytes", "Size of that disk.", []string{"disk"}, space(func(_, total int64) int64 { return total }))
	if s.cfg.DatabaseURL == "" { // else the database's own tools make backups
		s.registerBackups()
	}
	m.Gauge("pds_subscriber_max_lag_seconds", "Time between the newest event and the last one that the slowest subscriber was sent.", s.slowest)
	for _, e := range mailEvents {
		s.meters.mail.Add(0, string(e)) // so that the first one is an increase
	}
}

// disk is where something is kept.
type disk struct{ name, path string }

// disks are the folders of the data and, unless they are in a bucket, of the blobs.
func (s *Server) disks() []disk {
	list := []disk{{"data", s.cfg.DataDirectory}}
	if s.data.Bucket == nil {
		path := s.data.Blobs
		if path == filepath.Join(s.cfg.DataDirectory, datadir.Blobs) {
			path = s.cfg.DataDirectory // it may not be there yet
		}
		list = append(list, disk{"blobs", path})
	}
	return list
}

// registerBackups makes the metrics of the notes that "pds backup" leaves, whoever runs it.
func (s *Server) registerBackups() {
	m, notes := &s.meters.registry, selfcheck.Notes(s.data.Store)
	last := func(number func(at time.Time, problem bool) float64, good bool) func() (float64, bool) {
		return func() (float64, bool) {
			ctx, cancel := context.WithTimeout(context.Background(), askTime)
			defer cancel()
			tried, made, err := notes.Last(ctx)
			if good {
				tried = made
			}
			return number(tried.At, tried.Problem != ""), err == nil
		}
	}
	unix := func(at time.Time, _ bool) float64 {
		if at.IsZero() {
			return 0
		}
		return float64(at.UnixMilli()) / 1000
	}
	m.Gauge("pds_backup_last_success_timestamp_seconds", "When the last good backup was begun. 0: there is none.", last(unix, true))
	m.Gauge("pds_backup_last_attempt_timestamp_seconds", "When the last backup was begun, or has failed. 0: there was none.", last(unix, false))
	m.Gauge("pds_backup_last_attempt_failed", "1 if the last backup has failed, or the server had lost blobs that it should have; else 0.",
		last(func(_ time.Time, problem bool) float64 {
			if problem {
				return 1
			}
			return 0
		}, false))
}

// slowest is how far the slowest subscriber is behind, in seconds.
func (s *Server) slowest() (float64, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	_, newest, err := s.data.Store.Events.Bounds(ctx)
	lag := int64(0)
	for _, sub := range s.pds.Outbox.Subscriptions() {
		if sub.Seq > 0 {
			lag = max(lag, newest-sub.Seq)
		}
	}
	return float64(lag) / 1e6, err == nil // the numbers are microseconds
}
