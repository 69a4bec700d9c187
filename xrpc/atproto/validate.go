package atproto

import (
	"errors"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Validate returns an error that names what is missing.
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

// checked calls an Authenticator and checks the Principal that it returns. One that names no
// account, or nobody where credentials are demanded, is a fault of the host. It is an internal
// error, which the server logs: an answer of status 401 would blame the client.
func checked(authenticate xrpc.Authenticator, demanded bool) xrpc.Authenticator {
	if authenticate == nil {
		return nil
	}
	return func(r *xrpc.Request) (auth.Principal, error) {
		p, err := authenticate(r)
		switch {
		case err != nil:
		case p.Role == auth.User && p.DID == "":
			err = errors.New("atproto: the Authenticator has returned a Principal with the role auth.User and without a DID")
		case p.Role != auth.User && demanded:
			err = errors.New("atproto: the Authenticator has returned a Principal that is no account (its role must be auth.User), and has not refused the request")
		}
		return p, err
	}
}
