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
	live := s.user(access{notRemoved: true})
	full := s.user(access{full: true, notRemoved: true})
	fullAny := s.user(access{full: true})
	fullTakendown := s.user(access{full: true, takendown: true})
	moderator := s.moderator()

	handle("com.atproto.server.describeServer", nil, xrpc.Query(s.describeServer))
	handle("com.atproto.server.createAccount", s.optionalService(), xrpc.Procedure(s.createAccount))
	handle("com.atproto.server.createSession", nil, xrpc.Procedure(s.createSession))
	handle("com.atproto.server.getSession", live, xrpc.Query(s.getSession))
	handle("com.atproto.server.refreshSession", s.refresh(false), xrpc.Procedure(s.refreshSession))
	handle("com.atproto.server.deleteSession", s.refresh(true), xrpc.Procedure(s.deleteSession))
	handle("com.atproto.server.createAppPassword", full, xrpc.Procedure(s.createAppPassword))
	handle("com.atproto.server.listAppPasswords", live, xrpc.Query(s.listAppPasswords))
	handle("com.atproto.server.revokeAppPassword", fullAny, xrpc.Procedure(s.revokeAppPassword))
	handle("com.atproto.server.activateAccount", full, xrpc.Procedure(s.activateAccount))
	handle("com.atproto.server.deactivateAccount", fullTakendown, xrpc.Procedure(s.deactivateAccount))
	handle("com.atproto.server.checkAccountStatus", any, xrpc.Query(s.checkAccountStatus))
	handle("com.atproto.server.requestAccountDelete", fullTakendown, xrpc.Procedure(s.requestAccountDelete))
	handle("com.atproto.server.deleteAccount", nil, xrpc.Procedure(s.deleteAccount))
	handle("com.atproto.server.requestEmailConfirmation", live, xrpc.Procedure(s.requestEmailConfirmation))
	handle("com.atproto.server.confirmEmail", live, xrpc.Procedure(s.confirmEmail))
	handle("com.atproto.server.requestEmailUpdate", full, xrpc.Procedure(s.requestEmailUpdate))
	handle("com.atproto.server.updateEmail", full, xrpc.Procedure(s.updateEmail))
	handle("com.atproto.server.requestPasswordReset", nil, xrpc.Procedure(s.requestPasswordReset))
	handle("com.atproto.server.resetPassword", nil, xrpc.Procedure(s.resetPassword))
	handle("com.atproto.server.getServiceAuth", s.user(access{takendown: true}), xrpc.Query(s.getServiceAuth))
	handle("com.atproto.server.reserveSigningKey", nil, xrpc.Procedure(s.reserveSigningKey))
	handle("com.atproto.server.getAccountInviteCodes", full, xrpc.Query(s.getAccountInviteCodes))
	handle("com.atproto.server.createInviteCode", s.admin, xrpc.Procedure(s.createInviteCode))
	handle("com.atproto.server.createInviteCodes", s.admin, xrpc.Procedure(s.createInviteCodes))

	handle("com.atproto.identity.updateHandle", live, xrpc.Procedure(s.updateHandle))
	handle("com.atproto.identity.getRecommendedDidCredentials", any, xrpc.Query(s.getRecommendedDidCredentials))
	handle("com.atproto.identity.requestPlcOperationSignature", fullTakendown, xrpc.Procedure(s.requestPlcOperationSignature))
	handle("com.atproto.identity.signPlcOperation", fullTakendown, xrpc.Procedure(s.signPlcOperation))
	handle("com.atproto.identity.submitPlcOperation", any, xrpc.Procedure(s.submitPlcOperation))

	handle("com.atproto.admin.getAccountInfo", moderator, xrpc.Query(s.getAccountInfo))
	handle("com.atproto.admin.getAccountInfos", moderator, xrpc.Query(s.getAccountInfos))
	handle("com.atproto.admin.getInviteCodes", moderator, xrpc.Query(s.getInviteCodes))
	handle("com.atproto.admin.disableInviteCodes", moderator, xrpc.Procedure(s.disableInviteCodes))
	handle("com.atproto.admin.disableAccountInvites", moderator, s.setInvites(true))
	handle("com.atproto.admin.enableAccountInvites", moderator, s.setInvites(false))
	handle("com.atproto.admin.getSubjectStatus", moderator, xrpc.Query(s.getSubjectStatus))
	handle("com.atproto.admin.updateSubjectStatus", moderator, xrpc.Procedure(s.updateSubjectStatus))
	handle("com.atproto.admin.sendEmail", moderator, xrpc.Procedure(s.sendEmail))
	handle("com.atproto.admin.deleteAccount", s.admin, xrpc.Procedure(s.adminDeleteAccount))
	handle("com.atproto.admin.updateAccountEmail", s.admin, xrpc.Procedure(s.updateAccountEmail))
	handle("com.atproto.admin.updateAccountHandle", s.admin, xrpc.Procedure(s.updateAccountHandle))
	handle("com.atproto.admin.updateAccountPassword", s.admin, xrpc.Procedure(s.updateAccountPassword))

	handle("com.atproto.temp.checkSignupQueue", any, xrpc.Query(s.checkSignupQueue))
	handle("app.bsky.actor.getPreferences", s.userOrModerator(access{takendown: true}), xrpc.Query(s.getPreferences))
	methods.Handle(xrpc.Route{NSID: "app.bsky.actor.putPreferences", Auth: live, Handler: xrpc.Procedure(s.putPreferences), PlainJSON: true})
}

type activatedOutput struct {
	Activated bool `json:"activated"`
}

// checkSignupQueue: there is no queue here.
func (s *Server) checkSignupQueue(ctx context.Context, r *xrpc.Request, _ struct{}) (activatedOutput, error) {
	return activatedOutput{true}, nil
}
