package atproto

import (
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/xrpc"
)

// Validate returns an error that says what is missing.
func (s *Service) Validate() error {
	switch {
	case s.Host == nil:
		return errors.New("atproto: Service.Host is missing")
	case s.Accounts == nil:
		return errors.New("atproto: Service.Accounts is missing")
	case s.Auth.User == nil:
		return errors.New("atproto: Service.Auth.User is missing")
	case s.Outbox != nil && s.Outbox.Events == nil:
		return errors.New("atproto: Service.Outbox has no Events")
	}
	return nil
}

// checked calls an Authenticator and checks the Principal that it sets. One that sets another type,
// or none where credentials are demanded, is a fault of the host. It is an internal error, which
// the server logs: an answer of status 401 would blame the client.
func checked(auth xrpc.Authenticator, demanded bool) xrpc.Authenticator {
	if auth == nil {
		return nil
	}
	return func(r *xrpc.Request) error {
		if err := auth(r); err != nil {
			return err
		}
		switch p := r.Principal.(type) {
		case Principal:
			if demanded && p.DID == "" && !p.Admin {
				return errors.New("atproto: the Authenticator has set a Principal without a DID")
			}
		case nil:
			if demanded {
				return errors.New("atproto: the Authenticator has set no Principal, and has not refused the request")
			}
		default:
			return fmt.Errorf("atproto: the Authenticator has set a Principal of type %T, it must be an atproto.Principal", p)
		}
		return nil
	}
}
