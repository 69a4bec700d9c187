package server

import (
	"context"

	"github.com/pdskit/pdskit/xrpc"
)

// mount registers the server's own methods: all but those of package atproto.
func (s *Server) mount(methods *xrpc.Server) {
	handle := func(nsid string, auth xrpc.Authenticator, h xrpc.Handler) {
		methods.Handle(xrpc.Route{NSID: nsid, Auth: auth, Handler: h})
	}
	// Whose session: any, that of a password, also of an account that was taken down.
	any := s.user(access{})
	full := s.user(access{full: true})
	fullTakendown := s.user(access{full: true, takendown: true})
	moderator := s.moderator()

	handle("com.atproto.server.describeServer", nil, query(s.describeServer))
	handle("com.atproto.server.createAccount", s.optionalService(), procedure(s.createAccount))
	handle("com.atproto.server.createSession", nil, procedure(s.createSession))
	handle("com.atproto.server.getSession", any, query(s.getSession))
	handle("com.atproto.server.refreshSession", s.refresh(false), procedure(s.refreshSession))
	handle("com.atproto.server.deleteSession", s.refresh(true), procedure(s.deleteSession))
	handle("com.atproto.server.createAppPassword", full, procedure(s.createAppPassword))
	handle("com.atproto.server.listAppPasswords", any, query(s.listAppPasswords))
	handle("com.atproto.server.revokeAppPassword", full, procedure(s.revokeAppPassword))
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
	handle("com.atproto.server.getServiceAuth", s.user(access{takendown: true}), query(s.getServiceAuth))
	handle("com.atproto.server.reserveSigningKey", nil, procedure(s.reserveSigningKey))
	handle("com.atproto.server.getAccountInviteCodes", full, query(s.getAccountInviteCodes))
	handle("com.atproto.server.createInviteCode", s.admin, procedure(s.createInviteCode))
	handle("com.atproto.server.createInviteCodes", s.admin, procedure(s.createInviteCodes))

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
	handle("com.atproto.admin.deleteAccount", s.admin, procedure(s.adminDeleteAccount))
	handle("com.atproto.admin.updateAccountEmail", s.admin, procedure(s.updateAccountEmail))
	handle("com.atproto.admin.updateAccountHandle", s.admin, procedure(s.updateAccountHandle))
	handle("com.atproto.admin.updateAccountPassword", s.admin, procedure(s.updateAccountPassword))

	handle("com.atproto.temp.checkSignupQueue", any, query(s.checkSignupQueue))
	handle("app.bsky.actor.getPreferences", s.userOrModerator(access{takendown: true}), query(s.getPreferences))
	methods.Handle(xrpc.Route{NSID: "app.bsky.actor.putPreferences", Auth: any, Handler: procedure(s.putPreferences), PlainJSON: true})
}

// query and procedure are those of package xrpc, for functions whose errors go through answer.
func query[P, O any](fn func(context.Context, *xrpc.Request, P) (O, error)) xrpc.Handler {
	return xrpc.Query(answered(fn))
}

func procedure[I, O any](fn func(context.Context, *xrpc.Request, I) (O, error)) xrpc.Handler {
	return xrpc.Procedure(answered(fn))
}

func answered[I, O any](fn func(context.Context, *xrpc.Request, I) (O, error)) func(context.Context, *xrpc.Request, I) (O, error) {
	return func(ctx context.Context, r *xrpc.Request, in I) (O, error) {
		out, err := fn(ctx, r, in)
		return out, answer(err)
	}
}

type activatedOutput struct {
	Activated bool `json:"activated"`
}

// checkSignupQueue: there is no queue here.
func (s *Server) checkSignupQueue(ctx context.Context, r *xrpc.Request, _ struct{}) (activatedOutput, error) {
	return activatedOutput{true}, nil
}
