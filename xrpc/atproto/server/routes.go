package server

import (
	"context"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Routes are the methods of com.atproto.server but those of package session, the methods of
// com.atproto.identity that change something, com.atproto.admin, com.atproto.temp, and the
// preferences.
func (s *Service) Routes() (list []xrpc.Route) {
	handle := func(nsid string, auth xrpc.Authenticator, h xrpc.Handler) {
		list = append(list, xrpc.Route{NSID: nsid, Auth: auth, Handler: h})
	}
	// Whose session: any, that of a password, also of an account that was taken down.
	any := s.sessions.User(session.Access{})
	full := s.sessions.User(session.Access{Full: true})
	fullTakendown := s.sessions.User(session.Access{Full: true, TakenDown: true})
	moderator, admin := s.sessions.Moderator(), s.sessions.Admin

	handle("com.atproto.server.describeServer", nil, query(s.describeServer))
	handle("com.atproto.server.createAccount", s.sessions.OptionalService(), procedure(s.createAccount))
	handle("com.atproto.server.activateAccount", full, procedure(s.activateAccount))
	handle("com.atproto.server.deactivateAccount", fullTakendown, procedure(s.deactivateAccount))
	handle("com.atproto.server.checkAccountStatus", any, query(s.checkAccountStatus))
	handle("com.atproto.server.requestAccountDelete", fullTakendown, procedure(s.requestAccountDelete))
	handle("com.atproto.server.deleteAccount", nil, procedure(s.deleteAccount))
	handle("com.atproto.server.requestEmailConfirmation", any, procedure(s.requestEmailConfirmation))
	handle("com.atproto.server.confirmEmail", any, procedure(s.confirmEmail))
	handle("com.atproto.server.requestEmailUpdate", full, procedure(s.requestEmailUpdate))
	handle("com.atproto.server.updateEmail", full, procedure(s.updateEmail))
	handle("com.atproto.server.requestPasswordReset", nil, procedure(s.requestPasswordReset))
	handle("com.atproto.server.resetPassword", nil, procedure(s.resetPassword))
	handle("com.atproto.server.reserveSigningKey", nil, procedure(s.reserveSigningKey))
	handle("com.atproto.server.getAccountInviteCodes", full, query(s.getAccountInviteCodes))
	handle("com.atproto.server.createInviteCode", admin, procedure(s.createInviteCode))
	handle("com.atproto.server.createInviteCodes", admin, procedure(s.createInviteCodes))

	handle("com.atproto.identity.updateHandle", any, procedure(s.updateHandle))
	handle("com.atproto.identity.getRecommendedDidCredentials", any, query(s.getRecommendedDidCredentials))
	handle("com.atproto.identity.requestPlcOperationSignature", fullTakendown, procedure(s.requestPlcOperationSignature))
	handle("com.atproto.identity.signPlcOperation", fullTakendown, procedure(s.signPlcOperation))
	handle("com.atproto.identity.submitPlcOperation", any, procedure(s.submitPlcOperation))

	handle("com.atproto.admin.getAccountInfo", moderator, query(s.getAccountInfo))
	handle("com.atproto.admin.getAccountInfos", moderator, query(s.getAccountInfos))
	handle("com.atproto.admin.getInviteCodes", moderator, query(s.getInviteCodes))
	handle("com.atproto.admin.disableInviteCodes", moderator, procedure(s.disableInviteCodes))
	handle("com.atproto.admin.disableAccountInvites", moderator, s.setInvites(true))
	handle("com.atproto.admin.enableAccountInvites", moderator, s.setInvites(false))
	handle("com.atproto.admin.getSubjectStatus", moderator, query(s.getSubjectStatus))
	handle("com.atproto.admin.updateSubjectStatus", moderator, procedure(s.updateSubjectStatus))
	handle("com.atproto.admin.sendEmail", moderator, procedure(s.sendEmail))
	handle("com.atproto.admin.deleteAccount", admin, procedure(s.adminDeleteAccount))
	handle("com.atproto.admin.updateAccountEmail", admin, procedure(s.updateAccountEmail))
	handle("com.atproto.admin.updateAccountHandle", admin, procedure(s.updateAccountHandle))
	handle("com.atproto.admin.updateAccountPassword", admin, procedure(s.updateAccountPassword))

	handle("com.atproto.temp.checkSignupQueue", any, query(s.checkSignupQueue))
	handle("app.bsky.actor.getPreferences", s.sessions.UserOrModerator(session.Access{TakenDown: true}), query(s.getPreferences))
	list = append(list, xrpc.Route{NSID: "app.bsky.actor.putPreferences", Auth: any, Handler: procedure(s.putPreferences), PlainJSON: true})
	return list
}

// query and procedure are those of package session.
func query[P, O any](fn func(context.Context, *xrpc.Request, P) (O, error)) xrpc.Handler {
	return session.Query(fn)
}

func procedure[I, O any](fn func(context.Context, *xrpc.Request, I) (O, error)) xrpc.Handler {
	return session.Procedure(fn)
}

type activatedOutput struct {
	Activated bool `json:"activated"`
}

// checkSignupQueue: there is no queue here.
func (s *Service) checkSignupQueue(ctx context.Context, r *xrpc.Request, _ struct{}) (activatedOutput, error) {
	return activatedOutput{true}, nil
}
