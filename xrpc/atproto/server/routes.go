package server

import (
	"context"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Routes are the methods of com.atproto.server but those of package session, the methods of
// com.atproto.identity that change something, com.atproto.admin, com.atproto.temp, and the
// preferences.
func (s *Service) Routes() []xrpc.Route {
	route := func(nsid string, who xrpc.Authenticator, h xrpc.Handler, needs ...auth.Permission) xrpc.Route {
		return xrpc.Route{NSID: nsid, Auth: who, Handler: h, Needs: needs}
	}
	user, evenTakenDown := s.sessions.User(session.RefuseTakenDown), s.sessions.User(session.AcceptTakenDown)
	moderator, admin := s.sessions.Moderator(), s.sessions.Admin
	getPreferences := auth.Call("app.bsky.actor.getPreferences", s.cfg.AppView)
	list := []xrpc.Route{
		route("com.atproto.server.describeServer", nil, query(s.describeServer)),
		route("com.atproto.server.createAccount", s.sessions.OptionalService(), procedure(s.createAccount)),
		route("com.atproto.server.activateAccount", user, procedure(s.activateAccount), auth.ManageLifecycle),
		route("com.atproto.server.deactivateAccount", evenTakenDown, procedure(s.deactivateAccount), auth.ManageLifecycle),
		route("com.atproto.server.checkAccountStatus", user, query(s.checkAccountStatus)),
		route("com.atproto.server.requestAccountDelete", evenTakenDown, procedure(s.requestAccountDelete), auth.ManageLifecycle),
		route("com.atproto.server.deleteAccount", nil, procedure(s.deleteAccount)),
		route("com.atproto.server.requestEmailConfirmation", user, procedure(s.requestEmailConfirmation), auth.ManageEmail),
		route("com.atproto.server.confirmEmail", user, procedure(s.confirmEmail), auth.ManageEmail),
		route("com.atproto.server.requestEmailUpdate", user, procedure(s.requestEmailUpdate), auth.ManageCredentials),
		route("com.atproto.server.updateEmail", user, procedure(s.updateEmail), auth.ManageCredentials),
		route("com.atproto.server.requestPasswordReset", nil, procedure(s.requestPasswordReset)),
		route("com.atproto.server.resetPassword", nil, procedure(s.resetPassword)),
		route("com.atproto.server.reserveSigningKey", nil, procedure(s.reserveSigningKey)),
		route("com.atproto.server.getAccountInviteCodes", user, query(s.getAccountInviteCodes), auth.ReadInvites),
		route("com.atproto.server.createInviteCode", admin, procedure(s.createInviteCode), auth.Administer),
		route("com.atproto.server.createInviteCodes", admin, procedure(s.createInviteCodes), auth.Administer),

		route("com.atproto.identity.updateHandle", user, procedure(s.updateHandle), auth.ManageHandle),
		route("com.atproto.identity.getRecommendedDidCredentials", user, query(s.getRecommendedDidCredentials)),
		route("com.atproto.identity.requestPlcOperationSignature", evenTakenDown, procedure(s.requestPlcOperationSignature), auth.ManageIdentity),
		route("com.atproto.identity.signPlcOperation", evenTakenDown, procedure(s.signPlcOperation), auth.ManageIdentity),
		route("com.atproto.identity.submitPlcOperation", user, procedure(s.submitPlcOperation), auth.SubmitIdentity),

		route("com.atproto.admin.getAccountInfo", moderator, query(s.getAccountInfo), auth.Moderate),
		route("com.atproto.admin.getAccountInfos", moderator, query(s.getAccountInfos), auth.Moderate),
		route("com.atproto.admin.getInviteCodes", moderator, query(s.getInviteCodes), auth.Moderate),
		route("com.atproto.admin.disableInviteCodes", moderator, procedure(s.disableInviteCodes), auth.Moderate),
		route("com.atproto.admin.disableAccountInvites", moderator, s.setInvites(true), auth.Moderate),
		route("com.atproto.admin.enableAccountInvites", moderator, s.setInvites(false), auth.Moderate),
		route("com.atproto.admin.getSubjectStatus", moderator, query(s.getSubjectStatus), auth.Moderate),
		route("com.atproto.admin.updateSubjectStatus", moderator, procedure(s.updateSubjectStatus), auth.Moderate),
		route("com.atproto.admin.sendEmail", moderator, procedure(s.sendEmail), auth.Moderate),
		route("com.atproto.admin.deleteAccount", admin, procedure(s.adminDeleteAccount), auth.Administer),
		route("com.atproto.admin.updateAccountEmail", admin, procedure(s.updateAccountEmail), auth.Administer),
		route("com.atproto.admin.updateAccountHandle", admin, procedure(s.updateAccountHandle), auth.Administer),
		route("com.atproto.admin.updateAccountPassword", admin, procedure(s.updateAccountPassword), auth.Administer),

		route("com.atproto.temp.checkSignupQueue", user, query(s.checkSignupQueue), auth.ReadQueue),
		route("app.bsky.actor.getPreferences", s.sessions.UserOrModerator(session.AcceptTakenDown, getPreferences), query(s.getPreferences), getPreferences),
		route("app.bsky.actor.putPreferences", user, procedure(s.putPreferences),
			auth.Call("app.bsky.actor.putPreferences", s.cfg.AppView)),
	}
	list[len(list)-1].PlainJSON = true
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
