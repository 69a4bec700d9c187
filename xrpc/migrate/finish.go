package migrate

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
)

// activate activates the account at the new server. If it is active, it is not activated
// again, which would be announced again.
func (m *mover) activate(ctx context.Context) error {
	for try := 0; ; try++ {
		st, err := m.status(ctx)
		if err != nil || st.Activated {
			return err
		}
		err = m.new.procedure(ctx, "com.atproto.server.activateAccount", nil, nil)
		// The new server may still see the old document.
		if err == nil || !isStatus(err, http.StatusBadRequest) || try == 5 {
			return err
		}
		if err := sleep.For(ctx, time.Second<<try); err != nil {
			return err
		}
	}
}

// deactivate deactivates the account at the old server.
func (m *mover) deactivate(ctx context.Context) error {
	if m.old.Access == "" { // see connect
		t, err := m.loginOld(ctx)
		if err != nil {
			return err
		}
		m.old.set(t)
	}
	var session struct {
		Active *bool  `json:"active"`
		Status string `json:"status"`
	}
	if err := m.old.query(ctx, "com.atproto.server.getSession", nil, &session); err != nil {
		return err
	}
	if session.Active == nil || *session.Active {
		if err := m.old.procedure(ctx, "com.atproto.server.deactivateAccount", map[string]any{}, nil); err != nil {
			return err
		}
	}
	rev, err := m.oldRev(ctx)
	if err == nil && rev > m.st.Repo.Rev {
		m.report(Event{Step: Deactivate, Status: "warning", Message: fmt.Sprintf(
			"Something was written at the old server in the last moment, and is not at the new one. To see it: log in at %s and export the repository (what is later than revision %s).", m.OldHost, m.st.Repo.Rev)})
	}
	return nil
}
