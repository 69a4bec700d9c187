package server

import (
	"context"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// routes are the server's own methods: all but those of package atproto.
func (s *Server) routes() []xrpc.Route {
	route := func(nsid string, who xrpc.Authenticator, h xrpc.Handler, needs ...auth.Permission) xrpc.Route {
		return xrpc.Route{NSID: nsid, Auth: who, Handler: h, Needs: needs}
	}
	user, moderator := s.user(refuseTakenDown), s.moderator()
	evenTakenDown := s.user(acceptTakenDown)
	appView, _ := s.defaultService("app.bsky.actor.getPreferences")
	getPreferences := auth.Call("app.bsky.actor.getPreferences", appView.Ref())
	list := []xrpc.Route{
		route("com.atproto.server.describeServer", nil, query(s.describeServer)),
		route("com.atproto.server.createAccount", s.optionalService(), procedure(s.createAccount)),
		route("com.atproto.server.createSession", nil, procedure(s.createSession)),
		route("com.atproto.server.getSession", user, query(s.getSession)),
		route("com.atproto.server.refreshSession", s.refresh(false), procedure(s.refreshSession)),
		route("com.atproto.server.deleteSession", s.refresh(true), procedure(s.deleteSession)),
		route("com.atproto.server.createAppPassword", user, procedure(s.createAppPassword), auth.ManageCredentials),
		route("com.atproto.server.listAppPasswords", user, query(s.listAppPasswords), auth.ReadCredentials),
		route("com.atproto.server.revokeAppPassword", user, procedure(s.revokeAppPassword), auth.ManageCredentials),
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
		route("com.atproto.server.getServiceAuth", evenTakenDown, query(s.getServiceAuth), auth.Call(auth.FromInput, auth.FromInput)),
		route("com.atproto.server.reserveSigningKey", nil, procedure(s.reserveSigningKey)),
		route("com.atproto.server.getAccountInviteCodes", user, query(s.getAccountInviteCodes), auth.ReadInvites),
		route("com.atproto.server.createInviteCode", s.admin, procedure(s.createInviteCode), auth.Administer),
		route("com.atproto.server.createInviteCodes", s.admin, procedure(s.createInviteCodes), auth.Administer),

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
		route("com.atproto.admin.deleteAccount", s.admin, procedure(s.adminDeleteAccount), auth.Administer),
		route("com.atproto.admin.updateAccountEmail", s.admin, procedure(s.updateAccountEmail), auth.Administer),
		route("com.atproto.admin.updateAccountHandle", s.admin, procedure(s.updateAccountHandle), auth.Administer),
		route("com.atproto.admin.updateAccountPassword", s.admin, procedure(s.updateAccountPassword), auth.Administer),

		route("com.atproto.temp.checkSignupQueue", user, query(s.checkSignupQueue), auth.ReadQueue),
		route("app.bsky.actor.getPreferences", s.userOrModerator(acceptTakenDown, getPreferences), query(s.getPreferences), getPreferences),
		route("app.bsky.actor.putPreferences", user, procedure(s.putPreferences),
			auth.Call("app.bsky.actor.putPreferences", appView.Ref())),
	}
	list[len(list)-1].PlainJSON = true
	return list
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
