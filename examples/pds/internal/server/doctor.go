package server

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/selfcheck"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/doctor"
)

// openDoctor gives the doctor its checks, now that the server is put together. They are those of
// "pds doctor".
func (s *Server) openDoctor() {
	in := selfcheck.Input{
		Config: s.cfg, Target: doctor.Target{URL: s.url, Direct: s.cfg.TLS.ACME, Development: s.cfg.DevMode, Now: s.cfg.Now}, PLC: s.plcURL,
		Version: Version, Store: s.data.Store, Accounts: s.pds.Accounts, EchoKey: selfcheck.EchoKey(s.secrets.MasterKeys),
		DeadMail: func(context.Context) (int, error) { return int(s.pds.Service.MailStats().Dead), nil },
	}
	if s.data.Bucket == nil {
		in.Blobs = s.data.Blobs
	}
	s.doctor.Checks = selfcheck.Checks(in)
	s.doctor.Done = func(r doctor.Report) {
		s.meters.checked(s.cfg.Hostname, r)
		for _, f := range r.Findings {
			if f.Level == doctor.Problem {
				s.log.Warn("check: "+f.Check, "subject", f.Subject, "problem", f.Text, "remedy", f.Remedy)
			}
		}
	}
}

// askedAtStart is how many accounts are asked for at the start, and startTime for how long that may
// take.
const (
	askedAtStart = 20
	startTime    = 20 * time.Second
)

// warnOfAddresses warns if the DIDs of accounts name another server: as after a change of the host
// name, or of the port of a development server. Nobody finds these accounts here.
func (s *Server) warnOfAddresses(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	asked, elsewhere, first, at := 0, 0, syntax.DID(""), ""
	for a, err := range s.pds.Accounts.All(ctx) {
		if err != nil || asked == askedAtStart {
			break
		}
		if a.Status() != account.Active || a.DID.Method() != "plc" {
			continue
		}
		asked++
		doc, err := s.directory.Resolve(ctx, a.DID)
		if err != nil || doc.HostedAt(s.url) {
			continue
		}
		if elsewhere++; elsewhere == 1 {
			first = a.DID
			at, _ = doc.PDS()
		}
	}
	if elsewhere > 0 {
		s.log.Warn("DIDs of accounts name another server: set PDS_HOSTNAME (or the port, on localhost) back to it, or deactivate accounts that have moved there",
			"accounts", elsewhere, "of", asked, "first", first, "names", at, "this is", s.url)
	}
}
